"""An anatomy painted on the voxels of a scan, in HU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medprior.data.phantom.bones import Ribs
from medprior.data.phantom.chest import Anatomy, Lesion
from medprior.data.phantom.grid import Grid, Pose
from medprior.data.phantom.organs import AIR, BLOOD, ORGANS, Part
from medprior.data.phantom.shapes import Floats, Rays, Shape
from medprior.data.phantom.vessels import Drops

RIB_HU = 900.0


@dataclass(frozen=True)
class Masks:
    """What each voxel belongs to (H, D, W): `organs` numbered as `ORGANS`, `lesions` 1 inside a nodule."""

    organs: NDArray[np.uint8]
    lesions: NDArray[np.uint8]


@dataclass(frozen=True)
class Canvas:
    """What has been painted, layers along y first, because all work is done on whole (z, x) planes.

    Attributes:
        hu: (H, D, W).
        bone: (D, W) what bones alone add along each ray, HU times layers: a tube of low energy sees more of it.
    """

    grid: Grid
    pose: Pose
    rays: Rays
    hu: Floats
    bone: Floats
    masks: Masks | None


def paint(anatomy: Anatomy, grid: Grid, *, masks: bool = False) -> Canvas:
    """Paint every part of `anatomy`; a voxel on an edge takes the shares of what it holds."""
    shape, rays = (grid.shape[1], grid.shape[0], grid.shape[2]), grid.rays(anatomy.pose)
    hu, bone = np.full(shape, AIR, np.float32), np.zeros(shape[1:], np.float32)
    blank = Masks(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)) if masks else None
    canvas = Canvas(grid, anatomy.pose, rays, hu, bone, blank)
    for part in anatomy.parts:
        _paint_part(canvas, part)
    _paint_ribs(canvas, anatomy.ribs, RIB_HU * anatomy.build.bone)
    _paint_vessels(canvas, anatomy.vessels)
    for lesion in anatomy.lesions:
        _paint_lesion(canvas, lesion)
    return canvas


Block = tuple[slice, slice, slice]


def _shares(canvas: Canvas, shape: Shape) -> tuple[Block, Rays, Floats] | None:
    """The block of the canvas that a shape can touch, its rays and the share of each voxel inside the shape."""
    window = canvas.grid.window(shape.box, canvas.pose)
    rays = canvas.rays.cut(window)
    low, high = shape.span(rays)
    met = high > low
    if not met.any():
        return None
    layers = canvas.grid.layers(float(low[met].min()), float(high[met].max()))
    return (layers, *window), rays, canvas.grid.share(layers, low, high)


def _paint_part(canvas: Canvas, part: Part) -> None:
    found = _shares(canvas, part.shape)
    if found is None:
        return
    block, rays, share = found
    if canvas.masks and part.organ:
        canvas.masks.organs[block][share >= 0.5] = ORGANS.index(part.organ)
    if part.adds:
        _add_bone(canvas, block, share * (part.hu if part.weight is None else part.hu * part.weight.take(rays.z_cell)))
    else:
        _replace(canvas, block, share, part.hu)


def _paint_lesion(canvas: Canvas, lesion: Lesion) -> None:
    found = _shares(canvas, lesion.shape)
    if found is None:
        return
    block, _, share = found
    if canvas.masks:
        canvas.masks.lesions[block][share >= 0.5] = 1
    _replace(canvas, block, share, lesion.hu)


def _replace(canvas: Canvas, block: Block, share: Floats, hu: float) -> None:
    there = canvas.hu[block]
    there += share * (np.float32(hu) - there)


def _add_bone(canvas: Canvas, block: Block, hu: Floats) -> None:
    canvas.hu[block] += hu
    canvas.bone[block[1:]] += hu.sum(0)


def _paint_ribs(canvas: Canvas, ribs: Ribs, hu: float) -> None:
    window = canvas.grid.window(ribs.box, canvas.pose)
    rays = canvas.rays.cut(window)
    for low, high, bony in ribs.walls(rays):
        met = high > low
        if not met.any():
            continue
        layers = canvas.grid.layers(float(low[met].min()), float(high[met].max()))
        edges = canvas.grid.edges(layers)[:, None, None]
        held = ribs.held(rays.z, np.clip(edges, low, np.maximum(low, high)), low, high)
        share = np.diff(held, axis=0) * (bony / np.float32(canvas.grid.spacing[1]))
        if canvas.masks:
            canvas.masks.organs[(layers, *window)][share >= 0.25] = ORGANS.index("ribs")
        _add_bone(canvas, (layers, *window), share * np.float32(hu))


def _paint_vessels(canvas: Canvas, drops: Drops) -> None:
    """Spread each drop over the eight voxels around it; blood takes the place of air, nothing else."""
    voxel = canvas.grid.voxel(canvas.pose.to_scan(drops.points))[:, [1, 0, 2]]
    whole = np.floor(voxel).astype(np.intp)
    inside = ((whole >= 0) & (whole < np.asarray(canvas.hu.shape) - 1)).all(1)
    if not inside.any():
        return
    whole, part = whole[inside], (voxel - whole)[inside]
    first, last = whole.min(0), whole.max(0) + 2
    blood = _spread(
        whole - first, part, drops.volumes[inside] / float(np.prod(canvas.grid.spacing)), tuple(last - first)
    )
    sigma = [0.9 / spacing if spacing < 1.8 else 0.0 for spacing in (canvas.grid.spacing[i] for i in (1, 0, 2))]
    if any(sigma):
        blood = gaussian_filter(blood, sigma)
    there = canvas.hu[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
    there += np.minimum(blood, 1) * np.maximum(np.float32(BLOOD) - there, 0)


def _spread(
    whole: NDArray[np.intp], part: NDArray[np.float64], amount: NDArray[np.float64], shape: tuple[int, ...]
) -> Floats:
    """Trilinear deposit of `amount` (N,) at voxel `whole` + fraction `part` (N, 3)."""
    flat = np.ravel_multi_index(tuple(whole.T), shape)
    deep, down, across = np.stack([1 - part.T, part.T], axis=1)
    weights = amount * deep[:, None, None] * down[:, None] * across
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    places = flat + np.tensordot(np.indices((2, 2, 2)), strides, (0, 0))[..., None]
    return np.bincount(places.ravel(), weights.ravel(), int(np.prod(shape))).astype(np.float32).reshape(shape)
