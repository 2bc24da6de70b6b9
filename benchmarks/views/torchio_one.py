"""torchio 1: one volume after the other, on the CPU; a loader's worker processes run it in parallel."""

from __future__ import annotations

import math

import torch
import torchio as tio
from solid import BLUR, DEGREES, GAMMA, NOISE, SIZE, side
from torch import Tensor
from ways import Cut, Range, Way, other_way


def torchio_ways(whole: Tensor) -> list[Way]:
    note = "one volume after the other on the CPU"
    return [other_way(f"torchio {tio.__version__}", whole, cutter, one_by_one(change()), aspect=(1, 1), note=note)]


def cutter(share: Range, aspect: Range) -> Cut:
    """Its affine transform keeps the size, so the volume is shrunk within its frame and the middle is kept."""
    low, high = side(share)
    shrink = (SIZE / 64 / high, SIZE / 64 / low)
    return one_by_one(
        tio.Compose(
            [
                tio.RandomAffine(scales=shrink, isotropic=True, degrees=DEGREES, translation=1, default_pad_value=0),
                tio.CropOrPad(SIZE),
            ]
        )
    )


def change() -> tio.Transform:
    most = math.log1p(GAMMA)
    return tio.Compose(
        [
            tio.RandomGamma(log_gamma=(-most, most), p=0.8),
            tio.RandomBlur(std=BLUR, p=0.5),
            tio.RandomNoise(std=NOISE, p=0.5),
        ]
    )


def one_by_one(transform: tio.Transform) -> Cut:
    return lambda images: torch.stack([transform(image) for image in images.cpu()]).clamp(-1, 1).to(images.device)
