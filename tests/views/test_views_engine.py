"""Whole views: deterministic per scan, exact where nothing changes, one graph, no wait for the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

from medprior.errors import SettingsError
from medprior.views.engine import render, render_one
from medprior.views.plan import ViewPlan, ViewSpec, independent
from medprior.views.recipe import base_recipe


def everything(size: int, d: int):
    """A plan that uses all there is: two full views, a rotated one, and its geometry at another size."""
    full = replace(base_recipe("SM", size, d).contrastive(), noise_probability=0.5, noise=(0.0, 0.1))
    turned = ViewSpec("turned", replace(full, rotation=15.0))
    return ViewPlan((*independent(full, 2).specs, turned, ViewSpec("twin", full.adaptation(), geometry_of="turned")))


@pytest.fixture
def scans(store, smooth):
    def make(d: int, rows: list[int], channels: int = 1):
        images = np.concatenate([smooth(1, channels, 32, d, seed=row) for row in rows])
        content = np.tile([[0, 32], [5, 29], [0, 32]][:d], (len(rows), 1, 1))
        return store(images, content=content, rows=rows)

    return make


@pytest.mark.parametrize("d", [2, 3])
def test_a_view_depends_on_the_scan_and_not_on_its_batch(d, scans):
    plan = everything(12, d)
    whole = render(scans(d, [3, 8, 21, 4, 100]), plan, seed=5, step=7, clean=True)
    part = render(scans(d, [4, 3]), plan, seed=5, step=7, clean=True)
    for a, b in zip(whole, part, strict=True):
        for name in ("pixels", "valid", "affine", "clean"):
            torch.testing.assert_close(getattr(a, name)[[3, 0]], getattr(b, name), atol=1e-6, rtol=0)


def test_seed_step_and_view_each_change_the_view(scans):
    batch, plan = scans(2, [1, 2]), everything(16, 2)
    first, second = (view.pixels for view in render(batch, plan, seed=0, step=0)[:2])
    assert not torch.allclose(first, second)
    for seed, step in ((1, 0), (0, 1)):
        assert not torch.allclose(first, render(batch, plan, seed=seed, step=step)[0].pixels)
    assert torch.equal(first, render(batch, plan, seed=0, step=torch.tensor(0))[0].pixels)


@pytest.mark.parametrize(("d", "side"), [(2, 32), (2, 96), (2, 50), (3, 24)])
def test_the_plain_view_at_the_store_size_is_the_stored_image(d, side, store, smooth):
    """Exactly, letterbox and all: not one pixel differs in its last bit."""
    content = np.tile([[0, side], [7, side - 8], [0, side]][:d], (2, 1, 1))
    inside = np.zeros((2, 1, *[side] * d), bool)
    inside[:, :, :, 7 : side - 8] = True
    batch = store(smooth(2, 1, side, d) * inside, content=content)
    view = render_one(batch, base_recipe("CT", side, d).plain())
    assert torch.equal(view.pixels, batch.pixels[..., :side].narrow(2, 0, side).float() / 255)
    assert torch.equal(view.valid, torch.from_numpy(inside))
    assert torch.equal(view.affine, torch.eye(d, d + 1).expand(2, d, d + 1))


@pytest.mark.parametrize("rotation", [0.0, 20.0])
@pytest.mark.parametrize("d", [2, 3])
def test_valid_is_exact(d, rotation, scans):
    """True where, and only where, the centre of the view pixel lies in the content box."""
    batch = scans(d, [1, 2, 3])
    recipe = replace(base_recipe("SM", 13, d).adaptation(), rotation=rotation)
    view = render_one(batch, recipe)
    axes = [(2 * np.arange(13) + 1) / 13 - 1] * d
    centres = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    affine = view.affine.double().numpy()
    places = np.einsum("bij,...j->b...i", affine[..., :-1], centres) + affine[:, None, ..., -1].reshape(3, *[1] * d, d)
    low, high = np.moveaxis(batch.content.double().numpy().reshape(3, *[1] * d, d, 2), -1, 0)
    expected = ((places > low) & (places < high)).all(-1)
    near = (np.minimum(np.abs(places - low), np.abs(places - high)) < 1e-6).any(-1)
    assert ((view.valid[:, 0].numpy() == expected) | near).all()
    assert 0 < expected.mean() < 1
    assert (view.pixels[~view.valid] == 0).all()


def test_clean_is_the_same_resample_before_the_intensities_change(scans):
    batch = scans(2, [1, 2, 3, 4])
    recipe = base_recipe("SM", 16).contrastive()
    view = render(batch, independent(recipe, 1), seed=0, step=0, clean=True)[0]
    still = replace(recipe, intensity_probability=0, blur_probability=0, grey_probability=0)
    assert torch.equal(view.clean, render_one(batch, still).pixels)
    assert not torch.allclose(view.clean, view.pixels, atol=0.01)
    assert render_one(batch, recipe).clean is None


def test_shared_geometry_shares_the_affine_alone(scans):
    _, _, turned, twin = render(scans(2, [1, 2, 3]), everything(16, 2), seed=0, step=0)
    assert torch.equal(turned.affine, twin.affine) and torch.equal(turned.valid, twin.valid)
    assert not torch.allclose(turned.pixels, twin.pixels)


def test_sizes_may_differ_within_a_plan(scans):
    base = base_recipe("CT", 24).contrastive()
    plan = ViewPlan(independent(base, 2).specs + independent(replace(base, size=10), 3, "part").specs)
    views = render(scans(2, [1, 2]), plan, seed=0, step=0)
    assert [tuple(view.pixels.shape) for view in views] == [(2, 1, 24, 24)] * 2 + [(2, 1, 10, 10)] * 3


@pytest.mark.parametrize(("d", "channels"), [(2, 3), (3, 1)])
def test_rendering_compiles_to_one_graph(d, channels, scans):
    plan, batch = ViewPlan(everything(8, d).specs[1:3]), scans(d, [5, 6], channels)

    def pixels(step: torch.Tensor) -> list[torch.Tensor]:
        return [view.pixels for view in render(batch, plan, seed=3, step=step)]

    compiled = torch.compile(pixels, fullgraph=True, dynamic=False, backend="eager")
    for step in (torch.tensor(0), torch.tensor(9)):
        for a, b in zip(compiled(step), pixels(step), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("d", [2, 3])
def test_nothing_is_read_back_from_the_device(d, scans):
    """Tensors without data have nothing to read: any .item(), boolean test or index by mask would raise."""
    batch = scans(d, [5, 6])
    with FakeTensorMode() as fake:
        for name in ("index", "pixels", "content"):
            setattr(batch, name, fake.from_tensor(getattr(batch, name)))
        views = render(batch, everything(8, d), seed=0, step=0, clean=True)
        with pytest.raises(RuntimeError):
            views[0].pixels.sum().item()
    assert all(view.pixels.shape == (2, 1, *[8] * d) for view in views)


def test_autocast_does_not_coarsen_the_views(scans):
    batch, plan = scans(2, [1, 2]), everything(16, 2)
    plain = render(batch, plan, seed=0, step=0)
    with torch.autocast("cpu", torch.bfloat16):
        under = render(batch, plan, seed=0, step=0)
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(plain, under, strict=True))


def test_dimensions_must_agree(scans):
    with pytest.raises(SettingsError, match="3D"):
        render_one(scans(2, [1]), base_recipe("CT", 16, 3))


@pytest.mark.parametrize("modality", ["CR", "CT", "MR", "US"])
def test_a_white_scan_stays_finite_and_no_brighter_than_white(modality, store):
    """Averages of white pixels round to a little more than 1; the darkness of that has no logarithm."""
    batch = store(np.full((64, 1, 24, 24), 255.0), rows=list(range(64)))
    for recipe in (base_recipe(modality, 32).adaptation(), base_recipe(modality, 17).contrastive()):
        for step in range(4):
            view = render_one(batch, recipe, seed=3, step=step)
            assert view.pixels.isfinite().all()
            assert view.pixels.min() >= 0 and view.pixels.max() <= 1
