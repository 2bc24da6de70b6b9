"""Label maps in views: nearest neighbour, in the very geometry of the pixels, never a class that is not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medprior.objectives.segmentation import IGNORED
from medprior.views.draws import Key
from medprior.views.engine import render
from medprior.views.geometry import corner_of, draw_affine, reach
from medprior.views.labels import see_labels
from medprior.views.plan import independent
from medprior.views.recipe import ViewRecipe
from medprior.views.window import Crops, Place, Window

LENGTHS = {2: (40, 56), 3: (20, 28, 33)}


def windows_of(recipe: ViewRecipe, maps: torch.Tensor, position: int) -> Window:
    """The windows that `cut` would make of scans (B, *S) whose pixels are their classes."""
    d, count = recipe.spatial_dims, len(maps)
    lengths = torch.tensor([maps.shape[1:]] * count).float()
    content = torch.tensor([-1.0, 1.0]).expand(count, d, 2)
    affine = draw_affine(recipe, content, lengths, Key(3, 5, torch.arange(count), position))
    window = reach(recipe)
    corner = corner_of(affine, lengths, window)
    labels = torch.zeros(count, *window, dtype=torch.uint8)
    for i in range(count):
        low = corner[i].long()
        index = [low[axis] + torch.arange(window[axis]) for axis in range(d)]
        inside = [(at >= 0) & (at < maps.shape[1 + axis]) for axis, at in enumerate(index)]
        whole = maps[i]
        for axis, (at, known) in enumerate(zip(index, inside, strict=True)):
            whole = whole.index_select(axis, at.clamp(0, maps.shape[1 + axis] - 1))
            whole = whole * known.view([-1 if k == axis else 1 for k in range(d)])
        labels[i] = whole
    scale, offset = torch.full((count, 1), 1 / 255), torch.zeros(count, 1)
    return Window(labels.unsqueeze(1), corner, lengths, affine, scale, offset, labels)


def recipe_of(d: int, **changes: object) -> ViewRecipe:
    return replace(ViewRecipe(16, d, pitch=(1.0, 1.0)), **changes)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 16), (9, 22), (6, 20, 17)])
@pytest.mark.parametrize("changes", [{}, {"flips": (0, 1)}, {"rotation": 25.0, "pitch": (0.8, 1.3)}])
def test_classes_are_those_of_the_pixels_that_lie_there(shape: tuple[int, ...], changes: dict[str, object]) -> None:
    d = len(shape)
    maps = torch.from_numpy(np.random.default_rng(d).integers(0, 6, (5, *LENGTHS[d]), dtype=np.uint8))
    recipe = recipe_of(d, **changes).shaped(shape)
    window = windows_of(recipe, maps, 0)
    seen = see_labels(window.labels, window.place, window.affine, recipe.shape)
    centres = [(2 * np.arange(side) + 1) / side - 1 for side in shape]
    grid = np.stack(np.meshgrid(*centres, indexing="ij")).reshape(d, -1)
    for i, affine in enumerate(window.affine.double().numpy()):
        place = affine[:, :d] @ grid + affine[:, d:]
        stored = (place + 1) / 2 * np.array(LENGTHS[d])[:, None]
        sure = (np.abs(stored - np.rint(stored)) > 1e-3).all(0)  # a centre between two pixels may go to either
        inside = (np.abs(place) < 1).all(0)
        index = np.floor(stored).astype(int).clip(0, np.array(LENGTHS[d])[:, None] - 1)
        expected = np.where(inside, maps[i].numpy()[tuple(index)].astype(int), IGNORED)
        assert (seen[i].flatten().numpy() == expected)[sure].all()
        assert sure.mean() > 0.9


@pytest.mark.parametrize("shape", [(24, 24), (24, 24, 24), (40, 12), (8, 24, 32)])
def test_views_on_pixels_show_the_same_in_classes_and_in_grey(shape: tuple[int, ...]) -> None:
    d = len(shape)
    maps = torch.from_numpy(np.random.default_rng(d).integers(1, 6, (4, *LENGTHS[d]), dtype=np.uint8))
    recipe = recipe_of(d, flips=tuple(range(d))).shaped(shape)
    plan = independent(recipe, 2)
    crops = Crops(torch.arange(4), tuple(windows_of(recipe, maps, position) for position in range(2)))
    for view in render(crops, plan, seed=3, step=5):
        assert view.labels is not None and view.labels.dtype == torch.int64
        grey = torch.where(view.valid, (view.pixels * 255).round().long(), IGNORED)
        assert torch.equal(grey.squeeze(1), view.labels)


def test_a_volume_shorter_than_the_view_is_ignored_around() -> None:
    labels = torch.ones(1, 12, 12, 12, dtype=torch.uint8)
    place = Place(torch.full((1, 3), -4.0), torch.full((1, 3), 4.0))
    affine = torch.cat([torch.eye(3) * 3, torch.zeros(3, 1)], dim=1).unsqueeze(0)
    seen = see_labels(labels, place, affine, (12, 12, 12))
    assert (seen == 1).sum() == 4**3 and (seen == IGNORED).sum() == 12**3 - 4**3


def test_views_without_label_maps_have_none() -> None:
    recipe = recipe_of(2)
    window = windows_of(recipe, torch.zeros(2, 40, 56, dtype=torch.uint8), 0)
    (view,) = render(Crops(torch.arange(2), (replace(window, labels=None),)), independent(recipe, 1), seed=3, step=5)
    assert view.labels is None
