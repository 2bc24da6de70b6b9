"""What differs from axis to axis where slices are thick: nnU-Net's rule, and patches and images of equal mm."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medprior.backbones.axes import check_spacing, extents, factors, halvings, kernels, voxels
from medprior.errors import SettingsError


@pytest.mark.parametrize(
    ("spacing", "strides"),
    [
        ((5, 1, 1), [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8), (4, 16, 16)]),
        ((1, 1, 1), [(1, 1, 1), (2, 2, 2), (4, 4, 4)]),
        ((1.9, 1, 1), [(1, 1, 1), (2, 2, 2), (4, 4, 4)]),
        ((2, 1, 1), [(1, 1, 1), (1, 2, 2), (2, 4, 4)]),
        ((0.8, 0.8, 4), [(1, 1, 1), (2, 2, 1), (4, 4, 1), (8, 8, 2)]),
        ((6, 2.5, 1), [(1, 1, 1), (1, 1, 2), (1, 2, 4), (2, 4, 8)]),
        ((3, 1), [(1, 1), (1, 2), (2, 4)]),
    ],
)
def test_long_voxels_are_halved_when_the_others_have_caught_up(
    spacing: tuple[float, ...], strides: list[tuple[int, ...]]
) -> None:
    assert list(halvings(spacing, len(strides))) == strides


@given(st.lists(st.floats(0.05, 20), min_size=2, max_size=3))
@settings(max_examples=100)
def test_positions_draw_near_and_stay_near(spacing: list[float]) -> None:
    strides = halvings(spacing, 12)
    apart = [[step * by for step, by in zip(spacing, stride, strict=True)] for stride in strides]
    worst = [max(each) / min(each) for each in apart]
    assert all(later <= max(earlier, 2) for earlier, later in pairwise(worst)) and worst[-1] < 2
    assert all(max(factor) == 2 and min(factor) >= 1 for factor in factors(strides)[1:])


@pytest.mark.parametrize(
    ("spacing", "wide"),
    [
        ((5, 1, 1), [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]),
        ((1, 1, 1), [(3, 3, 3)] * 4),
        ((50, 1, 1), [(1, 3, 3), (1, 3, 3), (1, 3, 3), (3, 3, 3)]),
        ((3, 1), [(1, 3), (3, 3), (3, 3), (3, 3)]),
    ],
)
def test_kernels_do_not_mix_what_lies_far_apart(spacing: tuple[float, ...], wide: list[tuple[int, ...]]) -> None:
    """But at the coarsest map, which sees all."""
    assert list(kernels(spacing, halvings(spacing, 4))) == wide


def test_an_axis_that_was_wide_stays_wide() -> None:
    """Patches may leave the finest axis behind: it is no reason to stop looking along it."""
    assert kernels((1.5, 0.75, 0.75), [(1, 1, 1), (1, 7, 7), (11, 21, 21)])[1] == (3, 3, 3)


def test_patches_and_images_are_as_long_along_every_axis_as_voxels_allow() -> None:
    assert voxels(16, (5, 1, 1)) == (3, 16, 16)
    assert voxels(16, (40, 1, 2)) == (1, 16, 8)
    assert voxels(16, (1.5, 0.75, 0.75)) == (11, 21, 21)
    assert extents(64, (5, 1, 1), (3, 16, 16)) == (12, 64, 64)
    assert extents(64, (5, 1, 1), (4, 16, 16)) == (12, 64, 64)
    assert extents(60, (1, 1, 1), (16, 16, 16)) == (60, 60, 60), "whether that fits is not its question"
    assert extents(64, (100, 1, 1), (2, 8, 8)) == (2, 64, 64)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, float("nan"), 1.0), (-1.0, 1.0, 1.0)])
def test_a_spacing_that_is_none_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match=r"does not fit 3 axes \[spacing\]\nGive one positive number"):
        check_spacing(spacing, 3)
