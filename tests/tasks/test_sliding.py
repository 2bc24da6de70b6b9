"""The sliding window: constant stays constant, every voxel is seen, small volumes come back whole."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference

from medprior.errors import SettingsError
from medprior.tasks.sliding import slide, starts


def shapes(axes: int) -> st.SearchStrategy[tuple[tuple[int, ...], tuple[int, ...]]]:
    sides = st.tuples(*[st.integers(1, 20)] * axes)
    return st.tuples(sides, st.tuples(*[st.integers(1, 12)] * axes))


@given(
    st.integers(2, 3).flatmap(shapes),
    st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    st.integers(1, 5),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(max_examples=40)
def test_a_constant_volume_gives_a_constant(both, overlap: float, at_once: int, dtype: torch.dtype) -> None:
    shape, patch = both

    def predict(windows: torch.Tensor) -> torch.Tensor:
        return torch.full((len(windows), 3, *patch), 0.7).to(dtype)

    found = slide(torch.full((1, *shape), 0.3), patch, predict, overlap=overlap, at_once=at_once)
    assert found.shape == (3, *shape)
    assert found.dtype == torch.float32
    assert float((found - torch.tensor(0.7).to(dtype).float()).abs().max()) < 1e-5


@given(st.integers(2, 3).flatmap(shapes), st.integers(0, 10**6))
@settings(max_examples=40)
def test_what_is_said_of_every_voxel_by_itself_comes_back(both, seed: int) -> None:
    """Padded or not, in windows or mirrored: a network without neighbours gives what it gives of the whole."""
    shape, patch = both
    volume = torch.randn(2, 2, *shape, generator=torch.Generator().manual_seed(seed))
    kept = volume.clone()
    found = slide(volume, patch, lambda windows: windows, flips=range(len(shape)))
    torch.testing.assert_close(found, volume, rtol=1e-5, atol=1e-6)
    assert torch.equal(volume, kept)
    torch.testing.assert_close(slide(volume[1], patch, lambda windows: windows), volume[1], rtol=1e-5, atol=1e-6)


@given(st.integers(1, 60), st.integers(1, 30), st.sampled_from([0.0, 0.3, 0.5, 0.75, 0.99]))
def test_windows_reach_from_edge_to_edge_and_overlap_enough(more: int, side: int, overlap: float) -> None:
    length = side + more - 1
    found = starts(length, side, overlap)
    assert (found[0], found[-1]) == (0, length - side)
    steps = [after - before for before, after in itertools.pairwise(found)]
    assert all(1 <= step <= max(1, side * (1 - overlap)) + 1 for step in steps)
    assert len(set(found)) == len(found)


def test_it_is_monais_where_the_windows_are_the_same() -> None:
    volume = torch.randn(1, 1, 24, 16, 32, generator=torch.Generator().manual_seed(1))
    network = torch.nn.Conv3d(1, 2, 3, padding=1).eval()
    away = (torch.cartesian_prod(*[torch.arange(8.0)] * 3) - 3.5).square().sum(1)
    weights = (-away / 2).exp().view(8, 8, 8)  # those of MONAI are raised to 1/1000, so corners count too much
    with torch.no_grad():
        theirs = sliding_window_inference(
            volume, (8, 8, 8), 4, network, overlap=0.5, mode="gaussian", roi_weight_map=weights[None, None]
        )
    torch.testing.assert_close(slide(volume, (8, 8, 8), network), theirs, rtol=1e-4, atol=1e-5)


def test_the_middle_of_a_window_counts_more_than_its_edge() -> None:
    def predict(windows: torch.Tensor) -> torch.Tensor:
        """How far the voxel lies from the middle of its window."""
        off = (torch.arange(8) - 3.5).abs()
        return off.view(1, 1, 8, 1).expand(len(windows), 1, 8, 8)

    found = slide(torch.zeros(1, 32, 8), (8, 8), predict)[0, 8:24, 0]
    assert float(found.max()) < 2.1  # an even mean of 3.5 and 0.5, or of 2.5 and 1.5, is 2
    assert float(found.min()) < 0.6


def test_mirrored_windows_are_mirrored_back_and_averaged() -> None:
    network = torch.nn.Conv2d(1, 2, 3, padding=1).eval()
    image = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        ways = [network(image), network(image.flip(2)).flip(2), network(image.flip(3)).flip(3)]
        ways.append(network(image.flip(2, 3)).flip(2, 3))
    torch.testing.assert_close(slide(image, (8, 8), network, flips=(0, 1)), torch.stack(ways).mean(0))
    torch.testing.assert_close(slide(image, (8, 8), network, flips=(1,)), (ways[0] + ways[2]) / 2)


def test_a_mirrored_volume_gives_mirrored_logits() -> None:
    network = torch.nn.Conv2d(1, 2, 3, padding=1).eval()
    image = torch.randn(1, 1, 19, 16)
    found, back = (slide(each, (8, 8), network, flips=(0, 1)) for each in (image, image.flip(2, 3)))
    torch.testing.assert_close(back.flip(2, 3), found, rtol=1e-4, atol=1e-5)


def test_a_small_volume_stands_in_the_middle_of_black() -> None:
    seen = []

    def predict(windows: torch.Tensor) -> torch.Tensor:
        seen.append(windows)
        return windows

    slide(torch.ones(1, 3, 10), (8, 8), predict)
    assert all(window[0, 2:5].eq(1).all() and window.sum() == 24 for window in torch.cat(seen))


def test_bad_settings_are_refused() -> None:
    volume = torch.zeros(1, 8, 8, 8)
    for patch, asked in (
        ((8,), {}), ((8, 8, 0), {}), ((4, 4, 4), {"overlap": 1.0}), ((4, 4, 4), {"overlap": -0.1}),
        ((4, 4, 4), {"flips": (3,)}), ((4, 4, 4), {"flips": (1, 1)}), ((4, 4, 4), {"at_once": 0}),
    ):  # fmt: skip
        with pytest.raises(SettingsError):
            slide(volume, patch, lambda windows: windows, **asked)
