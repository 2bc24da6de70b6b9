"""Models Genesis: what is seen, what is to be restored, and which cubes are taken."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from medprior.errors import SettingsError
from medprior.methods.factory import make_config, presets
from medprior.methods.genesis import Genesis
from medprior.views.recipe import base_recipe
from small_methods import batch_of, images, key_of, method_of, view_of

NOTHING = {"flipped": 0, "shuffled": 0, "bent": 0, "painted": 0}
genesis = partial(method_of, Genesis, "genesis")


@pytest.mark.parametrize("dims", [2, 3])
def test_the_loss_is_the_papers(dims: int) -> None:
    """Mean squared error of what a sigmoid gives to the flipped image, over all pixels."""
    method, batch, pixels = genesis(dims), batch_of(), images(dims=dims)
    seen, target = method.deform(pixels, key_of(batch))
    with torch.no_grad():
        restored = 1 / (1 + (-method.decoder(method.encoder(seen))).exp())
        loss = method([view_of(pixels)] * 2, batch)["loss"]
    torch.testing.assert_close(loss, (restored - target).square().mean())
    assert loss <= 1


def mirrored(image: Tensor) -> list[Tensor]:
    axes = range(1, image.ndim)
    return [image.flip(a) for count in range(image.ndim) for a in itertools.combinations(axes, count)]


@pytest.mark.parametrize("dims", [2, 3])
def test_the_target_is_the_image_itself_but_for_flips(dims: int) -> None:
    method, pixels = genesis(dims), images(12, dims=dims)
    seen, target = method.deform(pixels, key_of(batch_of(12)))
    assert all(any(torch.equal(goal, m) for m in mirrored(image)) for goal, image in zip(target, pixels, strict=True))
    assert not torch.equal(target, pixels)
    assert not torch.equal(seen, target)
    assert seen.min() >= 0 and seen.max() <= 1


def test_padding_is_flipped_with_the_image() -> None:
    """Bright padding that were no longer where the image was flipped to would be a target."""
    method, valid = genesis(flipped=1.0), torch.ones(8, 1, 16, 16, 16, dtype=torch.bool)
    valid[..., :4] = False
    for head in method.decoder.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    pixels = torch.full((8, 1, 16, 16, 16), 0.5).masked_fill(~valid, 1.0)
    _, target = method.deform(pixels, key_of(batch_of(8)))
    assert not torch.equal(target, pixels), "some were flipped along the axis of the padding"
    assert method([view_of(pixels, valid)] * 2, batch_of(8))["loss"].item() == 0


@pytest.mark.parametrize(("dims", "size"), [(2, 32), (3, 24)])
@pytest.mark.parametrize("inner", [None, 0.0, 1.0])
def test_hidden_pixels_reach_the_decoder_nowhere(dims: int, size: int, inner: float | None) -> None:
    """A pixel is hidden where nothing that is seen depends on it: painted over, or overwritten by shuffling."""
    painted = {} if inner is None else {**NOTHING, "painted": 1.0, "inner": inner}
    method, batch = genesis(dims, size=size, **painted), batch_of()
    pixels = images(4, dims, size).requires_grad_()
    seen, _ = method.deform(pixels, key_of(batch))
    (slope,) = torch.autograd.grad(seen.sum(), pixels)
    hidden = slope == 0
    assert 0.02 < hidden.float().mean() < 0.98
    given: list[Tensor] = []
    method.decoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    changed = torch.where(hidden, 1 - pixels, pixels).detach()
    (_, _, one), (_, _, other) = (method.reconstruct([view_of(p)] * 2, batch) for p in (pixels.detach(), changed))
    assert torch.equal(one, other)
    assert [len(inputs) for inputs in given] == [1, 1] and not method.decoder.sees_image, "the decoder gets maps alone"


@pytest.mark.parametrize("kind", ["shuffled", "bent", "painted"])
def test_each_deformation_can_be_had_alone(kind: str) -> None:
    method, pixels, key = genesis(2, size=32, **{**NOTHING, kind: 1.0}), images(4, 2, 32), key_of(batch_of())
    seen, target = method.deform(pixels, key)
    assert torch.equal(target, pixels), "and it is not flipped"
    assert all(not torch.equal(one, other) for one, other in zip(seen, pixels, strict=True))
    if kind == "shuffled":
        assert torch.isin(seen, pixels).all(), "no value that was not there"
    if kind == "bent":
        rises = [after.flatten()[p.flatten().argsort()].diff() for after, p in zip(seen, pixels, strict=True)]
        assert all((steps >= 0).all() or (steps <= 0).all() for steps in rises)
    if kind == "painted":
        assert (seen == pixels).any()


def air(count: int = 4) -> Tensor:
    return torch.full((count, 1, 16, 16, 16), 0.02)


def partly(share: float) -> Tensor:
    """That share of it, in whole slices, is denser than air."""
    pixels = air()
    pixels[:, :, : round(16 * share)] = 0.6
    return pixels


@pytest.mark.parametrize(
    ("cubes", "taken"),
    [
        ((air(), partly(0.5)), 1),
        ((partly(0.5), partly(1.0)), 0),
        ((partly(0.125), air()), 0),
        ((air(), partly(0.125)), 1),
        ((air(), air() / 2), 0),
        ((air(), partly(0.125), partly(0.25), partly(1.0)), 2),
        ((air(),), 0),
    ],
)
def test_the_first_cube_that_is_not_mostly_air_is_taken_else_the_densest(cubes: tuple[Tensor, ...], taken: int) -> None:
    method = genesis(tries=len(cubes))
    valid = [torch.full((4, 1, 16, 16, 16), bool(i == taken)) for i in range(len(cubes))]
    pixels, kept = method.choose([view_of(c, v) for c, v in zip(cubes, valid, strict=True)])
    assert torch.equal(pixels, cubes[taken])
    assert kept.all(), "and its padding with it"


def test_each_scan_has_its_own_choice_and_no_other_cube_counts() -> None:
    method, one, other = genesis(), images(), air()
    first, second = torch.cat([one[:2], other[2:]]), torch.cat([other[:2], one[2:]])
    pixels, _ = method.choose([view_of(first), view_of(second)])
    assert torch.equal(pixels, one)
    loss, same = (
        method(views, batch_of())["loss"] for views in ([view_of(first), view_of(second)], [view_of(one)] * 2)
    )
    assert torch.equal(loss, same)


def test_the_papers_cubes_are_of_the_lung() -> None:
    method = genesis(air=0.425, tissue=(0.0, 0.15), tries=3)
    chosen, _ = method.choose([view_of(partly(1.0)), view_of(partly(0.125)), view_of(air())])
    assert torch.equal(chosen, partly(0.125))


@pytest.mark.parametrize(("dims", "pitch"), [(2, None), (3, (1.0, 1.0))])
def test_views_are_undistorted_cubes_of_true_intensity(dims: int, pitch: tuple[float, float] | None) -> None:
    base = replace(base_recipe("SM", 16, dims), pitch=pitch)
    plan = genesis(dims, tries=3).views(base)
    assert len(plan.specs) == 3 and len(plan.groups) == 1
    recipe = plan.specs[0].recipe
    assert (recipe.aspect, recipe.flips, recipe.pitch, recipe.rotation) == ((1.0, 1.0), (), pitch, 0)
    assert replace(recipe, scale=(1.0, 1.0), within="frame", pitch=None) == base.plain(), "nothing else changes"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shuffled": 0, "bent": 0, "painted": 0}, "nothing is left to restore"),
        ({"tissue": (0.5, 0.1)}, "from the least share to the greatest"),
        ({"painted": 1.2}, "less than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make_config("genesis", overrides=settings)


def test_the_paper_preset_is_the_papers() -> None:
    paper = presets("genesis")["paper"]
    config = paper["config"]
    assert [config[odds] for odds in ("flipped", "shuffled", "bent", "painted", "inner")] == [0.4, 0.5, 0.9, 0.9, 0.2]
    assert config["air"] == (-150 + 1000) / 2000 and config["tissue"] == [0, 0.15]
    training = paper["training"]
    assert [training[name] for name in ("optimizer", "lr", "momentum", "weight_decay", "batch_size")] == [
        "sgd",
        1.0,
        0.9,
        0.0,
        6,
    ]
