"""Which crops outlines are learnt from: their size, their spacing and their number, from what the scans are like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medprior.config import Settings
from medprior.data.volumestore.plan import most_axes
from medprior.data.volumestore.resample import Spacing

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

MOST = {(2, False): 96, (3, False): 32, (2, True): 256, (3, True): 96}
"""Largest side of a crop by dimensions and whether there is a GPU: what trains in a time one can wait for."""
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
    """Sides in voxels, mm per voxel of what is stored (None: each scan's own), crops of a step, and why."""

    size: int
    spacing: Spacing
    count: int
    why: str


def plan_crops(catalog: Catalog, settings: Settings, on_gpu: bool) -> CropPlan:
    """The crops for these scans on this machine; what the settings say goes before."""
    dims = most_axes(catalog)
    spacing, mixed = _spacing(catalog, settings, dims)
    sides = _sides(catalog, spacing, dims)
    size = settings.data.size or int(min(MOST[dims, on_gpu], STEP[dims] * np.ceil(sides.max() / STEP[dims])))
    count = settings.adapt.crops or (_by_memory(size, dims) if on_gpu else ON_CPU[dims])
    typical = " x ".join(f"{side:.0f}" for side in sides)
    asked = "asked for" if settings.data.size else f"scans are about {typical}, on {'a GPU' if on_gpu else 'CPU cores'}"
    return CropPlan(size, spacing, count, asked + mixed)


def _spacing(catalog: Catalog, settings: Settings, dims: int) -> tuple[Spacing, str]:
    """What was asked for; else each scan's own where all agree, and the median where they do not (nnU-Net's rule)."""
    if settings.data.spacing is not None:
        return settings.data.spacing, ""
    known = [tuple(spacing) for spacing in catalog.table["spacing"] if spacing is not None]
    if dims == 2 or not known:
        return None, ""
    found = np.array(known, np.float64)
    middle = np.median(found, axis=0)
    if np.abs(found / middle - 1).max() <= ALIKE:
        return None, ""
    return tuple(middle.round(3).tolist()), f"; spacings differ and become {' x '.join(f'{n:.2g}' for n in middle)} mm"


def _sides(catalog: Catalog, spacing: Spacing, dims: int) -> np.ndarray:
    """Median voxels along each axis of what will be stored."""
    sides = []
    for shape, own in zip(catalog.table["shape"], catalog.table["spacing"], strict=True):
        if len(shape) == dims:
            given = np.ones(dims) if spacing is None or own is None else np.array(own) / np.array(spacing)
            sides.append(np.array(shape) * given)
    return np.asarray(np.median(sides, axis=0))


def _by_memory(size: int, dims: int) -> int:
    import torch

    memory = torch.cuda.get_device_properties(0).total_memory
    return int(np.clip(SHARE * memory / (VOXEL_BYTES * size**dims), FEWEST, GREATEST))
