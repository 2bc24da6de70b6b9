"""Scans on another grid of pixels: which shape, where it lies in the patient, and labels without mixing.

Grey values go through `letterbox.resize`: area averages where an axis shrinks, linear interpolation where it grows.
Linear, unlike splines, makes no values that were not there, so a thick axis needs no treatment of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

THICK = 3.0
"""An axis more than this many times coarser than the asked spacing is not filled with slices nobody measured."""

Spacing = float | tuple[float, ...] | None


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a scan lie.

    Attributes:
        shape: (H, W) or (D, H, W).
        spacing: mm per axis, or None.
        affine: 12 numbers, as in `scan.ScanInfo`, or None; images have none.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    affine: tuple[float, ...] | None


def regrid(grid: Grid, target: Spacing) -> Grid:
    """The grid that covers the same box with voxels of about `target` mm.

    The box is kept whole, so the new spacing differs from the target by less than one voxel in the length of an axis,
    and is said exactly. Without a known spacing, or without a target, the grid stays.

    Args:
        target: one number for every axis, where axes above `THICK` times as coarse stay as they are; or one number
            for each axis, which all are followed.
    """
    if target is None or grid.spacing is None:
        return grid
    wanted = [
        own if isinstance(target, int | float) and own > THICK * step else step
        for own, step in zip(grid.spacing, each_axis(target, len(grid.shape)), strict=True)
    ]
    shape = tuple(
        max(1, math.floor(n * own / step + 0.5)) for n, own, step in zip(grid.shape, grid.spacing, wanted, strict=True)
    )
    if shape == grid.shape:
        return grid
    ratios = [before / after for before, after in zip(grid.shape, shape, strict=True)]
    spacing = tuple(own * ratio for own, ratio in zip(grid.spacing, ratios, strict=True))
    return Grid(shape, spacing, None if grid.affine is None else _affine_after(grid.affine, ratios))


def nearest(labels: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Labels (*S) on `shape` pixels of the same box: each takes the label that lies at its centre."""
    picks = [
        ((np.arange(after) + 0.5) * before / after).astype(np.int64)
        for before, after in zip(labels.shape, shape, strict=True)
    ]
    return labels[np.ix_(*picks)]


def each_axis(target: float | tuple[float, ...], axes: int) -> tuple[float, ...]:
    """One number for all axes, said of each; or those that were said."""
    return (target,) * axes if isinstance(target, int | float) else target


def _affine_after(affine: Sequence[float], ratios: Sequence[float]) -> tuple[float, ...]:
    """Of voxels `ratios` times as large: centre i lies where (i + 1/2) * ratio - 1/2 lay."""
    old = np.array(affine, np.float64).reshape(3, 4)
    step = np.array(ratios, np.float64)
    new = np.concatenate([old[:, :3] * step, (old[:, 3] + old[:, :3] @ ((step - 1) / 2))[:, None]], axis=1)
    return tuple(new.ravel().tolist())
