"""What tests of single methods share: a method on a small encoder, smooth images for it, whole views and batches."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from medprior.backbones.factory import create_encoder
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, Clock, DataFacts, Method
from medprior.views.draws import Key
from medprior.views.view import View

M = TypeVar("M", bound=Method)


def method_of(
    kind: type[M], name: str, dims: int = 3, backbone: str = "unet_2", size: int = 16, **settings: object
) -> M:
    """The method `name`, which has to be of this kind, in training."""
    encoder, facts = create_encoder(backbone, 1, dims, size, seed=0), DataFacts(9, 1, dims, size, (0.5,), (0.25,))
    method = create_method(name, encoder, overrides=settings, facts=facts)
    assert isinstance(method, kind)
    return method.train()


def view_of(pixels: Tensor, valid: Tensor | None = None) -> View:
    """Of whole images, all of them valid unless told."""
    dims = pixels.ndim - 2
    valid = torch.ones_like(pixels[:, :1], dtype=torch.bool) if valid is None else valid
    return View(pixels, valid, torch.eye(dims, dims + 1).expand(len(pixels), -1, -1))


def smooth(count: int, dims: int, size: int, grid: int = 4) -> Tensor:
    """(count, 1, *S) in [0, 1], drawn on a grid of so many points and smooth between them."""
    drawn = torch.rand(count, 1, *[grid] * dims, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(drawn, size=[size] * dims, mode={2: "bilinear", 3: "trilinear"}[dims])


def images(count: int = 4, dims: int = 3, size: int = 16) -> Tensor:
    """Smooth ones, denser than air."""
    return 0.1 + 0.9 * smooth(count, dims, size)


def batch_of(count: int = 4, step: int = 0, first: int = 0) -> Batch:
    """Of every seventh row, from seven times `first`."""
    return batch_at([row * 7 for row in range(first, first + count)], step)


def batch_at(rows: list[int], step: int = 0) -> Batch:
    return Batch(torch.tensor(rows), seed=3, clock=Clock(step, 10))


def key_of(batch: Batch) -> Key:
    return Key(batch.seed, batch.step, batch.index, view=0)
