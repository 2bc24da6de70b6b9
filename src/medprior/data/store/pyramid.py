"""Half-size levels of a stored image, packed beside it into one array, so that one resample per view suffices.

Level 0 has side S and stands at the origin. The others, each of half the side of the one before, stand beside it
along the last axis and below each other along the first: after Williams' "Pyramidal parametrics" (SIGGRAPH 1983).
"""

from __future__ import annotations

from functools import reduce
from types import EllipsisType

import numpy as np
from numpy.typing import NDArray

SMALLEST = 16
"""Pixels of a side of the smallest level, at least."""


def level_count(size: int) -> int:
    """How many levels an image of side `size` has: halved while that is whole and not below `SMALLEST`."""
    return 1 if size % 2 or size // 2 < SMALLEST else 1 + level_count(size // 2)


def atlas_shape(size: int, dims: int, levels: int) -> tuple[int, ...]:
    """Spatial shape of the packed array: (S, ..., S, S + S/2), or (S, ..., S) where there is level 0 alone."""
    return (*[size] * (dims - 1), size + (size // 2 if levels > 1 else 0))


def atlas_layout(size: int, dims: int, levels: int) -> list[tuple[tuple[int, ...], int]]:
    """Origin (one pixel index per spatial axis) and side of every level."""
    sides = [size >> level for level in range(levels)]
    beside = [((size - 2 * side, *[0] * (dims - 2), size), side) for side in sides[1:]]
    return [((0,) * dims, size), *beside]


def level_index(size: int, dims: int, level: int) -> tuple[slice | EllipsisType, ...]:
    """Index of one level in an array (..., *A)."""
    origin, side = atlas_layout(size, dims, level + 1)[level]
    return (..., *(slice(start, start + side) for start in origin))


def pack(image: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """The atlas (C, *A) of an image (C, S, ..., S).

    Every level is the exact area average of level 0, rounded once, so that errors do not add up from level to level.
    """
    dims, size = image.ndim - 1, image.shape[-1]
    atlas = np.zeros((len(image), *atlas_shape(size, dims, levels)), np.uint8)
    atlas[level_index(size, dims, 0)] = image
    total = image.astype(np.uint32)
    for level in range(1, levels):
        total = reduce(_add_pairs, range(1, dims + 1), total)
        covered = 1 << (level * dims)
        atlas[level_index(size, dims, level)] = (total + covered // 2) // covered
    return atlas


def _add_pairs(values: NDArray[np.uint32], axis: int) -> NDArray[np.uint32]:
    """Neighbours along `axis` added two by two."""
    before = (slice(None),) * axis
    summed: NDArray[np.uint32] = values[(*before, slice(0, None, 2))] + values[(*before, slice(1, None, 2))]
    return summed
