"""Fitting scans of any shape into a square or cube: aspect kept, never enlarged, no aliasing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

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

    Pixels are taken plane by plane, so a large volume is never held as float. Float32 unless nothing changes.
    """
    if tuple(pixels.shape[1:]) == tuple(shape):
        return pixels
    *depth, rows, columns = shape
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    done = np.stack([_along(_along(plane, rows).T, columns).T for plane in planes])
    if not depth:
        return done
    volumes = done.reshape(len(pixels), pixels.shape[1], rows * columns)
    return np.stack([_along(volume, depth[0]) for volume in volumes]).reshape(len(pixels), *shape)


def _along(values: NDArray[Any], length: int) -> NDArray[np.float32]:
    """(n, m) to (length, m)."""
    floats: NDArray[np.float32] = values.astype(np.float32, copy=False)
    return floats if len(values) == length else np.asarray(_weights(len(values), length) @ floats)


@lru_cache(maxsize=512)
def _weights(before: int, after: int) -> csr_matrix:
    """(after, before) float32, every row summing to one."""
    index, weight = _areas(before, after) if after < before else _tents(before, after)
    starts = np.arange(after + 1) * index.shape[1]
    weight = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    return csr_matrix((weight.ravel(), index.clip(0, before - 1).ravel(), starts), shape=(after, before))


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
