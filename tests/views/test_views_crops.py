"""Crops of ragged volumes: voxels bit for bit where none is resampled, else against float64; never what is outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from medprior.data.catalog import build_catalog
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import SettingsError
from medprior.views.crops import cut, window_shape
from medprior.views.draws import Key
from medprior.views.engine import render
from medprior.views.geometry import corner_of, draw_affine
from medprior.views.plan import ViewPlan, ViewSpec, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View

ROWS = np.arange(3)
EXACT = ViewRecipe(16, 3, pitch=(1.0, 1.0), flips=(0, 2))
CUBE, SLAB = (16, 16, 16), (8, 24, 32)


def seen(volumes, plan: ViewPlan, step: int = 0, rows: np.ndarray = ROWS) -> list[View]:
    return render(cut(volumes, rows, plan, seed=3, step=step), plan, seed=3, step=step)


def places(view: View, lengths: np.ndarray) -> np.ndarray:
    """(B, *S, 3) stored voxels, in float64, where the centres of the view's voxels lie; first voxel's centre at 0.5."""
    axes = [(2 * np.arange(size) + 1) / size - 1 for size in view.pixels.shape[2:]]
    centres = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    affine = view.affine.double().numpy()
    laid = np.einsum("bij,...j->b...i", affine[..., :-1], centres) + affine[:, None, None, None, :, -1]
    return (laid + 1) / 2 * lengths[:, None, None, None]


@pytest.mark.parametrize("shape", [CUBE, SLAB])
@pytest.mark.parametrize("channels", [1, 2])
def test_crops_at_pitch_1_are_the_stored_voxels(channels, shape, volumes):
    """Bit for bit, mirrored or not; what lies outside of a scan is 0 and not valid."""
    held, mirrored = volumes(channels), set()
    for step in range(8):
        (view,) = seen(held, independent(EXACT.shaped(shape), 1), step)
        at = places(view, held.lengths(ROWS)) - 0.5
        np.testing.assert_allclose(at, at.round(), atol=1e-4)
        for row, voxels in enumerate(at.round().astype(int)):
            whole = np.array(held.arrays[row].shape[1:])
            inside = ((voxels >= 0) & (voxels < whole)).all(-1)
            stored = torch.from_numpy(held.arrays[row])[(slice(None), *np.moveaxis(voxels.clip(0, whole - 1), -1, 0))]
            expected = (stored * torch.tensor(held.scale) + held.offset).clamp(0, 1) * torch.from_numpy(inside)
            assert torch.equal(view.pixels[row], expected)
            assert np.array_equal(view.valid[row, 0], inside)
            mirrored.add(tuple((view.affine[row].diagonal() < 0).tolist()))
        assert view.valid[0].all() and view.valid[1].sum() == np.minimum(shape, (9, 37, 28)).prod()
    assert mirrored == {(a, False, c) for a in (True, False) for c in (True, False)}


def test_crops_reach_every_border_and_short_scans_are_centred(volumes):
    held, low, high = volumes(), [], []
    for step in range(300):
        affine = cut(held, ROWS, independent(EXACT, 1), seed=0, step=step).windows[0].affine
        centre = (affine[..., -1].numpy() + 1) / 2 * held.lengths(ROWS)
        low.append(centre - 8), high.append(held.lengths(ROWS) - centre - 8)
    least, far = np.min(low, axis=0), np.min(high, axis=0)
    short = held.lengths(ROWS) < 16
    assert np.abs(least[~short]).max() < 1e-3 and np.abs(far[~short]).max() < 1e-3
    assert np.abs(np.array(low)[:, short] - -4).max() < 1e-3  # 9 voxels of 16: 4 on one side, 3 on the other


SIDE = st.integers(3, 12)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.one_of(SIDE.map(lambda side: (side,) * 3), st.tuples(SIDE, SIDE, SIDE)),
    pitch=st.floats(0.4, 2.5),
    wide=st.floats(1, 1.6),
    step=st.integers(0, 1000),
)
def test_upright_crops_equal_the_area_average_in_float64(shape, pitch, wide, step, volumes):
    """Each voxel of the view is the mean over its box, cut to the scan: nothing black leaks in at the borders."""
    held, rows = volumes(), np.array([1])
    recipe = ViewRecipe(12, 3, pitch=(pitch, 1.3 * pitch), aspect=(1 / wide, wide), flips=(0, 1, 2)).shaped(shape)
    (view,) = seen(held, independent(recipe, 1), step, rows)
    lengths = held.lengths(rows)
    at = places(view, lengths)[0]
    width = np.abs(view.affine[0].diagonal().double().numpy()) * lengths[0] / shape
    image, inside = held.unit(1)[0], np.ones(shape, bool)
    for axis in range(3):
        centre = np.moveaxis(at[..., axis], axis, 0)[:, 0, 0]
        reach, length = max(width[axis], 1) / 2, lengths[0, axis]
        low, high = (centre - reach).clip(0, length), (centre + reach).clip(0, length)
        whole = np.concatenate([np.zeros_like(image.take([0], axis)), image.cumsum(axis)], axis)
        sums = [_between(whole, axis, edge) for edge in (low, high)]
        kept = (centre > 0) & (centre < length)
        along = [-1 if a == axis else 1 for a in range(3)]
        image = (sums[1] - sums[0]) / np.where(kept, high - low, np.inf).reshape(along)
        inside &= kept.reshape(along)
    assert (view.valid[0, 0].numpy() == inside).all()
    np.testing.assert_allclose(view.pixels[0, 0], image, atol=1e-5)


def _between(values: np.ndarray, axis: int, at: np.ndarray) -> np.ndarray:
    """Values along an axis, read linearly at fractional places."""
    first = np.floor(at).astype(int).clip(0, values.shape[axis] - 2)
    share = (at - first).reshape([-1 if a == axis else 1 for a in range(3)])
    return values.take(first, axis) * (1 - share) + values.take(first + 1, axis) * share


@pytest.mark.parametrize("shape", [(14, 14, 14), (6, 18, 24)])
@pytest.mark.parametrize("rotation", [12.0, 50.0])
@pytest.mark.parametrize("pitch", [0.5, 0.9])
def test_turned_crops_equal_float64_interpolation(pitch, rotation, shape, volumes):
    """One linear tap, the border voxel repeated: neither black nor what lies beyond the window is mixed in."""
    held, shares = volumes(), []
    recipe = ViewRecipe(14, 3, pitch=(pitch, pitch), rotation=rotation, flips=(1,)).shaped(shape)
    for step in range(6):
        (view,) = seen(held, independent(recipe, 1), step)
        lengths = held.lengths(ROWS)
        for row, at in enumerate(places(view, lengths)):
            inside = ((at > 0) & (at < lengths[row])).all(-1)
            read = (at - 0.5).clip(0, lengths[row] - 1)
            expected = map_coordinates(held.unit(row)[0], np.moveaxis(read, -1, 0), order=1) * inside
            near = (np.minimum(np.abs(at), np.abs(at - lengths[row])) < 1e-4).any(-1)
            assert ((view.valid[row, 0].numpy() == inside) | near).all()
            np.testing.assert_allclose(view.pixels[row, 0].numpy()[~near], expected[~near], atol=3e-5)
            shares.append(inside.mean())
    assert min(shares) < 1


@pytest.mark.parametrize("shape", [(11, 11, 11), (5, 14, 11)])
def test_turned_and_reduced_crops_see_white_alone_in_white_volumes(shape, volumes):
    held = volumes()
    for array in held.arrays:
        array[:] = 700
    recipe = ViewRecipe(11, 3, pitch=(1.8, 2.3), rotation=30.0, aspect=(0.8, 1.25)).shaped(shape)
    for step in range(5):
        (view,) = seen(held, independent(recipe, 1), step)
        torch.testing.assert_close(view.pixels, view.valid.float(), atol=1e-5, rtol=0)
        assert 0 < view.valid[1].float().mean() < 1


def test_bright_voxels_do_not_outshine_their_neighbours(volumes):
    held = volumes(1, [(12, 12, 12)])
    held.arrays[0][:] = -500
    held.arrays[0][0, 5, 5, 5] = 32_000
    (view,) = seen(held, independent(ViewRecipe(3, 3, pitch=(4.0, 4.0)), 1), 0, np.array([0]))
    assert view.pixels.max() == pytest.approx(1 / 64, abs=1e-6)


def test_a_view_in_the_place_of_another_shares_its_window(volumes):
    small = replace(EXACT, size=8)
    plan = ViewPlan((ViewSpec("whole", EXACT), ViewSpec("half", small, geometry_of="whole"), ViewSpec("own", small)))
    crops = cut(volumes(), ROWS, plan, seed=3, step=0)
    first, half, _ = render(crops, plan, seed=3, step=0)
    assert crops.windows[1] is crops.windows[0]
    assert torch.equal(first.affine, half.affine)
    inner = first.pixels[0:1]
    torch.testing.assert_close(half.pixels[:1], torch.nn.functional.avg_pool3d(inner, 2), atol=1e-6, rtol=0)


def test_a_view_in_the_place_of_another_may_have_other_proportions(volumes):
    slab, flat = EXACT.shaped(SLAB), EXACT.shaped((8, 6, 16))
    plan = ViewPlan((ViewSpec("whole", slab), ViewSpec("flat", flat, geometry_of="whole")))
    first, other = seen(volumes(), plan)
    pooled = torch.nn.functional.avg_pool3d(first.pixels[:1], (1, 4, 2))
    torch.testing.assert_close(other.pixels[:1], pooled, atol=1e-6, rtol=0)


def test_crops_do_not_depend_on_their_batch(volumes):
    plan = independent(replace(EXACT.contrastive(), pitch=(0.8, 1.6), rotation=10.0), 2)
    held = volumes()
    whole, part = seen(held, plan), seen(held, plan, rows=ROWS[::-1][:2].copy())
    for a, b in zip(whole, part, strict=True):
        torch.testing.assert_close(a.pixels[[2, 1]], b.pixels, atol=1e-6, rtol=0)


def test_the_window_is_no_larger_than_needed():
    assert window_shape(EXACT) == (16, 16, 16)
    assert window_shape(replace(EXACT, pitch=(1.0, 2.0))) == (34, 34, 34)
    assert max(window_shape(replace(EXACT, rotation=10.0))) < 1.45 * 16 + 3
    assert window_shape(replace(EXACT, rotation=90.0)) == (30, 30, 30)


def test_the_window_of_a_slab_is_longer_where_turns_need_it():
    slab = EXACT.shaped(SLAB)
    assert window_shape(slab) == SLAB
    assert window_shape(replace(slab, pitch=(1.0, 2.0))) == (18, 50, 66)
    assert window_shape(replace(slab, rotation=90.0)) == (43, 43, 43)  # its diagonal, and two
    tilted = window_shape(replace(slab, rotation=10.0))
    assert all(side + 2 < found <= side + 3 + 0.21 * (64 - side) for side, found in zip(SLAB, tilted, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    rotation=st.floats(0, 180),
    pitch=st.floats(0.3, 2.5),
    step=st.integers(0, 1000),
)
def test_windows_hold_all_that_turned_views_read(shape, rotation, pitch, step, volumes):
    """Half a voxel around every corner of the view."""
    recipe = ViewRecipe(16, 3, pitch=(pitch, 1.2 * pitch), rotation=rotation, aspect=(0.9, 1.1)).shaped(shape)
    held, window = volumes(), window_shape(recipe)
    lengths = torch.from_numpy(held.lengths(ROWS)).float()
    box = torch.tensor([-1.0, 1.0]).expand(3, 3, 2)
    affine = draw_affine(recipe, box, lengths, Key(0, step, torch.from_numpy(ROWS), 0))
    half = affine[..., :-1].abs().sum(-1) * lengths / 2 + 0.5
    low = corner_of(affine, lengths, window)
    centre = (affine[..., -1] + 1) * lengths / 2
    assert (centre - half >= low - 1e-3).all()
    assert (centre + half <= low + torch.tensor(window) + 1e-3).all()


def test_volumes_come_from_their_store(tmp_path: Path):
    """The real one, in the ranges of its intensity plan."""
    (tmp_path / "scans").mkdir()
    rng = np.random.default_rng(1)
    for name, shape in enumerate([(24, 30, 20), (10, 25, 33)]):
        np.save(tmp_path / "scans" / f"{name}.npy", rng.normal(0, 300, (1, *shape)).astype(np.int16))
    store = VolumeStore.build(build_catalog(tmp_path / "scans"), tmp_path / "store")
    (view,) = seen(store.resident("cpu"), independent(EXACT, 1), rows=np.arange(2))
    for row in range(2):
        low, high = (edge[0] for edge in store.edges(row))
        volume = ((store.physical(row)[0] - low) / (high - low)).clip(0, 1)
        at = (places(view, np.array([store.shape(r) for r in range(2)]))[row] - 0.5).round().astype(int)
        kept = view.valid[row, 0].numpy()
        np.testing.assert_allclose(view.pixels[row, 0].numpy()[kept], volume[tuple(at[kept].T)], atol=1e-5)
        assert kept.any()


def test_what_cannot_be_shown_is_said(volumes):
    held = volumes()
    with pytest.raises(SettingsError, match="pitch"):
        cut(held, ROWS, independent(ViewRecipe(16, 3), 1), seed=0, step=0)
    coarse = ViewRecipe(16, 3, pitch=(1.0, 4.0), rotation=5.0)
    with pytest.raises(SettingsError, match=r"4\.0 stored voxels"):
        cut(held, ROWS, independent(coarse, 1), seed=0, step=0)
    with pytest.raises(SettingsError, match="2 views"):
        render(cut(held, ROWS, independent(EXACT, 1), seed=0, step=0), independent(EXACT, 2), seed=0, step=0)
