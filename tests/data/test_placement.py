"""Where pixels are put: the fastest place with room, said with its reason."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medprior.config import validate
from medprior.data.store.placement import Placement, choose_placement, fitting, free_memory, size_in_words
from medprior.errors import SettingsError

CPU = torch.device("cpu")
GB = 10**9
TOO_MUCH = 2**60


def test_the_machine_says_what_is_free() -> None:
    assert 2**20 < free_memory(CPU) < 2**50


@pytest.mark.parametrize(
    ("nbytes", "kind", "words"), [(1, "host", "of pixels fit into half"), (TOO_MUCH, "disk", "do not fit into half")]
)
def test_on_a_cpu_it_is_memory_where_there_is_room_else_the_disk(nbytes: int, kind: str, words: str) -> None:
    found = choose_placement(nbytes, CPU)
    assert found.kind == kind
    assert words in found.reason


@pytest.mark.parametrize(
    ("pixels", "here", "there", "expected"),
    [
        (9, 18, None, Placement("host", "9.0 GB of pixels fit into half of the 18.0 GB free")),
        (10, 18, None, Placement("disk", "10.0 GB of pixels do not fit into half of the 18.0 GB free")),
        (60, 5, 120, Placement("device", "60.0 GB of pixels fit into half of the 120.0 GB free on the GPU")),
        (
            61,
            122,
            120,
            Placement(
                "host",
                "61.0 GB of pixels do not fit into half of the 120.0 GB free on the GPU, "
                "but into half of the 122.0 GB free of this machine",
            ),
        ),
        (
            61,
            121,
            120,
            Placement(
                "disk",
                "61.0 GB of pixels do not fit into half of the 120.0 GB free on the GPU, "
                "nor into half of the 121.0 GB free of this machine",
            ),
        ),
    ],
)
def test_half_of_the_free_memory_decides(pixels: int, here: int, there: int | None, expected: Placement) -> None:
    assert fitting(pixels * GB, pixels * GB, here * GB, there and there * GB) == expected


def test_compressed_volumes_count_unpacked_on_a_gpu_and_packed_here() -> None:
    assert fitting(10 * GB, 30 * GB, 20 * GB, 50 * GB).kind == "host"
    assert fitting(10 * GB, 30 * GB, 20 * GB, 60 * GB).kind == "device"


@given(st.integers(0, 2**50), st.integers(0, 2**50), st.integers(0, 2**50), st.booleans())
def test_more_free_memory_never_slows(nbytes: int, here: int, there: int, on_gpu: bool) -> None:
    order = ["disk", "host", "device"]
    gpu = there if on_gpu else None
    before = order.index(fitting(nbytes, nbytes, here, gpu).kind)
    assert order.index(fitting(nbytes, nbytes, 2 * here + 1, gpu and 2 * gpu).kind) >= before
    assert on_gpu or before < 2, "a CPU has no memory of its own"


def test_what_is_asked_for_is_done() -> None:
    assert choose_placement(1, CPU, "disk").kind == "disk"
    assert choose_placement(TOO_MUCH, CPU, "host").kind == "host"
    assert choose_placement(1, CPU, "device").kind == "host", "its memory is this machine's"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_without_room_is_refused_when_asked_for_and_left_out_when_not() -> None:
    gpu = torch.device("cuda")
    assert choose_placement(1, gpu).kind == choose_placement(1, gpu, "device").kind == "device"
    assert choose_placement(1, gpu, unpacked=TOO_MUCH).kind == "host"
    with pytest.raises(SettingsError, match=r"do not fit into the .* free on the GPU"):
        choose_placement(TOO_MUCH, gpu, "device")


@pytest.mark.parametrize(
    ("nbytes", "words"), [(0, "0.0 MB"), (34_400_000, "34.4 MB"), (1_250_000_000_000, "1,250.0 GB")]
)
def test_sizes_are_said_in_words(nbytes: int, words: str) -> None:
    assert size_in_words(nbytes) == words


def test_the_setting_is_checked() -> None:
    assert validate({"data": {"placement": "disk"}}).data.placement == "disk"
    with pytest.raises(SettingsError, match="'auto', 'device', 'host' or 'disk'"):
        validate({"data": {"placement": "gpu"}})
