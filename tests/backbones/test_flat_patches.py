"""Masked autoencoders on patches that are no cubes, and the cutting of those."""

import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.backbones.patches import cut, join
from medprior.methods.factory import create_method
from medprior.methods.mae import MAE
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.objectives.reconstruction import patchify, unpatchify
from medprior.views.view import View


def test_cubes_are_cut_as_elsewhere() -> None:
    images = torch.rand(2, 3, 8, 12, 4)
    assert torch.equal(cut(images, (4, 4, 4)), patchify(images, 4))
    assert torch.equal(join(patchify(images, 4), (4, 4, 4), (2, 3, 1)), unpatchify(patchify(images, 4), 4, (2, 3, 1)))


@pytest.mark.parametrize(("sides", "extents"), [((2, 4, 3), (6, 8, 9)), ((1, 5), (3, 10))])
def test_flat_patches_are_windows_in_raster_order(sides: tuple[int, ...], extents: tuple[int, ...]) -> None:
    images, dims = torch.rand(2, 2, *extents), len(extents)
    patches = cut(images, sides)
    grid = [extent // side for extent, side in zip(extents, sides, strict=True)]
    cells = list(torch.cartesian_prod(*map(torch.arange, grid)))
    assert patches.shape[1] == len(cells)
    for patch, cell in zip(patches.unbind(1), cells, strict=True):
        window = images[
            (..., *[slice(int(n) * side, (int(n) + 1) * side) for n, side in zip(cell, sides, strict=True)])
        ]
        assert torch.equal(patch, window.movedim(1, 1 + dims).flatten(1)), "channels run fastest"
    assert torch.equal(join(patches, sides, grid), images)


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
