"""What holds for every corruption, and the whole deformation beside a NumPy version written from the figures."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from medprior.errors import SettingsError
from medprior.views.bezier import bend_intensities
from medprior.views.corruption import add_noise, deform, down_and_up, flip_repeatedly
from medprior.views.cutting import cut_out
from medprior.views.draws import Key
from medprior.views.masking import mask_blocks, mask_channels
from medprior.views.painting import paint, paint_in, paint_out
from medprior.views.shuffling import shuffle_locally

Corruption = Callable[[torch.Tensor, Key], torch.Tensor]
SIZES = [(24, 20), (20, 16, 24)]
CORRUPTIONS: dict[str, Corruption] = {
    "flip": flip_repeatedly,
    "shuffle": shuffle_locally,
    "bend": bend_intensities,
    "paint": paint,
    "paint in": paint_in,
    "paint out": paint_out,
    "noise": add_noise,
    "down and up": lambda pixels, key: down_and_up(pixels, 4),
    "channels": mask_channels,
    "channels of the batch": lambda pixels, key: mask_channels(pixels, key, scope="batch"),
    "cut": cut_out,
    "replace": lambda pixels, key: cut_out(pixels, key, other=1 - pixels),
    "blocks": lambda pixels, key: pixels * ~mask_blocks(key, pixels.shape[2:], 5, 0.5),
    "deform": lambda pixels, key: torch.cat(deform(pixels, key), dim=1),
}
each = pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
in_2d_and_3d = pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])


def plain():
    """The NumPy version."""
    file = Path(__file__).parents[2] / "benchmarks" / "corruptions" / "plain.py"
    spec = importlib.util.spec_from_file_location("plain_corruptions", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images(batch: int, size: tuple[int, ...], channels: int = 3) -> torch.Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def key_of(rows: torch.Tensor | int, step: int = 5) -> Key:
    return Key(3, step, torch.arange(rows) if isinstance(rows, int) else rows, 1)


@each
@in_2d_and_3d
def test_a_corruption_changes_something_and_leaves_what_it_is_given(corrupt, size):
    pixels = images(8, size)
    before = pixels.clone()
    changed = corrupt(pixels, key_of(8))
    assert torch.equal(pixels, before)
    assert changed.dtype == torch.float32 and changed.shape[2:] == pixels.shape[2:] and len(changed) == 8
    assert changed.isfinite().all() and (changed[:, :3] - pixels).abs().max() > 0.1


@each
@in_2d_and_3d
def test_a_sample_does_not_depend_on_its_batch(corrupt, size):
    pixels = images(6, size)
    together = corrupt(pixels, key_of(torch.arange(40, 46)))
    order = torch.tensor([3, 0, 5])
    assert torch.equal(corrupt(pixels[order], key_of(order + 40)), together[order])
    assert torch.equal(corrupt(pixels[4:5], key_of(torch.tensor([44]))), together[4:5])


@each
def test_seed_step_row_and_view_each_change_what_is_drawn(corrupt):
    pixels = images(1, (24, 20)).expand(8, -1, -1, -1).contiguous()
    rows = torch.arange(8)
    keys = [Key(3, 5, rows, 1), Key(4, 5, rows, 1), Key(3, 6, rows, 1), Key(3, 5, rows + 8, 1), Key(3, 5, rows, 2)]
    results = [corrupt(pixels, key) for key in keys]
    assert torch.equal(results[0], corrupt(pixels, keys[0]))
    if corrupt is CORRUPTIONS["down and up"]:
        return
    shared = corrupt is CORRUPTIONS["channels of the batch"]
    for result in results[1:3] if shared else results[1:]:
        assert not torch.equal(results[0], result)


@each
@in_2d_and_3d
def test_channels_last_in_memory_changes_no_number(corrupt, size):
    pixels = images(3, size)
    last = pixels.movedim(1, -1).contiguous().movedim(-1, 1)
    assert torch.equal(corrupt(last, key_of(3)), corrupt(pixels, key_of(3)))


def assert_one_graph(corrupt: Corruption, size: tuple[int, ...], backend: str) -> None:
    pixels = images(3, size)

    def corrupted(step: torch.Tensor) -> torch.Tensor:
        return corrupt(pixels, Key(3, step, torch.arange(3), 1))

    torch.compiler.reset()  # what other tests compiled counts against the limit of recompilations
    compiled = torch.compile(corrupted, fullgraph=True, dynamic=False, backend=backend)
    for step in (torch.tensor(0), torch.tensor(7)):
        assert torch.equal(compiled(step), corrupted(step))


@each
def test_a_corruption_is_one_graph(corrupt):
    assert_one_graph(corrupt, SIZES[1], "eager")


@pytest.mark.slow
@each
def test_a_corruption_of_images_is_one_graph(corrupt):
    assert_one_graph(corrupt, SIZES[0], "eager")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deform", "cut", "blocks"])
@pytest.mark.parametrize("size", SIZES[-1:])
def test_the_graph_needs_no_change_in_place(name, size):
    assert_one_graph(CORRUPTIONS[name], size, "aot_eager")


class Doubles(TorchDispatchMode):
    """Remembers the operations that make numbers of 64 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            self.found.append(str(func))
        return result


