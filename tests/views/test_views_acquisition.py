"""Changes of acquisition against their formulas in float64, given the same draws, and against their distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from medprior.errors import SettingsError
from medprior.views.acquisition import (
    CHANGES,
    BiasField,
    Change,
    DepthGain,
    Exposure,
    Speckle,
    StainJitter,
    Window,
    change_of,
    data_of,
)
from medprior.views.draws import Key, between, normal
from medprior.views.intensity import change
from medprior.views.recipe import ViewRecipe

ALL: list[Change] = [
    Window(1.0, (-200.0, 300.0), (0.5, 2.0)),
    BiasField(1.0, (0.1, 0.5), order=3),
    Exposure(1.0, (0.5, 2.0), (0.5, 2.0)),
    Speckle(1.0, (0.3, 1.0), (0.01, 0.05)),
    DepthGain(1.0, (-1.0, 1.0)),
    StainJitter(1.0, (0.7, 1.3), (-0.2, 0.2)),
]
NONE: list[Change] = [
    Window(1.0, (0.0, 0.0), (1.0, 1.0)),
    BiasField(1.0, (0.0, 0.0)),
    Exposure(1.0, (1.0, 1.0), (1.0, 1.0)),
    Speckle(1.0, (0.0, 0.0), (0.01, 0.05)),
    DepthGain(1.0, (0.0, 0.0)),
    StainJitter(1.0, (1.0, 1.0), (0.0, 0.0)),
]
NAMES = [c.name for c in ALL]
HED = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
HED /= np.linalg.norm(HED, axis=1)[:, None]

Draw = Callable[..., np.ndarray]


def scans(batch: int, *shape: int, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.rand(batch, channels, *shape, generator=torch.Generator().manual_seed(1))
    pixels[:, :, -1] = 0.0
    pixels[:, :, -2] = 1.0
    valid = torch.ones(batch, 1, *shape, dtype=torch.bool)
    valid[:, :, :2] = False
    return pixels * valid, valid


def draws(key: Key, row: int) -> Draw:
    """What a row draws, in float64."""
    return lambda name, low, high, shape=(): between(key, name, low, high, shape)[row].double().numpy()


def window(c: Window, x: np.ndarray, valid: np.ndarray, key: Key, row: int) -> np.ndarray:
    draw = draws(key, row)
    hu = (x - 0.5) * c.units
    width = c.units * np.exp(draw("window width", *np.log(c.width)))
    return np.clip((hu - draw("window level", *c.level)) / width + 0.5, 0, 1)


def bias_field(c: BiasField, x: np.ndarray, valid: np.ndarray, key: Key, row: int) -> np.ndarray:
    d = x.ndim - 1
    drawn = normal(key, "bias_field shape", (c.order + 1,) * d)[row].double().numpy()
    terms = [k for k in np.ndindex(*drawn.shape) if 0 < sum(k) <= c.order]
    log = np.zeros(x.shape[1:])
    for k in terms:
        wave = np.ones(())
        for number, n in zip(k, x.shape[1:], strict=True):
            cosine = np.cos(np.pi * number * (np.arange(n) + 0.5) / n) * (np.sqrt(2) if number else 1)
            wave = np.multiply.outer(wave, cosine)
        log += drawn[k] * wave / np.sqrt(sum(drawn[term] ** 2 for term in terms))
    field = np.exp(draws(key, row)("bias_field strength", *c.strength) * log)
    return np.clip(x * field / field[valid[0]].mean(), 0, 1)


def exposure(c: Exposure, x: np.ndarray, valid: np.ndarray, key: Key, row: int) -> np.ndarray:
    gain, k = (np.exp(draws(key, row)(f"exposure {w}", *np.log(getattr(c, w)))) for w in ("gain", "attenuation"))
    return np.clip(1 - gain * (1 - x) ** k, 0, 1)


def speckle(c: Speckle, x: np.ndarray, valid: np.ndarray, key: Key, row: int) -> np.ndarray:
    d = x.ndim - 1
    grain = draws(key, row)("speckle grain", *c.grain) * max(x.shape[1:])
    waves = normal(key, "speckle field", (2, *x.shape[1:]))[row].double().numpy()
    for axis, n in enumerate(x.shape[1:]):
        width = grain * (1 if axis == d - 2 else 2)
        kernel = np.exp(-((np.arange(n)[:, None] - np.arange(n)) ** 2) / (2 * width**2))
        kernel /= np.sqrt((kernel**2).sum(1, keepdims=True))
        waves = np.moveaxis(np.tensordot(kernel, waves, (1, axis + 1)), 0, axis + 1)
    rayleigh = np.hypot(*waves) * np.sqrt(2 / np.pi)
    return np.clip(x * (1 + draws(key, row)("speckle strength", *c.strength) * (rayleigh - 1)), 0, 1)


def depth_gain(c: DepthGain, x: np.ndarray, valid: np.ndarray, key: Key, row: int) -> np.ndarray:
    n = x.shape[-2]
    depth = np.linspace(-0.5, 0.5, 2 * n + 1)[1::2, None]
    return np.clip(x * np.exp(draws(key, row)("depth_gain slope", *c.slope) * depth), 0, 1)


def stain(c: StainJitter, x: np.ndarray, valid: np.ndarray, key: Key, row: int) -> np.ndarray:
    draw = draws(key, row)
    scale = 1 + draw("stain scale", c.scale[0] - 1, c.scale[1] - 1, (3,))
    shift = draw("stain shift", *c.shift, (3,))
    light = np.maximum(x, 1 / 255)
    amounts = np.tensordot(np.linalg.inv(HED.T), -np.log(light), 1)
    one = (3, *[1] * (x.ndim - 1))
    changed = np.tensordot(HED.T, amounts * scale.reshape(one) + shift.reshape(one), 1)
    return np.clip(np.exp(-changed) * x / light, 0, 1)


FORMULAS = {f.__name__: f for f in (window, bias_field, exposure, speckle, depth_gain, stain)}


@pytest.mark.parametrize("shape", [(20, 20), (72, 72), (9, 9, 9), (30, 72), (5, 12, 9)])
@pytest.mark.parametrize("change", ALL, ids=NAMES)
def test_float32_equals_float64_to_1e_5(change, shape):
    pixels, valid = scans(6, *shape)
    key = Key(3, 5, torch.arange(6), 1)
    changed = change.apply(pixels, valid, key)
    assert changed.shape == pixels.shape and changed.dtype == torch.float32
    assert (changed - pixels).abs().max() > 0.05
    for row in range(6):
        args = (pixels[row].double().numpy(), valid[row].numpy(), key, row)
        np.testing.assert_allclose(changed[row], FORMULAS[change.name](change, *args), atol=1e-5)


@pytest.mark.parametrize("change", NONE, ids=NAMES)
def test_no_strength_is_no_change(change):
    pixels, valid = scans(6, 20, 20)
    changed = change.apply(pixels, valid, Key(0, 0, torch.arange(6), 0))
    torch.testing.assert_close(changed, pixels, atol=2e-6, rtol=0)


@pytest.mark.parametrize("change", ALL, ids=NAMES)
def test_a_row_does_not_depend_on_its_batch(change):
    pixels, valid = scans(6, 20, 20)
    together = change.apply(pixels, valid, Key(3, 5, torch.arange(10, 16), 1))
    for row in (4, 0):
        alone = change.apply(pixels[row : row + 1], valid[row : row + 1], Key(3, 5, torch.tensor([10 + row]), 1))
        torch.testing.assert_close(alone[0], together[row], atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", ALL, ids=NAMES)
def test_a_change_comes_as_often_as_asked_and_values_stay_in_range(change):
    pixels, valid = scans(1500, 6, 6)
    changed = replace(change, probability=0.3).apply(pixels, valid, Key(0, 0, torch.arange(1500), 0))
    assert changed.isfinite().all() and changed.min() >= 0 and changed.max() <= 1
    touched = ((changed - pixels).abs().amax(dim=(1, 2, 3)) > 1e-5).float().mean()
    assert abs(touched - 0.3) < 0.05


def test_windows_move_and_stretch_as_stated():
    # Two greys, seen before anything is clamped, give back the middle and the width of each window.
    flat = torch.full((4000, 1, 2, 2), 0.5)
    flat[:, :, 0] = 0.45
    key = Key(0, 0, torch.arange(4000), 0)
    seen = Window(1.0, (-150.0, 150.0), (0.7, 1.4)).apply(flat, flat > 0, key).double().numpy()
    width = 0.05 / (seen[:, 0, 1, 0] - seen[:, 0, 0, 0])
    level = (0.5 - seen[:, 0, 1, 0]) * width * 2000
    assert stats.kstest(level, stats.uniform(-150, 300).cdf).pvalue > 0.01
    assert stats.kstest(np.log(width), stats.uniform(np.log(0.7), np.log(2)).cdf).pvalue > 0.01


@pytest.mark.parametrize("d", [2, 3])
def test_bias_fields_have_mean_one_and_the_deviation_asked_for(d):
    flat = torch.full((600, 1, *[16] * d), 0.2)
    field = BiasField(1.0, (0.3, 0.3)).apply(flat, flat > 0, Key(0, 0, torch.arange(600), 0)) / 0.2
    one = torch.ones(600)
    torch.testing.assert_close(field.mean(dim=tuple(range(1, d + 2))), one)
    torch.testing.assert_close(field.log().flatten(1).std(dim=1, unbiased=False), 0.3 * one)
    assert field.diff(dim=-1).abs().amax() < 0.4
    assert (field - field.flip(-1)).abs().flatten(1).amax(dim=1).min() > 0.01


def test_exposure_keeps_black_and_white_when_the_dose_is_right():
    ends = torch.tensor([0.0, 1.0]).expand(50, 1, 2, 2).contiguous()
    changed = Exposure(1.0, (1.0, 1.0), (0.5, 2.0)).apply(ends, ends >= 0, Key(0, 0, torch.arange(50), 0))
    torch.testing.assert_close(changed, ends)
    grey = torch.full((4000, 1, 1, 1), 0.5)
    key = Key(0, 0, torch.arange(4000), 0)
    exponent = (1 - Exposure(1.0, (1.0, 1.0), (0.5, 2.0)).apply(grey, grey > 0, key)).log2().neg().log2().flatten()
    assert stats.kstest(exponent.double().numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.01


def test_full_speckle_is_rayleigh_distributed_with_mean_one_up_to_the_border():
    flat = torch.full((3000, 1, 12, 12), 0.2)
    factor = Speckle(1.0, (1.0, 1.0), (0.05, 0.1)).apply(flat, flat > 0, Key(0, 0, torch.arange(3000), 0)) / 0.2
    for place in ((0, 0), (6, 5), (11, 6)):
        values = factor[:, 0, place[0], place[1]].double().numpy()
        assert stats.kstest(values, stats.rayleigh(scale=np.sqrt(2 / np.pi)).cdf).pvalue > 0.01
    assert abs(factor.mean() - 1) < 0.01


def test_speckle_is_one_grain_for_all_channels_wider_across_the_beam_than_along_it():
    flat = torch.full((200, 3, 24, 24), 0.2)
    grey = Speckle(1.0, (1.0, 1.0), (0.04, 0.04)).apply(flat, flat > 0, Key(0, 0, torch.arange(200), 0)) - 0.2
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    along, across = ((grey * grey.roll(2, dims=axis)).mean() for axis in (2, 3))
    assert 0 < 1.5 * along < across


@pytest.mark.parametrize("d", [2, 3])
def test_depth_runs_down_the_last_axis_but_one(d):
    flat = torch.full((300, 1, *[8] * d), 0.3)
    changed = DepthGain(1.0, (-0.7, 0.7)).apply(flat, flat > 0, Key(0, 0, torch.arange(300), 0))
    spread = [float(changed.diff(dim=axis).abs().max()) for axis in range(2, d + 2)]
    assert [value > 1e-3 for value in spread] == [axis == d - 2 for axis in range(d)]
    slope = (changed.select(-2, 7) / changed.select(-2, 0)).log().flatten(1)[:, 0] * 8 / 7
    assert stats.kstest(slope.double().numpy(), stats.uniform(-0.7, 1.4).cdf).pvalue > 0.01


def test_stains_are_scaled_and_shifted_each_on_its_own():
    amounts = np.array([0.5, 0.3, 0.1])
    colour = torch.from_numpy(np.exp(-amounts @ HED)).float()
    pixels = colour.view(1, 3, 1, 1).expand(3000, 3, 1, 1).contiguous()
    key = Key(0, 0, torch.arange(3000), 0)
    for jitter, limits in (
        (StainJitter(1.0, (0.8, 1.2), (0.0, 0.0)), [(0.8 * a, 0.4 * a) for a in amounts]),
        (StainJitter(1.0, (1.0, 1.0), (-0.05, 0.05)), [(a - 0.05, 0.1) for a in amounts]),
    ):
        light = jitter.apply(pixels, pixels[:, :1] > 0, key)[..., 0, 0].double().numpy()
        found = -np.log(light) @ np.linalg.inv(HED)
        for each, limit in zip(found.T, limits, strict=True):
            assert stats.kstest(each, stats.uniform(*limit).cdf).pvalue > 0.01
        assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.08


def test_stains_are_for_three_channels_only():
    pixels, valid = scans(4, 8, 8, channels=2)
    assert torch.equal(
        StainJitter(1.0, (0.5, 2.0), (0.0, 0.5)).apply(pixels, valid, Key(0, 0, torch.arange(4), 0)), pixels
    )


@pytest.mark.parametrize("change", ALL, ids=NAMES)
def test_data_round_trip(change):
    data = data_of(change)
    assert change_of(data) == change
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}
    assert change_of(listed) == change and hash(change_of(listed)) == hash(change)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(SettingsError, match='Nearest: "bias_field"'):
        change_of({"change": "bias_feild", "probability": 1.0})
    with pytest.raises(SettingsError, match='Nearest: "strength"'):
        change_of({"change": "speckle", "probability": 1.0, "strenght": (0, 1)})
    assert set(CHANGES) == set(FORMULAS)


@pytest.mark.parametrize(
    ("data", "setting"),
    [
        ({"change": "window", "probability": 1.5, "level": (0, 0), "width": (1, 1)}, "window.probability"),
        ({"change": "window", "probability": 1, "level": (9, 0), "width": (1, 1)}, "window.level"),
        ({"change": "window", "probability": 1, "level": (0, 0), "width": (0, 1)}, "window.width"),
        ({"change": "window", "probability": 1, "level": (0, 0), "width": (1, 1), "units": 0}, "window.units"),
        ({"change": "bias_field", "probability": 1, "strength": (-0.1, 0)}, "bias_field.strength"),
        ({"change": "bias_field", "probability": 1, "strength": (0, 0), "order": 0}, "bias_field.order"),
        ({"change": "exposure", "probability": 1, "gain": (0, 1), "attenuation": (1, 1)}, "exposure.gain"),
        ({"change": "exposure", "probability": 1, "gain": (1, 1), "attenuation": (2, 1)}, "exposure.attenuation"),
        ({"change": "speckle", "probability": 1, "strength": (0, 2), "grain": (0, 0)}, "speckle.strength"),
        ({"change": "speckle", "probability": 1, "strength": (0, 1), "grain": (0, 1)}, "speckle.grain"),
        ({"change": "depth_gain", "probability": 1, "slope": (-np.inf, 1)}, "depth_gain.slope"),
        ({"change": "stain", "probability": 1, "scale": (-1, 1), "shift": (0, 0)}, "stain.scale"),
        ({"change": "stain", "probability": 1, "scale": (1, 1), "shift": (1, 0)}, "stain.shift"),
    ],
)
def test_wrong_values_are_refused_with_what_is_allowed(data, setting):
    with pytest.raises(SettingsError, match="Allowed") as refused:
        change_of(data)
    assert refused.value.where == f"view.acquisition.{setting}"


FULL = ViewRecipe(
    16,
    acquisition=tuple(ALL),
    intensity_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    gamma=0.2,
    saturation=0.4,
    grey_probability=0.2,
    blur_probability=0.5,
    blur=(0.01, 0.04),
    noise_probability=0.5,
    noise=(0.0, 0.1),
)


def test_acquisition_comes_first_and_padding_stays_black():
    pixels, valid = scans(40, 16, 16)
    key = Key(0, 0, torch.arange(40), 0)
    changed = change(pixels, valid, FULL, key)
    assert (changed[~valid.expand_as(changed)] == 0).all()
    assert changed.min() >= 0 and changed.max() <= 1 and changed.isfinite().all()
    acquired = pixels
    for one in ALL:
        acquired = one.apply(acquired, valid, key) * valid
    torch.testing.assert_close(changed, change(acquired, valid, replace(FULL, acquisition=()), key))


@pytest.mark.parametrize("d", [2, 3])
def test_everything_is_one_graph(d):
    recipe = replace(FULL, spatial_dims=d, size=48 if d == 2 else 8, blur=(0.005, 0.01))
    pixels, valid = scans(4, *recipe.shape)

    def changed(step: torch.Tensor) -> torch.Tensor:
        return change(pixels, valid, recipe, Key(0, step, torch.arange(4), 0))

    compiled = torch.compile(changed, fullgraph=True, dynamic=False, backend="eager")
    for step in (torch.tensor(0), torch.tensor(7)):
        torch.testing.assert_close(compiled(step), changed(step), atol=1e-4, rtol=0)
