"""Masked autoencoders on patches that are no cubes."""

import torch

from medprior.backbones.factory import create_encoder
from medprior.methods.factory import create_method
from medprior.methods.mae import MAE
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.views.view import View


def make() -> MAE:
    encoder = create_encoder("vit_micro_patch8", 2, 3, 32, seed=0, spacing=(5.0, 1.0, 1.0))
    settings = {"decoder_width": 48, "decoder_depth": 1, "decoder_heads": 4}
    facts = DataFacts(10, 2, 3, 32, (0.5, 0.5), (0.25, 0.25))
    method = create_method("mae", encoder, overrides=settings, facts=facts)
    assert isinstance(method, MAE)
    return method


def view_of(pixels: torch.Tensor, valid: torch.Tensor | None = None) -> View:
    valid = torch.ones_like(pixels[:, :1], dtype=torch.bool) if valid is None else valid
    return View(pixels, valid, torch.eye(3, 4).expand(len(pixels), -1, -1))


def test_mae_restores_flat_patches() -> None:
    method, batch = make(), Batch(torch.tensor([0, 1]), 0, Clock(0, 10))
    assert method.encoder.sides == (2, 8, 8) and method.encoder.tokens_grid == (3, 4, 4)
    pixels = torch.rand(2, 2, 4, 24, 32)  # not the shape that it was built for
    loss = method([view_of(pixels)], batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    image, masked, restored = method.reconstruct([view_of(pixels)], batch)
    grey = (masked == 0.5).all(1, keepdim=True)
    keep, hidden = method.mask(batch, (2, 3, 4))
    assert grey.sum() == hidden.numel() * 2 * 8 * 8 and keep.shape == (2, 6)
    seen = ~grey.expand_as(image)
    assert torch.equal(masked[seen], image[seen]) and torch.equal(restored[seen], image[seen])


def test_what_is_hidden_or_padding_counts_nowhere() -> None:
    method, batch = make(), Batch(torch.tensor([0]), 0, Clock(0, 10))
    pixels, valid = torch.rand(1, 2, 6, 32, 32), torch.ones(1, 1, 6, 32, 32, dtype=torch.bool)
    valid[:, :, :3] = False
    keep, _ = method.mask(batch, (3, 4, 4))
    with torch.no_grad():
        patches = method.encoder.cut(torch.arange(6 * 32 * 32).view(1, 1, 6, 32, 32))
        shown = torch.zeros(6 * 32 * 32, dtype=torch.bool)
        shown[patches[0, keep[0]].flatten()] = True
        other = torch.where(shown.view(6, 32, 32) | valid, pixels, 0.3)
        assert not torch.equal(other, pixels)
        one, two = (method([view_of(image, valid)], batch)["loss"] for image in (pixels, other))
    assert torch.equal(one, two)
