"""A way of making views: what the benchmark asks of every library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from exact import located, ramps
from torch import Tensor

from medprior.data.store.pixels import ResidentStore
from medprior.views.engine import render
from medprior.views.plan import ViewPlan, ViewSpec
from medprior.views.recipe import ViewRecipe

Range = tuple[float, float]
SHARE: Range = (0.2, 1.0)  # of the scan that a view shows
SQUARE: Range = (1.0, 1.0)
Cut = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Way:
    """A library, or one way of using it.

    Attributes:
        views: catalog rows (B,) and the step to views (B, 1, *size) in [0, 1] on the device, everything drawn anew.
        held: rows to a function of the step that makes their views from pixels already at hand: what is compiled.
        crop: the same rows cut alone, sides alike and intensities left as they are, from a range of shares of the
            whole: views (B, 1, *size), and the map (B, d, d+1) from view to stored image, normalised.
        note: what it does otherwise than asked.
    """

    name: str
    views: Callable[[Tensor, int], Tensor]
    held: Callable[[Tensor], Callable[[Tensor], Tensor]]
    crop: Callable[[Tensor, int, Range], tuple[Tensor, Tensor]]
    note: str = ""


def medprior_way(store: ResidentStore, recipe: ViewRecipe) -> Way:
    """medprior's own: `recipe` in full, and its geometry alone."""
    plan = ViewPlan((ViewSpec("view", recipe),))

    def views(rows: Tensor, step: int) -> Tensor:
        return render(store.batch(rows), plan, seed=0, step=step)[0].pixels

    def held(rows: Tensor) -> Callable[[Tensor], Tensor]:
        stored = store.batch(rows)
        return lambda step: render(stored, plan, seed=0, step=step)[0].pixels

    def crop(rows: Tensor, step: int, share: Range) -> tuple[Tensor, Tensor]:
        place = ViewRecipe(recipe.size, recipe.spatial_dims, scale=share, rotation=recipe.rotation)
        (view,) = render(store.batch(rows), ViewPlan((ViewSpec("view", place),)), seed=0, step=step)
        return view.pixels, view.affine

    return Way("medprior", views, held, crop)


def other_way(
    name: str, whole: Tensor, cutter: Callable[[Range, Range], Cut], change: Cut, *, aspect: Range, note: str = ""
) -> Way:
    """Another library: a cut of images (B, C, *S) in [0, 1], made for a range of shares and aspects, then a change.

    Where it cut is read off ramps, which go through the same call as further channels.
    """
    dims, stored = whole.dim() - 2, whole.shape[-1]
    places = torch.from_numpy(ramps(dims, stored)).float().to(whole.device)
    cut, cutter = cutter(SHARE, aspect), cache(cutter)

    def views(rows: Tensor, step: int) -> Tensor:
        return change(cut(whole[rows].float() / 255))

    def held(rows: Tensor) -> Callable[[Tensor], Tensor]:
        images = whole[rows]
        return lambda step: change(cut(images.float() / 255))

    def crop(rows: Tensor, step: int, share: Range) -> tuple[Tensor, Tensor]:
        torch.manual_seed(step)
        images = whole[rows].float() / 255
        seen = cutter(share, SQUARE)(torch.cat([images, places.expand(len(rows), *places.shape)], dim=1))
        found = [located(view[1:].cpu().numpy()) for view in seen]
        worst = max(error for _, error in found)
        if worst > 1e-2:
            raise SystemExit(f"{name} cut no affine view: {worst:.3f} off")
        return seen[:, :1], torch.stack([torch.from_numpy(affine) for affine, _ in found])

    return Way(name, views, held, crop, note)
