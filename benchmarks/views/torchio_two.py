"""torchio 2: whole batches on the device. An alpha release at the time of writing."""

from __future__ import annotations

import math

import torch
import torchio as tio
from solid import BLUR, DEGREES, GAMMA, NOISE, SIZE, side
from torch import Tensor
from ways import Cut, Range, Way, other_way


def torchio_ways(whole: Tensor) -> list[Way]:
    stored = whole.shape[-1]
    return [
        other_way(f"torchio {tio.__version__}, {name}", whole, cutter(stored, on), change(stored), aspect=(1, 1))
        for name, on in (("plain", False), ("filtered", True))
    ]


def cutter(stored: int, antialias: bool):
    step = stored / SIZE
    affine = torch.diag(torch.tensor([step, step, step, 1.0], dtype=torch.float64))
    affine[:3, 3] = (step - 1) / 2  # both grids share their outer edges

    def make(share: Range, aspect: Range) -> Cut:
        low, high = side(share)
        transform = tio.Spatial(
            target=((SIZE,) * 3, affine.numpy()),
            scales=(1 / high, 1 / low),
            isotropic=True,
            degrees=(-DEGREES, DEGREES),
            translation=(-(1 - high) * stored / 2 - 1, (1 - high) * stored / 2 + 1),
            antialias=antialias,
            default_pad_value=0.0,
            copy=False,
        )
        return lambda images: transform(as_batch(images)).images["scan"].data

    return make


def change(stored: int) -> Cut:
    step, most = stored / SIZE, math.log1p(GAMMA)
    transform = tio.Compose(
        [
            tio.Gamma(log_gamma=(-most, most), p=0.8),
            tio.Blur(std=(BLUR[0] * step, BLUR[1] * step), p=0.5),
            tio.Noise(std=NOISE, p=0.5),
        ],
        copy=False,
    )
    return lambda views: transform(as_batch(views, step)).images["scan"].data.clamp(0, 1)


def as_batch(images: Tensor, step: float = 1.0) -> tio.SubjectsBatch:
    affines = [tio.AffineMatrix(torch.diag(torch.tensor([step, step, step, 1.0]))) for _ in images]
    return tio.SubjectsBatch({"scan": tio.ImagesBatch(images, affines)})
