"""What a training changes in torch is given back, and what a worker sets stays."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from medprior.errors import SettingsError
from medprior.training.device import channels_last, computing, pick_device, pixels_last, precision, threads

TINY = 1e-40


def flushes() -> bool:
    return bool((torch.full((64,), TINY) * 1.0 == 0).all())


def test_computing_gives_everything_back() -> None:
    before = torch.get_num_threads()
    assert not flushes()
    with computing(3):
        assert torch.get_num_threads() == 3
        assert flushes()
        with threads(1):
            assert torch.get_num_threads() == 1
            assert flushes()
    assert torch.get_num_threads() == before
    assert not flushes()


def test_settling_lasts() -> None:
    code = "import gc, torch; from medprior.training.device import settle; settle(3); gc.collect()\n"
    code += "assert torch.get_num_threads() == 3; assert (torch.full((64,), 1e-40) * 1.0 == 0).all()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_devices_are_named() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(SettingsError, match="unknown device"):
        pick_device("gpu0")
    with pytest.raises(SettingsError, match="cuda:99"):
        pick_device("cuda:99")


def test_the_number_format_is_the_one_asked_for() -> None:
    cpu, weight = torch.device("cpu"), torch.ones(2, 2)
    for wanted, found in (("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with precision(cpu, wanted):  # type: ignore[arg-type]
            assert (weight @ weight).dtype == found


@pytest.mark.parametrize(("layer", "form"), [("Conv2d", torch.channels_last), ("Conv3d", torch.channels_last_3d)])
def test_channels_come_last_in_both_dimensionalities(layer: str, form: torch.memory_format) -> None:
    spatial_dims = int(layer[-2])
    convolution = getattr(torch.nn, layer)(4, 6, 3)
    pixels = torch.rand(2, 4, *[8] * spatial_dims)
    before = convolution(pixels)
    channels_last(convolution, spatial_dims)
    after = convolution(pixels_last(pixels))
    assert convolution.weight.is_contiguous(memory_format=form)
    assert after.is_contiguous(memory_format=form)
    torch.testing.assert_close(after, before)
