"""What a view should show: the average of the stored image over the area of each view pixel, in float64.

A stored image is taken as squares (cubes) of one value. Where nothing is turned the average comes out of running
sums, without error; where the view is turned it is the mean over 6 points per axis of every view pixel.
"""

from __future__ import annotations

import numpy as np

POINTS = 6


def exact(image: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """View (*size) of an image (*S) under the map (d, d+1) from view to image, normalised: pixel edges at ±1."""
    linear = affine[:, :-1]
    if np.abs(linear - np.diag(linear.diagonal())).max() < 1e-5:
        return straight(image, affine, size)
    return turned(image, affine, size)


def straight(image: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    view = image.astype(np.float64)
    for axis, n in enumerate(image.shape):
        edges = (affine[axis, axis] * (2 * np.arange(size + 1) / size - 1) + affine[axis, -1] + 1) * n / 2
        sums = np.concatenate([np.zeros_like(view.take([0], axis)), view.cumsum(axis)], axis)
        cell = np.clip(edges.astype(int), 0, n - 1)
        share = (edges - cell).reshape([-1 if i == axis else 1 for i in range(view.ndim)])
        below = sums.take(cell, axis) * (1 - share) + sums.take(cell + 1, axis) * share
        view = np.diff(below, axis=axis) / (edges[1] - edges[0])
    return view


def turned(image: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    fine = (np.arange(size * POINTS) + 0.5) * 2 / (size * POINTS) - 1
    slabs = []
    for row in range(size):  # one layer of view pixels at a time, so that memory stays small
        grid = np.meshgrid(fine[row * POINTS : (row + 1) * POINTS], *[fine] * (image.ndim - 1), indexing="ij")
        places = [sum(a * g for a, g in zip(line, grid, strict=False)) + line[-1] for line in affine]
        cells = [
            np.clip(((p + 1) * n / 2).astype(np.int32), 0, n - 1) for p, n in zip(places, image.shape, strict=True)
        ]
        values = image[tuple(cells)].astype(np.float64)
        slabs.append(values.reshape(POINTS, *[m for _ in range(image.ndim - 1) for m in (size, POINTS)]))
    whole = np.stack(slabs)
    return whole.mean(axis=(1, *range(3, whole.ndim, 2)))


def inside(affine: np.ndarray, size: int, stored: int, margin: float = 3.0) -> np.ndarray:
    """(*size) bool: the view pixel lies at least `margin` stored pixels off every border, where libraries differ."""
    d = len(affine)
    centres = (2 * np.arange(size) + 1) / size - 1
    grid = np.meshgrid(*[centres] * d, indexing="ij")
    kept = np.ones([size] * d, bool)
    for line in affine:
        kept &= np.abs(sum(a * g for a, g in zip(line, grid, strict=False)) + line[-1]) < 1 - 2 * margin / stored
    return kept


def ramps(dims: int, size: int) -> np.ndarray:
    """(d, *size): the normalised place of each pixel centre. Cut as a view, they say where the view was cut."""
    centres = (2 * np.arange(size) + 1) / size - 1
    return np.stack(np.meshgrid(*[centres] * dims, indexing="ij"))


def located(seen: np.ndarray) -> tuple[np.ndarray, float]:
    """The map (d, d+1) that a view of the ramps (d, *size) betrays, and how far its middle is from any such map."""
    d, size = len(seen), seen.shape[-1]
    middle = slice(size // 4, size - size // 4)
    view = ramps(d, size)[(slice(None), *[middle] * d)].reshape(d, -1)
    places = seen[(slice(None), *[middle] * d)].reshape(d, -1).astype(np.float64)
    design = np.concatenate([view, np.ones((1, view.shape[1]))]).T
    solved, *_ = np.linalg.lstsq(design, places.T, rcond=None)
    return solved.T, float(np.abs(design @ solved - places.T).max())
