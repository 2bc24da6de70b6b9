"""Levels are exact area averages, lie where the layout says, and do not overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medprior.data.store.pyramid import SMALLEST, atlas_layout, atlas_shape, level_count, level_index, pack


@given(st.integers(1, 1024))
def test_smallest_level_is_large_enough_and_whole(size: int) -> None:
    levels = level_count(size)
    smallest = size >> (levels - 1)
    assert smallest << (levels - 1) == size
    assert levels == 1 or smallest >= SMALLEST
    assert smallest % 2 or smallest // 2 < SMALLEST


@pytest.mark.parametrize(("size", "levels"), [(15, 1), (16, 1), (32, 2), (64, 3), (96, 3), (128, 4), (448, 5), (33, 1)])
def test_level_count(size: int, levels: int) -> None:
    assert level_count(size) == levels


def test_layout_is_the_one_views_read() -> None:
    assert atlas_shape(64, 2, 3) == (64, 96)
    assert atlas_layout(64, 2, 3) == [((0, 0), 64), ((0, 64), 32), ((32, 64), 16)]
    assert atlas_layout(64, 3, 3) == [((0, 0, 0), 64), ((0, 0, 64), 32), ((32, 0, 64), 16)]
    for level, (origin, side) in enumerate(atlas_layout(256, 2, 5)[1:], start=1):
        assert origin[0] == 256 * (1 - 2.0 ** (1 - level))
        assert side == 256 / 2**level


@pytest.mark.parametrize("dims", [2, 3])
def test_levels_neither_overlap_nor_leave_the_atlas(dims: int) -> None:
    size, levels = 64, level_count(64)
    hits = np.zeros(atlas_shape(size, dims, levels), int)
    for level in range(levels):
        assert hits[level_index(size, dims, level)].shape == (size >> level,) * dims
        hits[level_index(size, dims, level)] += 1
    assert hits.max() == 1
    assert hits.sum() == sum((size >> level) ** dims for level in range(levels))


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_levels_are_area_averages_of_level_0(dims: int, channels: int, seed: int) -> None:
    size = 64 if dims == 2 else 32
    image = np.random.default_rng(seed).integers(0, 256, (channels, *[size] * dims), dtype=np.uint8)
    levels = level_count(size)
    atlas = pack(image, levels)
    assert atlas.shape == (channels, *atlas_shape(size, dims, levels))
    for level in range(levels):
        blocks: tuple[int, ...] = sum(((size >> level, 1 << level) for _ in range(dims)), start=())
        exact = image.reshape(channels, *blocks).astype(np.float64).mean(axis=tuple(range(2, 2 * dims + 1, 2)))
        found = atlas[level_index(size, dims, level)]
        np.testing.assert_array_equal(found, np.floor(exact + 0.5))


def test_white_stays_white() -> None:
    white = np.full((1, 128, 128), 255, np.uint8)
    atlas = pack(white, 4)
    assert all((atlas[level_index(128, 2, level)] == 255).all() for level in range(4))
