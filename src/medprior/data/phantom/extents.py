"""Boxes and landmarks of an anatomy, as a scan sees them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medprior.data.phantom.chest import Anatomy
from medprior.data.phantom.grid import Grid, Pose
from medprior.data.phantom.shapes import Column, Ellipsoid, cells

Corners = tuple[NDArray[np.float64], NDArray[np.float64]]


def boxes(anatomy: Anatomy, grid: Grid) -> list[tuple[str, NDArray[np.float64]]]:
    """Bounds of the nodules, the heart and the lungs: (name, (2, 3) low and high corner in voxel coordinates)."""
    pose = anatomy.pose
    found: list[tuple[str, Corners]] = [("nodule", extent(lesion.shape, pose)) for lesion in anatomy.lesions]
    found += [(name, extent(shape, pose)) for name, shape in anatomy.lungs.items()]
    found.append(("heart", _union([extent(shape, pose) for shape in anatomy.heart.values()])))
    return [(name, grid.voxel(np.stack(corners))) for name, corners in found]


def landmarks(anatomy: Anatomy, grid: Grid) -> dict[str, NDArray[np.float64]]:
    """Name to (z, y, x) in voxel coordinates."""
    return {name: grid.voxel(anatomy.pose.to_scan(point)) for name, point in anatomy.landmarks.items()}


def extent(shape: Ellipsoid | Column, pose: Pose) -> Corners:
    """Exact bounds of a shape in the scan, mm: low and high corner (z, y, x)."""
    return _of_ellipsoid(shape, pose) if isinstance(shape, Ellipsoid) else _of_column(shape, pose)


def _of_ellipsoid(shape: Ellipsoid, pose: Pose) -> Corners:
    centre = pose.to_scan(shape.centre)
    down, across = Ellipsoid(shape.centre, shape.radii, shape.tilt + pose.tilt).reach
    reach = np.array([down, shape.radii[1], across])
    return centre - reach, centre + reach


def _of_column(shape: Column, pose: Pose) -> Corners:
    z = np.linspace(*shape.ends, 512)
    at = cells(z)
    middle, width, deep, depth = (
        profile[at] for profile in (shape.middle, shape.width, shape.depth_middle, shape.depth)
    )
    edges = np.concatenate(
        [np.stack([z, deep + way * depth, middle + side * width], 1) for side in (-1, 1) for way in (-1, 1)]
    )
    seen = pose.to_scan(edges)
    return seen.min(0), seen.max(0)


def _union(corners: list[Corners]) -> Corners:
    lows, highs = zip(*corners, strict=True)
    return np.min(lows, axis=0), np.max(highs, axis=0)
