"""One orientation for volumes of every format, and what their modules share.

Axes of every volume: D runs from the feet to the head (superior), H from front to back (posterior), W from the
patient's right to left. Coordinates are DICOM's LPS in mm. Voxels are permuted and flipped, never interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.readers.guard import odd_values, physical, require_sides
from medprior.data.scan import Scan, ScanInfo
from medprior.errors import DataError

MAX_CHANNELS = 8
MAX_VOXELS = 2**30
"""Larger volumes (1,024 x 1,024 x 1,024) are refused, so that a small damaged file cannot fill the memory."""

_RIGHT_ANGLE = 0.01  # cosine: half a degree off


@dataclass(frozen=True)
class Grid:
    """What a header says of its voxels.

    Attributes:
        sides: voxels along each stored axis, fastest first: (i, j) or (i, j, k).
        dtype: of the physical values.
        spacing: mm along each stored axis, or None.
        affine: (4, 4), from the index (i, j, k, 1) to millimetres (x, y, z, 1) in LPS, or None where the header does
            not say how the patient lies.
        doubts: what is odd in the header.
    """

    sides: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    spacing: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stored:
    """A file whose header has been read; `values()` gives (*sides, channels) and may raise any decoder's error."""

    grid: Grid
    values: Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class Turn:
    """For each axis of the scan, which stored axis it is and whether that one is run through backwards."""

    axes: tuple[int, ...]
    backwards: tuple[bool, ...]


def info_of(stored: Stored) -> ScanInfo:
    """What `scan_of` will give, without the doubts that only voxels raise."""
    grid = stored.grid
    turn = _turn(grid)
    affine = _turned_affine(grid, turn)
    return ScanInfo(
        tuple(grid.sides[axis] for axis in turn.axes),
        grid.channels,
        np.dtype(np.float32).name if grid.dtype.kind == "f" else grid.dtype.newbyteorder("=").name,
        spacing=_turned_spacing(grid, turn),
        affine=None if affine is None else tuple(affine[:3].ravel().tolist()),
        orientation=None if affine is None else "SPL",
        doubts=grid.doubts,
    )


def scan_of(stored: Stored, path: str) -> Scan:
    """Decode to pixels (C, D, H, W) as the axes above say, or (C, H, W) for a flat image.

    Raises:
        DataError: none of its values is finite.
    """
    grid = stored.grid
    turn = _turn(grid)
    values = stored.values().astype(grid.dtype, copy=False)
    values = values.transpose(len(grid.sides), *turn.axes)
    values = values[(slice(None), *(slice(None, None, -1 if back else 1) for back in turn.backwards))]
    affine = _turned_affine(grid, turn)
    doubts = grid.doubts + odd_values(values, "voxels")
    return Scan(
        np.ascontiguousarray(physical(values)),
        path,
        spacing=_turned_spacing(grid, turn),
        orientation=None if affine is None else "SPL",
        affine=affine,
        doubts=doubts,
    )


def require_volume(shape: Sequence[int], channels: int) -> None:
    """Refuse what is no volume, before anything is allocated for it.

    Raises:
        DataError: an empty axis, too many voxels, or too many channels.
    """
    if not shape or min(shape) < 1 or math.prod(shape) > MAX_VOXELS:
        raise DataError(f"a volume of shape {tuple(shape)} cannot be used (at most {MAX_VOXELS:,} voxels, none empty)")
    require_sides(shape)
    if channels > MAX_CHANNELS:
        reason = f"a volume of shape {tuple(shape)} is a time series or has more than {MAX_CHANNELS} channels"
        raise DataError(reason, do="Save each time point, or a mean over time, as a file of its own")


def located(affine: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, tuple[float, ...] | None, list[str]]:
    """The affine (4, 4) and the spacing of its axes where it is a geometry, and what is odd in it."""
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0) if np.isfinite(affine).all() else np.zeros(3)
    if not np.isfinite(sizes).all() or sizes.min() <= 0 or abs(np.linalg.det(axes / sizes)) <= 1e-6:
        return None, None, ["its affine is no geometry (singular or not finite): the axes are as stored, no spacing"]
    cosines = np.abs((axes / sizes).T @ (axes / sizes) - np.eye(3)).max()
    slant = math.degrees(math.asin(min(1.0, float(cosines))))
    doubts = [f"its axes are {slant:.1f} degrees off a right angle"] if cosines > _RIGHT_ANGLE else []
    return affine, tuple(sizes.tolist()), doubts


def credible_spacing(sizes: Sequence[float]) -> tuple[tuple[float, ...] | None, list[str]]:
    """Voxel sizes in mm as a header says them, where all are positive numbers."""
    if all(math.isfinite(size) and size > 0 for size in sizes):
        return tuple(sizes), []
    return None, ["its voxel sizes are not all positive numbers: the spacing is unknown"]


def _turn(grid: Grid) -> Turn:
    if grid.affine is None:
        return Turn(tuple(reversed(range(len(grid.sides)))), (False,) * len(grid.sides))
    axes = grid.affine[:3, :3]
    cosines = axes / np.linalg.norm(axes, axis=0)
    best = max(permutations(range(3)), key=lambda order: sum(abs(cosines[xyz, order[xyz]]) for xyz in range(3)))
    return Turn(best[::-1], tuple(bool(cosines[xyz, best[xyz]] < 0) for xyz in (2, 1, 0)))


def _turned_spacing(grid: Grid, turn: Turn) -> tuple[float, ...] | None:
    return None if grid.spacing is None else tuple(grid.spacing[axis] for axis in turn.axes)


def _turned_affine(grid: Grid, turn: Turn) -> NDArray[np.float64] | None:
    """From the index in the scan to LPS mm."""
    if grid.affine is None:
        return None
    back = np.zeros((4, 4))  # from the index in the scan to the index in the file
    back[3, 3] = 1
    for axis, (stored, backwards) in enumerate(zip(turn.axes, turn.backwards, strict=True)):
        back[stored, axis] = -1 if backwards else 1
        back[stored, 3] = grid.sides[stored] - 1 if backwards else 0
    turned: NDArray[np.float64] = grid.affine @ back + 0.0  # no -0.0
    return turned
