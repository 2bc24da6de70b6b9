"""Views of a whole batch at once, on the device the stored pixels live on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medprior.errors import SettingsError
from medprior.views.average import average
from medprior.views.draws import Key
from medprior.views.geometry import draw_affine
from medprior.views.intensity import change
from medprior.views.plan import ViewPlan, ViewSpec
from medprior.views.recipe import ViewRecipe
from medprior.views.resample import COARSEST, Levels, resample
from medprior.views.view import View

if TYPE_CHECKING:
    from medprior.data.store.pixels import Stored


def render(stored: Stored, plan: ViewPlan, *, seed: int, step: int | Tensor, clean: bool = False) -> list[View]:
    """The views of the plan, in its order, of every stored scan.

    What is drawn for a scan depends on (seed, step, its catalog row, position of the view) alone. Nothing waits for
    the device or breaks a compiled graph; a compiled caller hands `step` over as a tensor.

    Args:
        stored: B stored scans with d spatial axes.
        step: optimisation step, an int or a () int64 tensor.
        clean: keep each view as it was before its intensities changed.

    Raises:
        SettingsError: the plan is for another number of spatial axes.
    """
    d, wanted = stored.content.shape[1], plan.specs[0].recipe.spatial_dims
    if wanted != d:
        raise SettingsError(f"the views are {wanted}D but the stored scans {d}D", where="views.spatial_dims")
    with torch.no_grad(), torch.autocast(stored.pixels.device.type, enabled=False):
        sources = [plan.geometry_source(position) for position in range(len(plan.specs))]
        places = [
            Place(plan.specs[source].recipe, spec.recipe.size, stored.size)
            for source, spec in zip(sources, plan.specs, strict=True)
        ]
        values = _values(stored, places)
        keys = [Key(seed, step, stored.index, position) for position in range(len(plan.specs))]
        views = []
        for spec, place, source, key in zip(plan.specs, places, sources, keys, strict=True):
            affine = draw_affine(place.recipe, stored.content, keys[source])
            pixels, valid = _pixels(stored, values, affine, place)
            changed = change(pixels, valid, spec.recipe, key)
            views.append(View(changed, valid, affine, clean=pixels if clean else None))
        return views


def render_one(stored: Stored, recipe: ViewRecipe, seed: int = 0, step: int | Tensor = 0) -> View:
    """One view of every stored scan; with `recipe.plain()` the scans as they are."""
    return render(stored, ViewPlan((ViewSpec("view", recipe),)), seed=seed, step=step)[0]


@dataclass(frozen=True)
class Place:
    """A view's geometry: the recipe its affine is drawn from, its own size, and the size of the stored image."""

    recipe: ViewRecipe
    size: int
    stored: int

    @property
    def reduction(self) -> float:
        """The most stored pixels, along one axis, that a view pixel can cover."""
        low, high = self.recipe.aspect
        d = self.recipe.spatial_dims
        stretch = max(high, 1 / low) ** ((2 * d - 3) / d)
        return min(1.0, float(stretch * self.recipe.scale[1] ** (1 / d))) * self.stored / self.size

    @property
    def needs_levels(self) -> bool:
        """Whether level 0 is not enough: for rotated views much smaller than what they show."""
        return self.recipe.rotation > 0 and self.reduction >= 2 * COARSEST


def _values(stored: Stored, places: Sequence[Place]) -> Tensor:
    """The atlas as float, or level 0 alone where no view needs more."""
    whole = any(place.needs_levels for place in places)
    return (stored.pixels if whole else stored.pixels[..., : stored.size]).float()


def _pixels(stored: Stored, values: Tensor, affine: Tensor, place: Place) -> tuple[Tensor, Tensor]:
    """Pixels (B, C, *S) in [0, 1] and valid (B, 1, *S)."""
    if place.recipe.rotation:
        levels = stored.levels if values.shape[-1] > stored.size else 1
        grid = Levels(values, levels, stored.size)
        pixels, valid = resample(grid, stored.content, affine, place.size, reduced=place.reduction > 1)
    else:
        pixels, valid = average(values[..., : stored.size], stored.content, affine, place.size)
    return pixels / 255, valid
