"""A chest CT of an anatomy: HU with the noise and sharpness of a hospital's scanner, and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medprior.data.phantom.build import stream
from medprior.data.phantom.chest import Anatomy
from medprior.data.phantom.extents import boxes, landmarks
from medprior.data.phantom.grid import Grid
from medprior.data.phantom.paint import paint

Voxel = TypeVar("Voxel", bound=np.generic)
FIELD = 384.0  # side of the cube that is scanned, mm


@dataclass(frozen=True)
class Scanner:
    """A CT scanner: standard deviation of its noise (HU) and of its point spread (mm)."""

    noise: float
    blur: float


SCANNERS = {"north": Scanner(noise=9.0, blur=0.5), "south": Scanner(noise=22.0, blur=1.1)}


@dataclass(frozen=True)
class CT:
    """A volume and what is known about it.

    Attributes:
        volume: (D, H, W) int16 HU; axes run down, to the back, to the patient's left.
        organs: (D, H, W) uint8, numbered as `ORGANS`.
        lesions: (D, H, W) uint8, 1 inside a nodule.
        grid: spacing (mm) and origin (mm of the scan).
        boxes: (name, (2, 3) low and high corner); landmarks: name to (3,). Voxel coordinates, whole numbers at centres.
    """

    volume: NDArray[np.int16]
    organs: NDArray[np.uint8]
    lesions: NDArray[np.uint8]
    grid: Grid
    boxes: list[tuple[str, NDArray[np.float64]]]
    landmarks: dict[str, NDArray[np.float64]]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm per voxel, (D, H, W)."""
        return self.grid.spacing


def render_ct(anatomy: Anatomy, size: int = 64, *, spacing: tuple[float, float, float] | None = None) -> CT:
    """Scan `anatomy` into a cube of `size` voxels a side, or of the given `spacing` (mm; D, H, W)."""
    grid = ct_grid(spacing or (FIELD / size,) * 3)
    scanner = SCANNERS[anatomy.site]
    canvas = paint(anatomy, grid, masks=True)
    hu = gaussian_filter(canvas.hu, [scanner.blur / grid.spacing[axis] for axis in (1, 0, 2)])
    hu += stream(anatomy.seed, anatomy.patient, 6, anatomy.visit).normal(0, scanner.noise, hu.shape).astype(np.float32)
    volume = np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)
    assert canvas.masks is not None
    organs, lesions = _depth_second(canvas.masks.organs), _depth_second(canvas.masks.lesions)
    return CT(_depth_second(volume), organs, lesions, grid, boxes(anatomy, grid), landmarks(anatomy, grid))


def _depth_second(layers_first: NDArray[Voxel]) -> NDArray[Voxel]:
    """(H, D, W) as (D, H, W)."""
    return np.ascontiguousarray(layers_first.swapaxes(0, 1))


def ct_grid(spacing: tuple[float, float, float]) -> Grid:
    """Voxels of the scanned cube, centred on the isocentre."""
    z, y, x = (max(round(FIELD / step), 1) for step in spacing)
    origin = (-spacing[0] * (z - 1) / 2, -spacing[1] * (y - 1) / 2, -spacing[2] * (x - 1) / 2)
    return Grid((z, y, x), spacing, origin)
