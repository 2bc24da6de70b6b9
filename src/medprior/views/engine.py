"""Views of a whole batch at once, on the device the stored pixels live on."""

from __future__ import annotations

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
from medprior.views.resample import COARSEST, resample
from medprior.views.view import View

if TYPE_CHECKING:
    from medprior.data.store import Stored


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
        content = stored.content.float()
        values = _values(stored, plan)
        keys = [Key(seed, step, stored.index, position) for position in range(len(plan.specs))]
        affines: list[Tensor] = []
        views = []
        for position, spec in enumerate(plan.specs):
            source = plan.geometry_source(position)
            recipe = plan.specs[source].recipe
            affines.append(affines[source] if source < position else draw_affine(recipe, content, keys[position]))
            pixels, valid = _pixels(stored, values, content, affines[position], recipe, spec.recipe.size)
            changed = change(pixels, valid, spec.recipe, keys[position])
            views.append(View(changed, valid, affines[position], clean=pixels if clean else None))
        return views


def render_one(stored: Stored, recipe: ViewRecipe, seed: int = 0, step: int | Tensor = 0) -> View:
    """One view of every stored scan; with `recipe.plain()` the scans as they are."""
    return render(stored, ViewPlan((ViewSpec("view", recipe),)), seed=seed, step=step)[0]


def most_reduction(geometry: ViewRecipe, size: int, stored: int) -> float:
    """The most stored pixels, along one axis, that a pixel of a view of `size` can cover."""
    low, high = geometry.aspect
    d = geometry.spatial_dims
    stretch = max(high, 1 / low) ** ((2 * d - 3) / d)
    side: float = min(1.0, stretch * geometry.scale[1] ** (1 / d))
    return side * stored / size


def _values(stored: Stored, plan: ViewPlan) -> Tensor:
    """The atlas as float, or level 0 alone where no view needs more."""
    geometries = [plan.specs[plan.geometry_source(i)].recipe for i in range(len(plan.specs))]
    reductions = [
        most_reduction(geometry, spec.recipe.size, stored.size) if geometry.rotation else 0.0
        for geometry, spec in zip(geometries, plan.specs, strict=True)
    ]
    part = stored.pixels if max(reductions) >= 2 * COARSEST else stored.pixels[..., : stored.size]
    return part.float()


def _pixels(
    stored: Stored, values: Tensor, content: Tensor, affine: Tensor, geometry: ViewRecipe, size: int
) -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1] and valid mask of a view of `size` whose affine was drawn from `geometry`."""
    if geometry.rotation:
        levels = stored.levels if values.shape[-1] > stored.size else 1
        reduced = most_reduction(geometry, size, stored.size) > 1
        pixels, valid = resample(values, levels, stored.size, content, affine, size, reduced=reduced)
    else:
        pixels, valid = average(values[..., : stored.size], content, affine, size)
    return pixels / 255, valid
