"""Heat maps: they lie on what alone decides a class, change with the weights, and leave the encoder as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import create_encoder
from medprior.tasks.saliency import Score, answer_score, grad_cam, heat_map, token_relevance

Trained = tuple[Encoder, nn.Linear, int]


def planted(count: int, dims: int, side: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise (N, 1, *S) in which every second image has a bright blob a quarter wide in one of the 4**d places, which
    alone makes it class 1; and where that is, (N, 4, 4[, 4])."""
    draw = torch.Generator().manual_seed(seed)
    label, cells = torch.arange(count) % 2, 4**dims
    place = functional.one_hot(torch.randint(cells, (count,), generator=draw), cells).reshape(count, 1, *[4] * dims)
    blob = functional.interpolate(place.float(), size=(side,) * dims) * label.view(-1, *[1] * (dims + 1))
    noise = 0.3 + 0.1 * torch.rand(count, 1, *[side] * dims, generator=draw)
    return torch.where(blob > 0, 0.9, noise), label, place[:, 0]


@pytest.fixture(scope="module", params=[("test_resnet", 2, 32, 40), ("test_vit", 2, 64, 30)], ids=str)
def trained(request: pytest.FixtureRequest) -> Trained:
    """A model that tells the blob from noise."""
    name, dims, side, steps = request.param
    encoder = create_encoder(name, spatial_dims=dims, size=side, seed=0, mean=[0.4], std=[0.2]).train()
    torch.manual_seed(0)
    head = nn.Linear(encoder.embed_dim, 2)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3 if "res" in name else 2e-3)
    for step in range(steps):
        pixels, label, _ = planted(16, dims, side, seed=100 + step)
        loss = functional.cross_entropy(head(encoder.pool(encoder(pixels))), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return encoder.eval(), head, side


def test_the_mass_lies_on_the_blob_that_alone_decides(trained: Trained) -> None:
    encoder, head, side = trained
    pixels, label, places = planted(12, encoder.spatial_dims, side, seed=1)
    with torch.no_grad():
        assert (head(encoder.pool(encoder(pixels))).argmax(1) == label).all()
    for one, place in zip(pixels[label == 1], places[label == 1], strict=True):
        found = heat_map(encoder, answer_score(head, "binary", 1), one)
        assert found is not None and found.heat.shape == place.shape and found.heat.min() >= 0
        assert found.heat.max() == 1 and place.flatten()[found.heat.argmax()]
        assert 1 / found.heat.sum() > 0.4  # of 16 cells, or 64


def test_with_random_weights_the_map_changes(trained: Trained) -> None:
    """Adebayo et al., NeurIPS 2018: a map that stays says nothing of the model."""
    encoder, head, side = trained
    fresh = create_encoder(**encoder.spec, seed=7, mean=[0.4], std=[0.2]).eval()
    pixels, label, _ = planted(12, encoder.spatial_dims, side, seed=1)
    score, apart = answer_score(head, "binary", 1), []
    for one in pixels[label == 1]:
        ours, theirs = heat_map(encoder, score, one), heat_map(fresh, score, one)
        assert ours is not None and theirs is not None and theirs.heat.max() > 0
        apart.append(float((ours.heat / ours.heat.sum() - theirs.heat / theirs.heat.sum()).abs().sum() / 2))
    assert min(apart) > 0.05 and sum(apart) / len(apart) > 0.15  # of 1, where no mass lies in the same place


def test_the_encoder_is_left_as_it_was(trained: Trained) -> None:
    encoder, head, side = trained
    before = copy.deepcopy(encoder.state_dict())
    (image,), *_ = planted(1, encoder.spatial_dims, side, seed=2)
    maps = [heat_map(encoder, answer_score(head, "binary", 0), image) for _ in range(2)]
    assert maps[0] is not None and maps[1] is not None and torch.equal(maps[0].heat, maps[1].heat)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not any(layer._forward_hooks for layer in encoder.modules())


def test_under_mean_pooling_grad_cam_is_the_class_activation_map() -> None:
    """Zhou et al., CVPR 2016: the head's weights on the map itself, here in float64."""
    encoder = create_encoder("test_resnet", size=128, seed=0).double().eval()
    head = nn.Linear(encoder.embed_dim, 3).double()
    pixels = torch.rand(2, 1, 128, 128, dtype=torch.float64)
    with torch.no_grad():
        last = encoder(pixels)[-1]
        expected = torch.einsum("c,bchw->bhw", head.weight[2], last).clamp(min=0) / last[0, 0].numel()
    found = grad_cam(encoder, lambda features: head(features)[:, 2], pixels)
    assert last.shape[2:] == (4, 4)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_relevance_of_one_block_is_its_weighted_attention() -> None:
    """With one block R - I is the attention times its positive slope, here by finite differences."""
    encoder = create_encoder("test_vit", size=32, seed=0).double().eval()
    encoder.network.blocks = encoder.network.blocks[:1]
    head = nn.Linear(encoder.embed_dim, 2).double()
    score: Score = answer_score(head, "binary", 1)
    pixels, layer = torch.rand(1, 1, 32, 32, dtype=torch.float64), encoder.network.blocks[0].attn
    layer.fused_attn, attention, shift = False, [], torch.zeros(1, dtype=torch.float64)

    def shifted(_: nn.Module, __: object, found: Tensor) -> Tensor:
        attention.append(found)
        return found + shift

    hook = layer.attn_drop.register_forward_hook(shifted)
    with torch.no_grad():
        base = score(encoder.pool(encoder(pixels)))
        seen = attention[0]
        slopes = torch.zeros_like(seen)
        for at in torch.cartesian_prod(*map(torch.arange, seen.shape)).tolist():
            shift = torch.zeros_like(seen)
            shift[tuple(at)] = 1e-6
            slopes[tuple(at)] = (score(encoder.pool(encoder(pixels))) - base) / 1e-6
    hook.remove()
    expected = (seen * slopes).clamp(min=0).mean(1)[:, 1:, 1:].mean(1)
    torch.testing.assert_close(token_relevance(encoder, score, pixels).flatten(1), expected, rtol=1e-4, atol=1e-9)


def test_the_score_is_the_log_odds_of_the_answer() -> None:
    head, features = nn.Linear(5, 3).double(), torch.randn(4, 5, dtype=torch.float64)
    chances = head(features).softmax(1)
    for label in range(3):
        torch.testing.assert_close(
            answer_score(head, "multiclass", label)(features), (chances[:, label] / (1 - chances[:, label])).log()
        )
    present = head(features).sigmoid()[:, 1]
    torch.testing.assert_close(answer_score(head, "multilabel", 1)(features), (present / (1 - present)).log())
    torch.testing.assert_close(answer_score(head, "multilabel", 1, False)(features), ((1 - present) / present).log())


@pytest.mark.parametrize(
    ("name", "dims", "cells"),
    [("test_efficientnet", 2, (4, 4)), ("swin_tiny", 2, (2, 2)), ("test_resnet", 3, (4, 4, 4)), ("unet_4", 2, None)],
)
def test_other_encoders_have_a_map_on_their_deepest_fine_features_or_none(
    name: str, dims: int, cells: tuple[int, ...] | None
) -> None:
    side = 64 if dims == 2 else 32
    encoder = create_encoder(name, spatial_dims=dims, size=side, seed=0)
    score = answer_score(nn.Linear(encoder.embed_dim, 2), "binary", 1)
    found = heat_map(encoder, score, torch.rand(1, *[side] * dims))
    assert (found and tuple(found.heat.shape)) == cells
