"""Intensity changes against a straightforward float64 account of each, given the same draws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from medprior.views.draws import Key, between, happens, normal
from medprior.views.intensity import change
from medprior.views.recipe import ViewRecipe
from medprior.views.smooth import gathered, multiplied, smooth

RECIPE = ViewRecipe(
    size=20,
    intensity_probability=0.7,
    brightness=0.5,
    contrast=0.6,
    gamma=0.8,
    saturation=0.7,
    grey_probability=0.3,
    blur_probability=0.6,
    blur=(0.02, 0.09),
    noise_probability=0.5,
    noise=(0.05, 0.2),
)


def padded(batch: int, channels: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels with black padding of 3 pixels on one side, and the valid mask."""
    pixels = torch.rand(batch, channels, *shape, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(batch, 1, *shape, dtype=torch.bool)
    valid[:, :, :3] = False
    return pixels * valid, valid


def reference(x: np.ndarray, valid: np.ndarray, recipe: ViewRecipe, p: dict[str, float]) -> np.ndarray:
    """One sample (C, *S), with its drawn parameters, step after step in float64."""
    mask = np.broadcast_to(valid, x.shape)
    if p["changed"]:
        x = x * p["brightness"]
        mean = x[mask].mean()
        x = np.clip((x - mean) * p["contrast"] + mean, 0, 1) ** p["gamma"]
    if len(x) == 3:
        grey = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
        keep = 0.0 if p["grey"] else p["saturation"] if p["changed"] else 1.0
        x = np.clip(grey + keep * (x - grey), 0, 1)
    if p["blurred"]:
        places = np.stack(np.meshgrid(*[np.arange(n) for n in x.shape[1:]], indexing="ij"), -1).reshape(-1, x.ndim - 1)
        apart = ((places[:, None] - places[None]) ** 2).sum(-1)
        kernel = np.exp(-apart / (2 * (p["width"] * recipe.size) ** 2)) * valid.ravel()
        x = (x.reshape(len(x), -1) @ (kernel / kernel.sum(1, keepdims=True)).T).reshape(x.shape)
    if p["noisy"]:
        x = np.clip(x + p["strength"] * p["field"], 0, 1)
    return x * valid


def parameters(recipe: ViewRecipe, key: Key, shape: tuple[int, ...]) -> list[dict[str, float]]:
    most = np.log1p(recipe.gamma)
    drawn = {
        "changed": happens(key, "intensity", recipe.intensity_probability),
        "brightness": between(key, "brightness", 1 - recipe.brightness, 1 + recipe.brightness).double(),
        "contrast": between(key, "contrast", 1 - recipe.contrast, 1 + recipe.contrast).double(),
        "gamma": between(key, "gamma", -most, most).double().exp(),
        "saturation": between(key, "saturation", 1 - recipe.saturation, 1 + recipe.saturation).double(),
        "grey": happens(key, "grey", recipe.grey_probability),
        "blurred": happens(key, "blur", recipe.blur_probability),
        "width": between(key, "blur width", *recipe.blur).double(),
        "noisy": happens(key, "noise", recipe.noise_probability),
        "strength": between(key, "noise strength", *recipe.noise).double(),
        "field": normal(key, "noise field", shape).double(),
    }
    return [{name: values[i].numpy() for name, values in drawn.items()} for i in range(len(key.rows))]


SQUARE, CUBE, SLAB = (20, 20), (10, 10, 10), (5, 8, 14)


@pytest.mark.parametrize(("channels", "shape"), [(1, SQUARE), (3, SQUARE), (2, SQUARE), (1, CUBE), (1, SLAB)])
def test_float32_equals_float64_to_1e_5(channels, shape):
    recipe = replace(RECIPE, spatial_dims=len(shape), pitch=(1.0, 1.0)).shaped(shape)
    pixels, valid = padded(12, channels, *shape)
    key = Key(4, 2, torch.arange(12), 0)
    changed = change(pixels, valid, recipe, key)
    for i, drawn in enumerate(parameters(recipe, key, tuple(pixels.shape[1:]))):
        expected = reference(pixels[i].double().numpy(), valid[i].numpy(), recipe, drawn)
        np.testing.assert_allclose(changed[i], expected, atol=1e-5)


def test_padding_stays_black_and_values_stay_in_range():
    pixels, valid = padded(64, 3, 20, 20)
    changed = change(pixels, valid, RECIPE, Key(0, 0, torch.arange(64), 0))
    assert (changed[~valid.expand_as(changed)] == 0).all()
    assert changed.min() >= 0 and changed.max() <= 1
    assert changed.isfinite().all()


def test_every_change_comes_as_often_as_asked_and_leaves_the_others_untouched():
    pixels, valid = padded(2000, 1, 6, 6)
    for name in ("intensity", "blur", "noise"):
        off = {f"{other}_probability": 0.0 for other in ("intensity", "blur", "noise") if other != name}
        recipe = replace(RECIPE, size=6, blur=(0.09, 0.1), **off)
        changed = change(pixels, valid, recipe, Key(0, 0, torch.arange(2000), 0))
        touched = ((changed - pixels).abs().amax(dim=(1, 2, 3)) > 1e-5).float().mean()
        assert abs(touched - getattr(recipe, f"{name}_probability")) < 0.04


def test_colour_is_for_three_channels_only():
    recipe = ViewRecipe(20, intensity_probability=1.0, saturation=1.0, grey_probability=1.0)
    for channels in (1, 2, 4):
        pixels, valid = padded(3, channels, 20, 20)
        assert torch.equal(change(pixels, valid, recipe, Key(0, 0, torch.arange(3), 0)), pixels)
    pixels, valid = padded(3, 3, 20, 20)
    grey = change(pixels, valid, recipe, Key(0, 0, torch.arange(3), 0))
    torch.testing.assert_close(grey[:, 0], grey[:, 2])


def test_blur_keeps_a_flat_image_flat_up_to_border_and_padding():
    _, valid = padded(8, 1, 20, 20)
    recipe = ViewRecipe(20, blur_probability=1.0, blur=(0.1, 0.1))
    flat = 0.7 * valid.float()
    torch.testing.assert_close(change(flat, valid, recipe, Key(0, 0, torch.arange(8), 0)), flat)


@pytest.mark.parametrize("way", [gathered, multiplied, smooth])
@pytest.mark.parametrize(
    ("shape", "widest"),
    [((64, 64), 0.8), ((75, 75), 1.4), ((75, 75), 3.0), ((33, 33), 0.1), ((40, 75), 0.8), ((75, 20), 1.4)],
)
def test_smoothing_equals_the_whole_matrix_in_float64(shape, widest, way):
    images = torch.rand(5, 2, *shape, generator=torch.Generator().manual_seed(0))
    widths = [torch.tensor([1e-3, 0.3, 0.5, 0.9, 1.0]) * widest for _ in range(2)]
    widths[1] = widths[1].flip(0)
    apart = [np.arange(side)[:, None] - np.arange(side) for side in shape]
    reach = widest if way is smooth else math.ceil(5 * widest)
    found = way(images, widths, [reach, reach])
    for i, image in enumerate(images.double().numpy()):
        down, across = (
            np.exp(-0.5 * (each / width[i].double().item()) ** 2) for each, width in zip(apart, widths, strict=True)
        )
        expected = down @ image @ across.T
        np.testing.assert_allclose(found[i] / expected.max(), expected / expected.max(), atol=2e-6)
