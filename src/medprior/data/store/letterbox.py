"""Fitting scans of any shape into a square or cube: aspect kept, never enlarged, no aliasing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_FEW = 32
"""Up to so many rows a plain product is as fast as a sparse one, and needs no SciPy, whose import takes longer."""
_AT_ONCE = 1 << 17  # pixels that are resized together
_ISOTROPIC = 0.01  # spacings closer than this share count as equal


def fitted_shape(shape: Sequence[int], size: int, spacing: Sequence[float] | None = None) -> tuple[int, ...]:
    """Pixels along each axis after fitting `shape` into `size`.

    Aspect is kept in millimetres where the spacing (mm per axis) is known, else in pixels. The finest axis is never
    enlarged: a small scan stays as it is, and views enlarge it in their one resample.
    """
    steps = list(spacing) if spacing is not None and _usable(spacing, len(shape)) else [1.0] * len(shape)
    if max(steps) - min(steps) <= _ISOTROPIC * min(steps):
        steps = [1.0] * len(shape)
    extents = [n * step for n, step in zip(shape, steps, strict=True)]
    pixel = max(max(extents) / size, min(steps))
    return tuple(min(size, max(1, math.floor(extent / pixel + 0.5))) for extent in extents)


def placed_at(shape: Sequence[int], size: int) -> tuple[int, ...]:
    """First pixel of a centred box of `shape` in a square or cube of side `size`."""
    return tuple((size - n) // 2 for n in shape)


def content_box(shape: Sequence[int], size: int) -> NDArray[np.float32]:
    """(d, 2) low and high edges of that box, normalised: the outer edges of the whole at -1 and +1."""
    low = np.array(placed_at(shape, size), np.float64)
    edges = np.stack([low, low + shape], axis=1)
    return (edges * 2 / size - 1).astype(np.float32)


def box_index(content: NDArray[np.float32], size: int) -> tuple[slice, ...]:
    """The slices of that box (d, 2) along the spatial axes."""
    edges = np.rint((content + 1) * (size / 2)).astype(int)
    return tuple(slice(low, high) for low, high in edges)


def resize(pixels: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """(C, *S) to (C, *shape): exact area averages where an axis shrinks, linear interpolation where it grows.

    Pixels are taken a few planes at a time, so a large volume is never held as float. Float32 unless nothing changes.
    """
    if tuple(pixels.shape[1:]) == tuple(shape):
        return pixels
    *depth, rows, columns = shape
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    at_once = max(1, _AT_ONCE // planes[0].size)
    parts = [planes[first : first + at_once] for first in range(0, len(planes), at_once)]
    done = np.concatenate([_planes(part, rows, columns) for part in parts])
    if not depth:
        return done
    volumes = done.reshape(len(pixels), pixels.shape[1], rows * columns)
    return np.stack([_along(volume, depth[0]) for volume in volumes]).reshape(len(pixels), *shape)


def _planes(planes: NDArray[Any], rows: int, columns: int) -> NDArray[np.float32]:
    """(n, H, W) to (n, rows, columns)."""
    count, height, width = planes.shape
    lower = _along(planes.transpose(1, 0, 2).reshape(height, -1), rows).reshape(rows, count, width)
    done = _along(lower.transpose(2, 1, 0).reshape(width, -1), columns).reshape(columns, count, rows)
    return done.transpose(1, 2, 0)


def _along(values: NDArray[Any], length: int) -> NDArray[np.float32]:
    """(n, m) to (length, m)."""
    floats: NDArray[np.float32] = values.astype(np.float32, copy=False)
    if len(values) == length:
        return floats
    weights = _dense(len(values), length) if length <= _FEW else _sparse(len(values), length)
    return np.asarray(weights @ floats)


@lru_cache(maxsize=512)
def _sparse(before: int, after: int) -> csr_matrix:
    """(after, before) float32, every row summing to one."""
    from scipy.sparse import csr_matrix

    index, weight = _weights(before, after)
    starts = np.arange(after + 1) * index.shape[1]
    return csr_matrix((weight.ravel(), index.ravel(), starts), shape=(after, before))


@lru_cache(maxsize=512)
def _dense(before: int, after: int) -> NDArray[np.float32]:
    """The same as a plain matrix."""
    index, weight = _weights(before, after)
    matrix = np.zeros((after, before), np.float32)
    np.add.at(matrix, (np.arange(after)[:, None], index), weight)
    return matrix


def _weights(before: int, after: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(after, k) which old pixels each new one is made of, and their shares, which sum to one."""
    index, weight = _areas(before, after) if after < before else _tents(before, after)
    shares = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    return index.clip(0, before - 1), shares


def _areas(before: int, after: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which old pixels each new one covers, and how much of each."""
    edges = np.arange(after + 1) * before / after
    low, high = edges[:-1, None], edges[1:, None]
    index = np.floor(low).astype(np.int64) + np.arange(-(-before // after) + 1)
    return index, (np.minimum(index + 1, high) - np.maximum(index, low)).clip(0)


def _tents(before: int, after: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The two old pixels whose centres lie around each new one's; beyond the outermost centre it is repeated."""
    centre = ((np.arange(after)[:, None] + 0.5) * before / after - 0.5).clip(0, before - 1)
    index = np.floor(centre).astype(np.int64) + np.arange(2)
    return index, (1 - np.abs(centre - index)).clip(0)


def _usable(spacing: Sequence[float], dims: int) -> bool:
    return len(spacing) == dims and all(math.isfinite(step) and step > 0 for step in spacing)
