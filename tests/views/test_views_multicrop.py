"""Views that are alike, made in one pass: what each would be alone, in one graph, with nothing read back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medprior.backbones.factory import create_encoder
from medprior.errors import SettingsError
from medprior.views.crops import cut
from medprior.views.engine import render, together
from medprior.views.multicrop import MultiCrop, by_size, multi_crop
from medprior.views.plan import ViewPlan, ViewSpec, independent
from medprior.views.recipe import ViewRecipe, base_recipe
from medprior.views.view import View

ROWS = np.arange(3)


def multicrop(base: ViewRecipe) -> ViewPlan:
    """2 global and 3 local views, one that is turned, and its twins at another size."""
    whole = replace(base.contrastive(), scale=(0.4, 1.0), noise_probability=0.5, noise=(0.0, 0.1))
    part = replace(whole, scale=(0.05, 0.2)).shaped([side // 2 for side in base.shape])
    turned = ViewSpec("turned", replace(whole, rotation=15.0))
    twins = [ViewSpec(f"twin{i}", part, geometry_of="turned") for i in range(2)]
    return ViewPlan((*independent(whole, 2).specs, turned, *independent(part, 3, "part").specs, *twins))


@pytest.fixture
def scans(store, smooth, volumes):
    """Stored images, or crops of volumes, and their plan."""

    def make(kind: str):
        if kind in ("crops", "slabs"):
            base = replace(base_recipe("SM", 12, 3), pitch=(0.7, 1.1))
            plan = multicrop(base if kind == "crops" else base.shaped((6, 8, 14)))
            return cut(volumes(), ROWS, plan, seed=2, step=5), plan
        d = 3 if kind == "cubes" else 2
        images = smooth(3, 3 if kind == "colour" else 1, 32, d)
        content = np.tile([[0, 32], [5, 29], [0, 32]][:d], (3, 1, 1))
        return store(images, content=content), multicrop(base_recipe("SM", 16, d))

    return make


KINDS = ("grey", "colour", "cubes", "crops", "slabs")


def test_alike_views_stand_together():
    plan = multicrop(base_recipe("SM", 16))
    assert [group.positions for group in plan.groups] == [(0, 1), (2,), (3, 4, 5), (6, 7)]
    assert [group.sources for group in plan.groups] == [(0, 1), (2,), (3, 4, 5), (2, 2)]
    assert [group.positions for group in plan.groups[2].apart()] == [(3,), (4,), (5,)]


@pytest.mark.parametrize("kind", KINDS)
def test_together_equals_alone(kind, scans):
    stored, plan = scans(kind)
    alone = [group for joined in plan.groups for group in joined.apart()]
    joined, single = (together(stored, plan, groups, seed=2, step=5, clean=True) for groups in (plan.groups, alone))
    assert sorted(joined) == sorted(single) == list(range(8))
    for position, view in joined.items():
        for name in ("pixels", "valid", "affine", "clean"):
            torch.testing.assert_close(getattr(view, name), getattr(single[position], name), atol=1e-6, rtol=0)


@pytest.mark.parametrize("d", [2, 3])
def test_a_window_shows_what_the_whole_image_would(d, store, smooth, monkeypatch):
    """Local crops are cut from the image first; turned ones too."""
    import medprior.views.engine as engine

    scans = store(smooth(3, 2, 32, d), content=np.tile([[0, 32], [5, 29], [0, 32]][:d], (3, 1, 1)))
    local = replace(base_recipe("SM", 12, d).restorative(), scale=(0.02, 0.1))
    flat = replace(local, pitch=(0.4, 0.8)).shaped((6, 14, 9)[:d])
    recipes = {"upright": local, "turned": replace(local, rotation=10.0), "flat": flat}
    plan = ViewPlan(tuple(ViewSpec(name, recipe) for name, recipe in recipes.items()))
    cut_views = render(scans, plan, seed=0, step=0)
    monkeypatch.setattr(engine, "WORTH_CUTTING", 0.0)
    for a, b in zip(cut_views, render(scans, plan, seed=0, step=0), strict=True):
        assert torch.equal(a.valid, b.valid)
        torch.testing.assert_close(a.pixels, b.pixels, atol=3e-6, rtol=0)


class NothingReadBack(TorchDispatchMode):
    """Fails on what waits for the device."""

    WAITING = ("_local_scalar_dense", "nonzero", "item", "masked_select", "equal", "is_nonzero", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.WAITING, f"aten.{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_read_back(kind, scans):
    stored, plan = scans(kind)
    with NothingReadBack():
        with pytest.raises(AssertionError, match="waits"):
            stored.index.sum().item()
        views = render(stored, plan, seed=2, step=5, clean=True)
        together(stored, plan, plan.groups, seed=2, step=5, clean=False)
    assert len(views) == 8


@pytest.mark.parametrize("kind", ["grey", "slabs"])
def test_views_made_together_compile_to_one_graph(kind, scans):
    """A turned view, and three that are cut and made in one pass."""
    stored, plan = scans(kind)

    def pixels(step: torch.Tensor) -> list[torch.Tensor]:
        return [
            view.pixels for view in together(stored, plan, plan.groups[1:3], seed=2, step=step, clean=False).values()
        ]

    compiled = torch.compile(pixels, fullgraph=True, dynamic=False, backend="eager")
    for step in (torch.tensor(5), torch.tensor(6)):
        for a, b in zip(compiled(step), pixels(step), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["colour", "cubes", "crops"])
def test_channels_are_last_where_that_is_free(kind, scans, store, smooth, volumes):
    """Upright views without colour changes; with one channel both orders are the same."""
    if kind == "crops":
        plan = independent(ViewRecipe(8, 3, pitch=(1.5, 2.0)), 2)
        stored = cut(volumes(2), ROWS, plan, seed=0, step=0)
    else:
        d = 3 if kind == "cubes" else 2
        plan = independent(base_recipe("SM", 8, d).restorative(), 2)
        stored = store(smooth(2, 3, 32, d))
    form = torch.channels_last if kind == "colour" else torch.channels_last_3d
    for view in render(stored, plan, seed=0, step=0):
        assert view.pixels.is_contiguous(memory_format=form) and not view.pixels.is_contiguous()


def slabs(backbone: str, asked: int | None, spacing: tuple[float, ...] | None = None) -> list[tuple[int, ...]]:
    """Shapes of large and small crops."""
    base = ViewRecipe(64, 3, pitch=(1.0, 1.0)).shaped((16, 48, 64))
    crops = MultiCrop((0.4, 1.0), (0.05, 0.4), 2, asked)
    return [
        spec.recipe.shape for spec in multi_crop(base, crops, create_encoder(backbone, 1, 3, 64, spacing=spacing)).specs
    ]


@pytest.mark.parametrize(
    ("backbone", "asked", "small"),
    [
        ("vit_tiny_patch8", None, (16, 32, 32)),
        ("vit_tiny_patch8", 32, (8, 24, 32)),
        ("resnet18", None, (16, 32, 32)),
        ("unet_4", 44, (11, 33, 44)),
    ],
)
def test_small_crops_of_slabs_are_slabs(backbone, asked, small):
    """As the encoder allows; or in the proportions of the large ones, where their longest side was asked for."""
    assert slabs(backbone, asked) == [(16, 48, 64)] * 2 + [small] * 2


def test_small_crops_of_thick_slices_are_small_along_every_axis():
    """Patches and strides are shorter there, and so are the crops."""
    assert slabs("vit_tiny_patch8", None, (4.0, 1.0, 1.0))[2:] == [(8, 32, 32)] * 2
    assert slabs("unet_4", None, (4.0, 1.0, 1.0))[2:] == [(8, 32, 32)] * 2


@pytest.mark.parametrize(
    ("backbone", "asked", "small"), [("vit_tiny_patch8", 20, "5 x 15 x 20"), ("unet_4", 24, "6 x 18 x 24")]
)
def test_small_slabs_that_do_not_fit_are_refused(backbone, asked, small):
    with pytest.raises(SettingsError, match=f"small crops of {small} pixels do not fit"):
        slabs(backbone, asked)


def test_views_of_one_shape_are_joined():
    shapes = [(4, 8), (2, 8), (4, 8), (8, 4)]
    views = [
        View(torch.full((3, 1, *shape), float(i)), torch.ones(3, 1, *shape, dtype=torch.bool), torch.eye(2, 3))
        for i, shape in enumerate(shapes)
    ]
    joined = by_size(views)
    assert [tuple(pixels.shape[2:]) for pixels in joined] == [(4, 8), (2, 8), (8, 4)]
    assert [pixels[:, 0, 0, 0].tolist() for pixels in joined] == [[0.0] * 3 + [2.0] * 3, [1.0] * 3, [3.0] * 3]
