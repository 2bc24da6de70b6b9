"""Which crops outlines are learnt from: their shape, their spacing and their number, from what the scans are like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medprior.config import Settings
from medprior.data.volumestore.plan import most_axes
from medprior.data.volumestore.resample import Spacing

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

MOST = {(2, False): 96, (3, False): 32, (2, True): 256, (3, True): 96}
"""Side of the largest crop by dimensions and whether there is a GPU: what trains in a time one can wait for."""
STEP = {2: 32, 3: 16}
"""Sides are multiples of it, which the strides of most encoders divide."""
ON_CPU = {2: 8, 3: 4}
FEWEST, GREATEST = 2, 16
VOXEL_BYTES = 4096
"""What the activations of a U-Net of 32 channels take for each voxel of a crop while it trains, about."""
SHARE = 0.4
"""Of the memory of a GPU that the activations may take."""
ALIKE = 0.05
"""Spacings that differ by less count as one."""


@dataclass(frozen=True)
class CropPlan:
    """How scans are stored and cut.

    Attributes:
        shape: voxels along each axis.
        spacing: mm per voxel of what is stored; None keeps each scan's own.
        voxel: mm along each axis of the usual stored voxel, or None where nothing says it.
        count: crops of a step.
        why: in a few words.
    """

    shape: tuple[int, ...]
    spacing: Spacing
    voxel: tuple[float, ...] | None
    count: int
    why: str


def plan_crops(catalog: Catalog, settings: Settings, on_gpu: bool) -> CropPlan:
    """The crops for these scans on this machine; what the settings say goes before.

    They reach as far as the scans where that fits, else they are about as long in mm along every axis, as nnU-Net's
    (Isensee et al., Nature Methods 2021).
    """
    dims = most_axes(catalog)
    spacing, mixed = _spacing(catalog, settings, dims)
    sides, voxel = _usual(catalog, spacing, dims)
    size = settings.data.size
    shape = (size,) * dims if size else _shape(sides, voxel or (1.0,) * dims, MOST[dims, on_gpu], STEP[dims])
    count = settings.adapt.crops or (_by_memory(shape) if on_gpu else ON_CPU[dims])
    typical = " x ".join(f"{side:.0f}" for side in sides)
    asked = "asked for" if size else f"scans are about {typical}, on {'a GPU' if on_gpu else 'CPU cores'}"
    return CropPlan(shape, spacing, voxel, count, asked + mixed)


def _spacing(catalog: Catalog, settings: Settings, dims: int) -> tuple[Spacing, str]:
    """What was asked for; else each scan's own where all agree, and the median where they do not (nnU-Net's rule)."""
    if settings.data.spacing is not None:
        return settings.data.spacing, ""
    known = [tuple(spacing) for spacing in catalog.table["spacing"] if spacing is not None and len(spacing) == dims]
    if dims == 2 or not known:
        return None, ""
    found = np.array(known, np.float64)
    middle = np.median(found, axis=0)
    if np.abs(found / middle - 1).max() <= ALIKE:
        return None, ""
    return tuple(middle.round(3).tolist()), f"; spacings differ and become {' x '.join(f'{n:.2g}' for n in middle)} mm"


def _usual(catalog: Catalog, spacing: Spacing, dims: int) -> tuple[NDArray[np.float64], tuple[float, ...] | None]:
    """Median voxels along each axis of what will be stored, and median mm of a voxel."""
    sides, voxels = [], []
    for shape, own in zip(catalog.table["shape"], catalog.table["spacing"], strict=True):
        if len(shape) != dims:
            continue
        stored = own if spacing is None or own is None else np.broadcast_to(np.array(spacing, np.float64), dims)
        sides.append(np.array(shape) * (1.0 if stored is None else np.array(own) / np.array(stored)))
        if stored is not None:
            voxels.append(np.array(stored, np.float64))
    voxel = tuple(np.median(voxels, axis=0).tolist()) if voxels else None
    return np.asarray(np.median(sides, axis=0)), voxel


def _shape(sides: NDArray[np.float64], voxel: Sequence[float], most: int, step: int) -> tuple[int, ...]:
    """Sides that steps divide: those of the scans, the longest in mm cut first until the crop holds `most` cubed.

    A coarse axis is halved less often by an encoder, so its steps are finer.
    """
    finest = min(voxel)
    steps = [max(1, step >> int(math.log2(mm / finest))) for mm in voxel]
    shape = [one * math.ceil(side / one) for side, one in zip(sides, steps, strict=True)]
    while math.prod(shape) > most ** len(shape):
        longest = max(
            (axis for axis in range(len(shape)) if shape[axis] > steps[axis]), key=lambda a: shape[a] * voxel[a]
        )
        shape[longest] -= steps[longest]
    return tuple(shape)


def _by_memory(shape: Sequence[int]) -> int:
    import torch

    memory = torch.cuda.get_device_properties(0).total_memory
    return int(np.clip(SHARE * memory / (VOXEL_BYTES * math.prod(shape)), FEWEST, GREATEST))