@each
@in_2d_and_3d
def test_no_number_has_64_bits(corrupt, size):
    pixels = images(2, size)
    with Doubles() as doubles:
        corrupt(pixels, key_of(2))
    assert doubles.found == []


@in_2d_and_3d
def test_the_deformation_is_its_steps_in_order(size):
    pixels, key = images(40, size), key_of(40)
    seen, target = deform(pixels, key)
    assert torch.equal(target, flip_repeatedly(pixels, key))
    assert torch.equal(seen, paint(bend_intensities(shuffle_locally(target, key), key), key))
    assert seen.min() >= 0 and seen.max() <= 1


def test_a_probability_of_nothing_leaves_a_step_out():
    pixels, key = images(20, (24, 20)), key_of(20)
    seen, target = deform(pixels, key, flipped=0, shuffled=0, bent=0, painted=0)
    assert torch.equal(seen, pixels) and torch.equal(target, pixels)
    seen, target = deform(pixels, key, flipped=1, shuffled=0, bent=0, painted=1, inner=1)
    assert torch.equal(seen, paint_in(target, key))


@pytest.mark.parametrize("d", [2, 3])
def test_flips_come_as_often_as_specified(d):
    # Each pixel holds its own place, so that the first one tells which axes were flipped.
    rows = 20_000
    places = torch.stack(torch.meshgrid(*[torch.arange(2.0)] * d, indexing="ij")).expand(rows, d, *[2] * d)
    flipped = flip_repeatedly(places, key_of(rows)).flatten(2)[..., 0].bool()
    counted = np.bincount((flipped * 2 ** torch.arange(d)).sum(dim=1), minlength=2**d)
    expected = np.zeros(2**d)
    for count, odds in enumerate((0.6, 0.4 * 0.6, 0.16 * 0.6, 0.064)):
        for axes in product(range(d), repeat=count):
            found = 0
            for axis in axes:
                found ^= 2**axis
            expected[found] += odds / d**count
    assert stats.chisquare(counted, rows * expected).pvalue > 1e-3


def test_noise_is_normal_with_the_variance_asked_for():
    noise = add_noise(torch.full((20, 2, 16, 16), 0.5), key_of(20), variance=0.1) - 0.5
    assert stats.kstest(noise.flatten().numpy(), stats.norm(0, np.sqrt(0.1)).cdf).pvalue > 0.01


@in_2d_and_3d
def test_down_and_up_is_two_nearest_resamples(size):
    pixels = images(2, size)
    small = torch.nn.functional.interpolate(pixels, scale_factor=0.25, mode="nearest")
    expected = torch.nn.functional.interpolate(small, size=size, mode="nearest")
    assert torch.equal(down_and_up(pixels, 4), expected)


def test_a_factor_must_divide_every_side():
    with pytest.raises(SettingsError, match="24 x 20 cannot be reduced by 8"):
        down_and_up(images(1, (24, 20)), 8)


SHAPE = (20, 20, 14)
ROWS = 150


def measures(seen: np.ndarray, target: np.ndarray) -> list[float]:
    """What a deformation did to an image: share of pixels changed, mean change, mean, spread, roughness."""
    changed = np.abs(seen - target)
    return [(changed > 1e-4).mean(), changed.mean(), seen.mean(), seen.std(), np.abs(np.diff(seen, axis=1)).mean()]


@pytest.mark.parametrize(
    "odds",
    [
        pytest.param({}, id="all"),
        pytest.param({"bent": 0.0, "painted": 0.0}, id="shuffled", marks=pytest.mark.slow),
        pytest.param({"shuffled": 0.0, "painted": 0.0}, id="bent", marks=pytest.mark.slow),
        pytest.param({"shuffled": 0.0, "bent": 0.0}, id="painted", marks=pytest.mark.slow),
    ],
)
def test_deformations_are_distributed_as_in_numpy(odds, monkeypatch):
    reference, rng = plain(), np.random.default_rng(0)
    windows = round(10_000 / (64 * 64 * 32) * np.prod(SHAPE))
    smooth = np.add.outer(np.add.outer(np.linspace(0, 0.5, 20) ** 2, np.linspace(0, 0.6, 20)), np.linspace(0, 0.1, 14))
    image = smooth.astype(np.float32)[None]
    seen, target = deform(torch.from_numpy(image).expand(ROWS, 1, *SHAPE), key_of(ROWS), **odds)
    here = np.array([measures(*pair) for pair in zip(seen.numpy(), target.numpy(), strict=True)])
    for step, name in (("bend", "bent"), ("paint", "painted")):
        if odds.get(name) == 0:
            monkeypatch.setattr(reference, step, lambda image, *_: image)
    if odds.get("shuffled") == 0:
        windows = 0
    there = np.array([measures(*reference.deform(image, rng, windows)) for _ in range(ROWS)])
    for mine, theirs in zip(here.T, there.T, strict=True):
        assert stats.ks_2samp(mine, theirs).pvalue > 0.005
