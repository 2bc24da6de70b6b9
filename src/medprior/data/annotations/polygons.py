"""Polygons to pixels: a pixel belongs to a polygon when its centre lies inside, by the even-odd rule.

Pillow's polygons also mark every pixel that their edge touches, which makes a nucleus of 20 pixels 6% too large.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def fill(vertices: NDArray[np.float64], shape: tuple[int, int]) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """The box (rows, columns) of an image (H, W) that a polygon reaches into, and which of its pixels lie inside.

    Args:
        vertices: (V, 2) x and y in pixels, with pixel edges at whole numbers; the last is joined to the first.
    """
    height, width = shape
    low, high = vertices.min(0), vertices.max(0)
    left, top = (int(np.clip(np.floor(value), 0, most)) for value, most in zip(low, (width, height), strict=True))
    right, bottom = (int(np.clip(np.ceil(value), 0, most)) for value, most in zip(high, (width, height), strict=True))
    box = (slice(top, max(top, bottom)), slice(left, max(left, right)))
    toggled = np.zeros((box[0].stop - top, box[1].stop - left + 1), np.int32)
    if toggled.size:
        rows, across = _crossings(vertices, top, box[0].stop)
        first = np.clip(np.ceil(across - 0.5).astype(np.int64) - left, 0, toggled.shape[1] - 1)
        np.add.at(toggled, (rows - top, first), 1)
    return box, (np.cumsum(toggled, axis=1)[:, :-1] % 2).astype(bool)


def _crossings(vertices: NDArray[np.float64], top: int, bottom: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Where the edges cross the middle of each row: the row, and how far across."""
    ends = np.roll(vertices, -1, axis=0)
    upper, lower = np.minimum(vertices[:, 1], ends[:, 1]), np.maximum(vertices[:, 1], ends[:, 1])
    first = np.clip(np.ceil(upper - 0.5), top, bottom).astype(np.int64)
    count = np.maximum(np.clip(np.ceil(lower - 0.5), top, bottom).astype(np.int64) - first, 0)
    edge = np.repeat(np.arange(len(vertices)), count)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    (x0, y0), (x1, y1) = vertices[edge].T, ends[edge].T
    return rows, x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
