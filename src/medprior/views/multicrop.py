"""Multi-crop: few large crops and many small ones of every scan, each size through the encoder in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from medprior.errors import SettingsError
from medprior.views.plan import ViewPlan, independent

if TYPE_CHECKING:
    from torch import Tensor

    from medprior.backbones.encoder import Encoder
    from medprior.views.limits import Range
    from medprior.views.recipe import ViewRecipe
    from medprior.views.view import View

SHARE = 96 / 224
"""Side of a small crop beside that of a large one, as published (Caron et al., NeurIPS 2020, arXiv 2006.09882)."""
LEAST = 32
"""Pixels along a small crop's side, where its size is not asked for: below, CNNs have nothing left to pool. Fewer along
axes where the encoder takes shorter strides."""
GLOBAL = 2
"""Large crops; they come first."""


@dataclass(frozen=True)
class MultiCrop:
    """How much of a scan its crops show.

    Attributes:
        whole, part: share of the area in large and small crops. Where the recipe gives a pitch, crops of volumes have
            it all, and the small ones show less because they are smaller.
        count: small crops; there are two large ones.
        size: pixels along a small crop, or along its longest side, the others in proportion; None takes 96/224 of the
            recipe's, as the encoder allows.
    """

    whole: Range
    part: Range
    count: int
    size: int | None = None


def multi_crop(recipe: ViewRecipe, crops: MultiCrop, encoder: Encoder) -> ViewPlan:
    """Two crops of the recipe's own shape, then the smaller ones.

    Raises:
        SettingsError: the encoder cannot take crops of that size.
    """
    large = independent(replace(recipe, scale=crops.whole), GLOBAL)
    if crops.count == 0:
        return large
    if crops.size is None:
        part = tuple(part_side(encoder, side, axis) for axis, side in enumerate(recipe.shape))
    else:
        part = tuple(max(1, round(side * crops.size / recipe.size)) for side in recipe.shape)
    _check(part, recipe, encoder)
    small = independent(replace(recipe.shaped(part), scale=crops.part), crops.count, "local")
    return ViewPlan(large.specs + small.specs)


def part_side(encoder: Encoder, size: int, axis: int = -1) -> int:
    """Pixels along a small crop's side, where large ones have `size`: whole patches or strides of the encoder.

    Transformers with windows take no size but their own.
    """
    if encoder.kind == "other":
        return size
    strides = encoder.axis_strides[-1]
    unit, least = strides[axis], LEAST * strides[axis] / max(strides)
    units = max(round(SHARE * size / unit), math.ceil(min(least, size) / unit))
    return min(units * unit, size)


def by_size(views: Sequence[View]) -> list[Tensor]:
    """The pixels of all views of one shape in one tensor (V * B, C, *S), view by view, in order of appearance."""
    shapes: dict[tuple[int, ...], list[Tensor]] = {}
    for view in views:
        shapes.setdefault(tuple(view.pixels.shape[2:]), []).append(view.pixels)
    return [torch.cat(pixels) for pixels in shapes.values()]


def _check(part: tuple[int, ...], recipe: ViewRecipe, encoder: Encoder) -> None:
    axes = list(zip(part, recipe.shape, encoder.axis_strides[-1], strict=True))
    fits = {
        "vit": all(side % unit == 0 for side, _, unit in axes),
        "cnn": all(side >= min(unit, large) for side, large, unit in axes),
        "other": part == recipe.shape,
    }
    if not fits[encoder.kind]:
        size = " x ".join(map(str, part if len(set(part)) > 1 else part[:1]))
        raise SettingsError(
            f"small crops of {size} pixels do not fit the encoder {encoder.spec['name']}",
            where="setting local_size",
            do=f"Leave it out, or use {part_side(encoder, recipe.size)}",
        )
