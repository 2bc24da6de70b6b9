"""Rotated views against float64 interpolation, exact area averages and the layout of the store's atlas."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from medprior.views.average import average
from medprior.views.resample import COARSEST, Levels, level_origin, resample
from medprior.views.window import whole

CPU = torch.device("cpu")


def turned(d: int, degrees: float, scale: float, uneven: tuple[float, ...] = (1.0, 0.8, 0.9)) -> np.ndarray:
    """(d, d+1): a turn in the plane of the last two axes (3D: and of the first two), and a shift."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(d)
    turn[-2:, -2:] = [[c, -s], [s, c]]
    if d == 3:
        other = np.eye(3)
        other[:2, :2] = [[c, -s], [s, c]]
        turn = other @ turn
    stretch = np.diag(scale * np.array(uneven[:d]))
    return np.concatenate([turn @ stretch, np.full((d, 1), 0.05)], axis=1)


def reference(atlas: np.ndarray, stored: int, affine: np.ndarray, size: int) -> np.ndarray:
    """(*S) view of an (*A) atlas: the same taps, placed and interpolated in float64 by SciPy."""
    d = affine.shape[0]
    footprint = np.linalg.norm(affine[:, :d], axis=0) * stored / size
    level = max(0, int(np.floor(np.log2(footprint.max() / COARSEST))))
    n = stored >> level
    origin = [stored - 2 * n if level else 0, *[0] * (d - 2), stored if level else 0]
    image = atlas[tuple(slice(o, o + n) for o in origin)].astype(np.float64)
    spread = np.sqrt(np.maximum(1 - (footprint / 2**level) ** -2.0, 0) / 12)
    total = np.zeros([size] * d)
    for signs in product((-1, 1), repeat=d):
        axes = [(2 * (np.arange(size) + 0.5 + s * w)) / size - 1 for s, w in zip(signs, spread, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1) @ affine[:, :d].T + affine[:, d]
        places = ((points + 1) * n / 2 - 0.5).clip(0, n - 1)
        total += map_coordinates(image, np.moveaxis(places, -1, 0), order=1)
    inside = (
        np.abs(
            np.stack(np.meshgrid(*[(2 * np.arange(size) + 1) / size - 1] * d, indexing="ij"), -1) @ affine[:, :d].T
            + affine[:, d]
        )
        < 1
    ).all(-1)
    return total / 2**d * inside


@pytest.mark.parametrize(("d", "stored", "size"), [(2, 64, 64), (2, 64, 40), (2, 64, 9), (3, 32, 24), (3, 32, 5)])
def test_float32_equals_float64_to_1e_5(d, stored, size, store, smooth):
    scans = store(smooth(1, 1, stored, d))
    affine = turned(d, 20, 0.8)
    levels = Levels(scans.pixels.float(), scans.levels, whole(d, stored, CPU))
    pixels, _ = resample(levels, scans.content, torch.from_numpy(affine)[None].float(), (size,) * d, reduced=True)
    expected = reference(scans.pixels[0, 0].numpy(), stored, affine, size)
    np.testing.assert_allclose(pixels[0, 0] / 255, expected / 255, atol=1e-5)


@pytest.mark.parametrize("d", [2, 3])
def test_one_tap_is_enough_where_nothing_is_reduced(d, store, smooth):
    scans = store(smooth(1, 1, 32, d))
    affine = torch.from_numpy(turned(d, 15, 0.6))[None].float()
    levels = Levels(scans.pixels.float(), scans.levels, whole(d, 32, CPU))
    one, several = (resample(levels, scans.content, affine, (24,) * d, reduced=reduced)[0] for reduced in (False, True))
    torch.testing.assert_close(one, several, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [30, 24, 17, 11, 8, 5])
@pytest.mark.parametrize("d", [2, 3])
def test_reduction_matches_the_exact_area_average(d, size, store, smooth):
    """Root mean square within 2.5% of the contrast (10% at a sixth of the size) on images with grain."""
    scans = store(smooth(2, 1, 32, d))
    affine = torch.eye(d, d + 1).expand(2, d, d + 1)
    levels = Levels(scans.pixels.float(), scans.levels, whole(d, 32, CPU))
    near, _ = resample(levels, scans.content, affine, (size,) * d, reduced=True)
    exact, _ = average(levels.atlas[..., :32], levels.place, scans.content, affine, (size,) * d)
    assert (near - exact).square().mean().sqrt() < (0.025 if size > 5 else 0.1) * exact.std()


def reduced(image: np.ndarray, degrees: float, size: int, store) -> torch.Tensor:
    """Valid pixels of a rotated view of 0.7 of a (128, 128) image."""
    scans = store(image[None, None])
    affine = torch.from_numpy(turned(2, degrees, 0.7, (1.0, 1.0)))[None].float()
    levels = Levels(scans.pixels.float(), scans.levels, whole(2, 128, CPU))
    pixels, valid = resample(levels, scans.content, affine, (size, size), reduced=True)
    return pixels[valid]


@pytest.mark.parametrize("degrees", [3, 10])
@pytest.mark.parametrize("size", [13, 20, 29, 40])
def test_a_chequerboard_fades_to_grey(degrees, size, store):
    """The finest pattern there is, reduced 2.2 to 7 times: less than 5% of it remains."""
    board = np.indices((128, 128)).sum(0) % 2 * 255.0
    assert (reduced(board, degrees, size, store) - 127.5).square().mean().sqrt() < 0.05 * 127.5


@pytest.mark.parametrize("degrees", [3, 30, 45])
@pytest.mark.parametrize("size", [13, 20, 29, 40, 60])
def test_white_noise_does_not_alias(degrees, size, store):
    """What remains of it is what the exact average leaves, or less; without averaging it would all remain."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 128)).astype(float)
    scans = store(noise[None, None])
    upright = torch.from_numpy(turned(2, 0, 0.7, (1.0, 1.0)))[None].float()
    exact, _ = average(scans.pixels[..., :128].float(), whole(2, 128, CPU), scans.content, upright, (size, size))
    assert 0.7 * exact.std() < reduced(noise, degrees, size, store).std() < 1.06 * exact.std()


def test_neither_padding_nor_the_next_level_is_mixed_in(store):
    image = np.zeros((1, 1, 64, 64))
    image[..., 8:56, :] = 200
    scans = store(image, content=np.array([[[8, 56], [0, 64]]]))
    levels = Levels(scans.pixels.float(), scans.levels, whole(2, 64, CPU))
    for degrees, size in product((5, 40, 170), (64, 21, 9)):
        affine = torch.from_numpy(turned(2, degrees, 1.2))[None].float()
        pixels, valid = resample(levels, scans.content, affine, (size, size), reduced=True)
        torch.testing.assert_close(pixels, 200.0 * valid, atol=1e-2, rtol=0)
        assert 0 < valid.float().mean() < 1


@pytest.mark.parametrize("d", [2, 3])
def test_levels_lie_where_the_store_puts_them(d):
    store = pytest.importorskip("medprior.data.store.pixels", reason="the pixel store is not there yet")
    layout = store.atlas_layout(64, d, 5)
    origins = level_origin(torch.arange(5.0), 64, d)
    assert origins.tolist() == [list(origin) for origin, _ in layout]
