"""What differs from axis to axis where voxels are longer along some axes than along others, as in thick slices.

Steps and kernels follow nnU-Net: Isensee et al., Nature Methods 2021, arXiv 1809.10486.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from medprior.errors import SettingsError

Sides = tuple[int, ...]

COMPARABLE = 2.0
"""An axis whose voxels are so many times as long as the shortest, or longer, waits until the others have caught up."""


def per_axis(value: int | Sequence[int], dims: int) -> Sides:
    """One number for all axes, or one for each, as one for each."""
    return (value,) * dims if isinstance(value, int) else tuple(value)


def comparable(spacing: Sequence[float], stride: Sequence[int]) -> tuple[bool, ...]:
    """Along which axes the positions of a map at that stride lie less than twice as far apart as along the finest."""
    apart = [step * by for step, by in zip(spacing, stride, strict=True)]
    return tuple(each / min(apart) < COMPARABLE for each in apart)


def halvings(spacing: Sequence[float], maps: int) -> tuple[Sides, ...]:
    """Strides of so many maps along every axis, finest first: each step halves the axes comparable to the finest.

    Spacing (5, 1, 1) gives (1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8) ...
    """
    found = [(1,) * len(spacing)]
    while len(found) < maps:
        near = comparable(spacing, found[-1])
        found.append(tuple(2 * by if halved else by for by, halved in zip(found[-1], near, strict=True)))
    return tuple(found)


def factors(strides: Sequence[Sides]) -> tuple[Sides, ...]:
    """What leads to each of these strides from the one before, along every axis; 1 to the first."""
    before = [(1,) * len(strides[0]), *strides[:-1]]
    return tuple(quotient(coarse, fine) for coarse, fine in zip(strides, before, strict=True))


def quotient(coarse: Sides, fine: Sides) -> Sides:
    """What leads from one stride to another along each axis."""
    return tuple(a // b for a, b in zip(coarse, fine, strict=True))


def kernels(spacing: Sequence[float], strides: Sequence[Sides]) -> tuple[Sides, ...]:
    """Sides of the kernels at each of these strides, finest first.

    3 along the axes that are comparable to the finest there or at a finer stride, else 1. At the coarsest 3 along all.
    """
    near, found = (False,) * len(spacing), []
    for stride in strides[:-1]:
        near = tuple(a or b for a, b in zip(near, comparable(spacing, stride), strict=True))
        found.append(tuple(3 if wide else 1 for wide in near))
    return (*found, (3,) * len(spacing))


def voxels(length: float, spacing: Sequence[float]) -> Sides:
    """Voxels along each axis that come nearest to `length` mm, one at least."""
    return tuple(max(1, round(length / step)) for step in spacing)


def extents(size: int, spacing: Sequence[float], unit: Sides) -> Sides:
    """An image as long in mm along every axis as `size` voxels of the finest are, there in multiples of `unit`."""
    finest = min(spacing)
    multiples = [max(1, round(size * finest / step / by)) * by for step, by in zip(spacing, unit, strict=True)]
    return tuple(size if step == finest else n for step, n in zip(spacing, multiples, strict=True))


def check_spacing(spacing: Sequence[float], dims: int) -> None:
    """Refuse a spacing that has not one positive number for each axis.

    Raises:
        SettingsError: it has not.
    """
    if len(spacing) != dims or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise SettingsError(
            f"a spacing of {in_words(spacing)} mm does not fit {dims} axes",
            where="spacing",
            do="Give one positive number of mm for each axis",
        )


def in_words(sides: Sequence[float]) -> str:
    """One number where all are equal, else one for each axis: 16, or 3 x 16 x 16."""
    return " x ".join(f"{side:g}" for side in (sides[:1] if len(set(sides)) == 1 else sides))
