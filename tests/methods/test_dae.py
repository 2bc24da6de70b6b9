"""Disruptive autoencoders: what is disrupted, how much of it, and that nothing leads around it."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from medprior.backbones.unet import UNetDecoder
from medprior.errors import SettingsError
from medprior.methods.dae import DAE
from medprior.methods.factory import make_config, presets
from medprior.methods.method import Batch
from medprior.views.recipe import base_recipe
from small_methods import batch_of, images, key_of, method_of, view_of

ALONE = {"variance": 0.0, "factor": 1, "mask_ratio": 0.0}
dae = partial(method_of, DAE, "dae")


def hidden_channels(method: DAE, layer: nn.Module, pixels: Tensor, batch: Batch) -> Tensor:
    """(B, C) bool: channels of the embedding that are 0 at every position, as the next layer gets it."""
    given: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, __, made: given.append(made))
    with torch.no_grad():
        method([view_of(pixels)], batch)
    hook.remove()
    return (given[0] == 0).flatten(2).all(2)


def test_the_loss_is_the_mean_distance_to_the_clean_image_over_the_whole_of_it() -> None:
    method, batch, pixels = dae(mask_ratio=0.0), batch_of(), images()
    seen = method.disrupt(pixels, key_of(batch))
    with torch.no_grad():
        restored = method.decoder(method.encoder(seen), seen)
        loss = method([view_of(pixels)], batch)["loss"]
    torch.testing.assert_close(loss, (restored - pixels).abs().mean())


@pytest.mark.parametrize("dims", [2, 3])
def test_noise_comes_first_and_then_every_fourth_pixel_stands_for_its_block(dims: int) -> None:
    method, pixels = dae(dims), images(64, dims)
    seen = method.disrupt(pixels, key_of(batch_of(64)))
    corner = (..., *[slice(None, None, 4)] * dims)
    blocks = seen[corner]
    for axis in range(2, 2 + dims):
        blocks = blocks.repeat_interleave(4, axis)
    assert torch.equal(seen, blocks)
    noise = (seen - pixels)[corner]
    assert abs(noise.mean()) < 5 * (0.1 / noise.numel()) ** 0.5
    assert noise.var().item() == pytest.approx(0.1, rel=6 * (2 / noise.numel()) ** 0.5)
    assert seen.min() < 0 and seen.max() > 1, "what leaves [0, 1] is not cut off"


def test_28_of_the_48_channels_of_swin_unetr_are_hidden() -> None:
    method = dae(2, "swin_unetr", 32)
    hidden = hidden_channels(method, method.encoder.network.patch_embed.proj, images(3, 2, 32), batch_of(3))
    assert hidden.shape == (3, 48) and hidden.sum(1).tolist() == [28] * 3
    assert not torch.equal(hidden[0], hidden[1]), "each sample has its own"


@pytest.mark.parametrize(("scope", "alike"), [("sample", False), ("batch", True)])
def test_the_share_of_a_u_net_rounded_down(scope: str, alike: bool) -> None:
    method = dae(backbone="unet_8", scope=scope)
    layer = method.encoder.network.stages[0][0].conv
    hidden, again, later = (hidden_channels(method, layer, images(), batch_of(step=step)) for step in (0, 0, 1))
    assert hidden.sum(1).tolist() == [4] * 4  # int(0.6 * 8)
    assert bool((hidden == hidden[0]).all()) == alike
    assert torch.equal(hidden, again) and not torch.equal(hidden, later)


def test_the_share_of_a_plain_transformers_tokens() -> None:
    method, given = dae(backbone="vit_micro_patch8"), []
    method.encoder.network.norm_pre.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    method([view_of(images())], batch_of())
    tokens = given[0][:, method.encoder.prefix :]
    assert tokens.shape == (4, 8, 128)
    assert (tokens == 0).all(1).sum(1).tolist() == [76] * 4  # int(0.6 * 128)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("settings", [{}, {"variance": 0.0}, {**ALONE, "factor": 4}])
def test_pixels_that_are_not_sampled_reach_nothing(dims: int, settings: dict[str, float]) -> None:
    method, batch, pixels = dae(dims, **settings), batch_of(), images(dims=dims)
    kept = torch.zeros(pixels.shape, dtype=torch.bool)
    kept[(..., *[slice(None, None, 4)] * dims)] = True
    changed = torch.where(kept, pixels, 1 - pixels)
    (_, seen, one), (_, same, other) = (method.reconstruct([view_of(p)], batch) for p in (pixels, changed))
    assert torch.equal(seen, same) and torch.equal(one, other)


def given_to_the_decoder(method: DAE, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
    given: list[tuple[list[Tensor], Tensor]] = []
    method.decoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    with torch.no_grad():
        method([view_of(pixels)], batch_of())
    return given[0]


@pytest.mark.parametrize("settings", [{}, {**ALONE, "variance": 0.1}, {**ALONE, "factor": 2}])
def test_the_decoder_sees_the_image_as_it_was_disrupted(settings: dict[str, float]) -> None:
    method, pixels = dae(**settings), images()
    _, image = given_to_the_decoder(method, pixels)
    assert method.decoder.sees_image
    assert torch.equal(image, method.disrupt(pixels, key_of(batch_of())))
    assert all(not torch.equal(one, other) for one, other in zip(image, pixels, strict=True))


def test_hidden_channels_alone_leave_the_decoder_no_clean_image() -> None:
    method, pixels = dae(**{**ALONE, "mask_ratio": 0.6}), images()
    maps, image = given_to_the_decoder(method, pixels)
    assert torch.equal(image, pixels) and not method.decoder.sees_image
    with torch.no_grad():
        other = method.decoder(maps, 1 - image)
        assert torch.equal(method.decoder(maps), other), "what it is handed does not reach it"
    everything_hidden = torch.zeros_like(pixels)
    assert not torch.equal(maps[0], method.encoder(everything_hidden)[0])


def test_a_hidden_channel_is_no_way_for_the_image_to_the_decoder() -> None:
    """The weights that make hidden channels may be anything: neither the loss nor another weight notices."""
    method, batch, pixels = dae(backbone="unet_8", scope="batch"), batch_of(), images()
    convolution = method.encoder.network.stages[0][0].conv
    (hidden,) = hidden_channels(method, convolution, pixels, batch).unique(dim=0)
    with torch.no_grad():
        before = method([view_of(pixels)], batch)["loss"]
        convolution.weight[hidden] += 3.0
        assert torch.equal(method([view_of(pixels)], batch)["loss"], before)
    method([view_of(pixels)], batch)["loss"].backward()
    assert (convolution.weight.grad[hidden] == 0).all() and (convolution.weight.grad[~hidden] != 0).any()


@pytest.mark.parametrize(("dims", "pitch"), [(2, None), (3, (1.0, 1.0))])
def test_the_view_is_one_undistorted_crop(dims: int, pitch: tuple[float, float] | None) -> None:
    base = replace(base_recipe("SM", 16, dims), pitch=pitch)
    (spec,) = dae(dims).views(base).specs
    assert (spec.recipe.aspect, spec.recipe.flips, spec.recipe.pitch) == ((1.0, 1.0), (), pitch)
    assert replace(spec.recipe, scale=(1.0, 1.0), within="frame", pitch=None) == base.plain(), "nothing else changes"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ALONE, "nothing is left to restore"),
        ({"contrast": 0.03}, "no cross-modal contrast, since batches do not say which modality"),
        ({"scope": "token"}, "'sample' or 'batch'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make_config("dae", overrides=settings)


def test_a_factor_that_does_not_divide_the_views_is_refused_before_training() -> None:
    with pytest.raises(SettingsError, match=r"16 x 16 x 16 cannot be reduced by 3"):
        dae(factor=3)


def test_the_paper_preset_is_the_papers() -> None:
    paper = presets("dae")["paper"]
    assert paper["config"] == {"variance": 0.1, "factor": 4, "mask_ratio": 0.6, "scope": "sample"}
    training = paper["training"]
    assert (training["optimizer"], training["lr"], training["batch_size"], training["clip"]) == ("adamw", 1e-4, 16, 1.0)
    assert training["lr"] * training["min_lr"] == pytest.approx(1e-5)
    assert training["warmup"] * training["epochs"] == pytest.approx(4)
    assert isinstance(dae(2).decoder, UNetDecoder)
