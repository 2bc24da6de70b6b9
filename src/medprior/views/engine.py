"""Views of a whole batch at once, on the device the stored pixels live on.

Views of a plan that are alike are drawn and changed together. No more of a scan is turned into floats than its views
may cover: of images a window is gathered on the device, of volumes it was cut beforehand (`medprior.views.crops`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medprior.errors import SettingsError
from medprior.views.average import average, take
from medprior.views.choices import filled
from medprior.views.draws import Key
from medprior.views.geometry import corner_of, draw_affine, lies_on_pixels, reach, widest
from medprior.views.intensity import change
from medprior.views.labels import see_labels
from medprior.views.plan import Group, ViewPlan, ViewSpec
from medprior.views.recipe import ViewRecipe
from medprior.views.resample import COARSEST, Levels, resample
from medprior.views.view import View
from medprior.views.window import Crops, Place, Window, cut_out, whole

if TYPE_CHECKING:
    from medprior.data.store.pixels import Stored

WORTH_CUTTING = 0.6
"""Share of the side up to which a window is cut: matrix products then take half the time at 0.5, less below; at 0.75
the cutting costs what it saves. Where a CPU sums one by one it is much the same."""

Seen = tuple[Tensor, Tensor]
"""Pixels (B, C, *S) in [0, 1] and valid (B, 1, *S)."""


def render(stored: Stored | Crops, plan: ViewPlan, *, seed: int, step: int | Tensor, clean: bool = False) -> list[View]:
    """The views of the plan, in its order, of every stored scan.

    What is drawn for a scan depends on (seed, step, its catalog row, position of the view) alone. Nothing waits for
    the device or breaks a compiled graph; a compiled caller hands `step` over as a tensor.

    Args:
        stored: B stored scans with d spatial axes, or what was cut out of volumes for this plan, seed and step.
        step: optimisation step, an int or a () int64 tensor.
        clean: keep each view as it was before its intensities changed.

    Raises:
        SettingsError: the plan is for another number of spatial axes, or of views.
    """
    _check(stored, plan)
    # Alike views are made together; on a CPU, whose cache they would overrun, each alone.
    groups = plan.groups if stored.index.device.type != "cpu" else [g for group in plan.groups for g in group.apart()]
    views = together(stored, plan, groups, seed=seed, step=step, clean=clean)
    return [views[position] for position in range(len(plan.specs))]


def render_one(stored: Stored, recipe: ViewRecipe, seed: int = 0, step: int | Tensor = 0) -> View:
    """One view of every stored scan; with `recipe.plain()` the scans as they are."""
    return render(stored, ViewPlan((ViewSpec("view", recipe),)), seed=seed, step=step)[0]


def together(
    stored: Stored | Crops, plan: ViewPlan, groups: Sequence[Group], *, seed: int, step: int | Tensor, clean: bool
) -> dict[int, View]:
    """The views by their position in the plan, each of the `groups` they stand in made in one pass; see `render`."""
    views: dict[int, View] = {}
    with torch.no_grad(), torch.autocast(stored.index.device.type, enabled=False):
        images = None if isinstance(stored, Crops) else _images(stored, plan)
        for group in groups:
            labels = None
            if isinstance(stored, Crops):
                window = _joined([stored.windows[position] for position in group.positions])
                affine, (pixels, valid) = window.affine, _seen(window, group)
                if window.labels is not None:
                    labels = see_labels(window.labels, window.place, affine, group.recipe.shape)
            else:
                assert images is not None
                places = Key(seed, step, stored.index, group.sources)
                (pixels, valid), affine = _of_images(stored, images, group, places)
            # Weights sum to 1 but for rounding: a white that is brighter than white has no logarithm to its darkness.
            pixels = pixels.clamp_(0, 1)
            if pixels.shape[1] == 3 and (group.recipe.saturation or group.recipe.grey_probability):
                pixels = pixels.contiguous()  # colours are mixed plane by plane: on a CPU much slower across channels
            changed = change(pixels, valid, group.recipe, Key(seed, step, stored.index, group.positions))
            made = View(changed, valid, affine, pixels if clean else None, labels)
            views.update(zip(group.positions, _apart(made, len(group.positions)), strict=True))
    return views


def _apart(made: View, count: int) -> list[View]:
    """Views that were made in one pass, one by one."""
    fields = (made.pixels, made.valid, made.affine, made.clean, made.labels)
    parts = ([None] * count if each is None else each.chunk(count) for each in fields)
    return [View(*part) for part in zip(*parts, strict=True)]


def _check(stored: Stored | Crops, plan: ViewPlan) -> None:
    d = stored.windows[0].affine.shape[1] if isinstance(stored, Crops) else stored.content.shape[1]
    if plan.specs[0].recipe.spatial_dims != d:
        wanted = plan.specs[0].recipe.spatial_dims
        raise SettingsError(f"the views are {wanted}D but the stored scans {d}D", where="views.spatial_dims")
    if isinstance(stored, Crops) and len(stored.windows) != len(plan.specs):
        what = f"{len(stored.windows)} windows were cut, but the plan has {len(plan.specs)} views"
        raise SettingsError(what, where="views", do="Cut and render with the same plan.")


def _images(stored: Stored, plan: ViewPlan) -> tuple[Tensor, Tensor | None]:
    """(B, C, *A) uint8, or level 0 alone (B, C, *S) where no view needs more; and as floats if any needs the whole."""
    images = stored.pixels if any(_needs_levels(group, stored.size) for group in plan.groups) else stored.level0()
    cut = [_is_cut(group, stored.size) for group in plan.groups]
    return images.contiguous() if any(cut) else images, None if all(cut) else images.float()


def _is_cut(group: Group, stored: int) -> bool:
    return max(reach(group.geometry, stored)) <= WORTH_CUTTING * stored and not _needs_levels(group, stored)


def _needs_levels(group: Group, stored: int) -> bool:
    """Whether level 0 is not enough: for rotated views much smaller than what they show."""
    return group.geometry.rotation > 0 and widest(group.geometry, group.recipe.shape, stored) >= 2 * COARSEST


def _of_images(stored: Stored, images: tuple[Tensor, Tensor | None], group: Group, key: Key) -> tuple[Seen, Tensor]:
    """What a group sees, view by view, and affines (V*B, d, d+1)."""
    count, d, size = len(group.positions), stored.content.shape[1], stored.size
    content, place = stored.content.repeat(count, 1, 1), whole(d, size, stored.index.device)
    affine = draw_affine(group.geometry, content, place.lengths, key)
    values, floats = images
    levels = stored.levels if _needs_levels(group, size) else 1
    if _is_cut(group, size):
        window = reach(group.geometry, size)
        corner = corner_of(affine, place.lengths, window).clamp(min=0)
        place = Place(torch.minimum(corner, size - filled(window, corner.device)), place.lengths)
        floats = cut_out(values[..., :size], place.corner, window).float()
    else:
        assert floats is not None
        floats = floats if levels > 1 else floats[..., :size]
        floats = floats if count == 1 else floats.repeat(count, *[1] * (d + 1))
    pixels, valid = _resampled(Levels(floats, levels, place), content, affine, group, size)
    return (pixels.div_(255), valid), affine


def _seen(window: Window, group: Group) -> Seen:
    if lies_on_pixels(group.geometry) and group.recipe.shape == window.pixels.shape[2:]:
        pixels, valid = take(window.pixels, window.place, window.affine, group.geometry.flips)
        return _unit(pixels, window) * valid, valid
    # Clamped before it is averaged: what is brighter than white must not outshine its neighbours.
    levels = Levels(_unit(window.pixels, window), 1, window.place)
    sides = torch.ones_like(window.lengths)
    return _resampled(levels, torch.stack([-sides, sides], dim=-1), window.affine, group, 0)


def _unit(pixels: Tensor, window: Window) -> Tensor:
    """Stored values as [0, 1]."""
    scale, offset = (value.view(*value.shape, *[1] * (pixels.dim() - 2)) for value in (window.scale, window.offset))
    return (pixels * scale).add_(offset).clamp_(0, 1)


def _resampled(levels: Levels, content: Tensor, affine: Tensor, group: Group, stored: int) -> Seen:
    """Pixels in the units of the levels, and valid; `stored` as in `extent`."""
    shape = group.recipe.shape
    pitch = widest(group.geometry, shape, stored)
    if group.geometry.rotation:
        return resample(levels, content, affine, shape, reduced=pitch > 1)
    one_by_one = affine.device.type == "cpu"
    return average(levels.atlas, levels.place, content, affine, shape, pitch if one_by_one else None)


def _joined(windows: Sequence[Window]) -> Window:
    if len(windows) == 1:
        return windows[0]
    names = ("pixels", "corner", "lengths", "affine", "scale", "offset")
    joined = Window(*(torch.cat([getattr(window, name) for window in windows]) for name in names))
    labels = [window.labels for window in windows if window.labels is not None]
    return replace(joined, labels=torch.cat(labels)) if labels else joined
