"""Whole numbers drawn from uniform ones, and pixels by their number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def below(share: Tensor, count: Tensor | int) -> Tensor:
    """Whole numbers from 0 up to but not `count`, int32, from uniform numbers in [0, 1)."""
    # Rounding may carry the largest share up to `count` itself.
    return (share * count).int().clamp(max=count - 1)


def split(share: Tensor, count: Tensor | int) -> tuple[Tensor, Tensor]:
    """`below`, and the uniform number in [0, 1) that is left: two draws for the price of one.

    What is left has 24 bits less those of `count`: enough to choose among hundreds with odds that are wrong by less
    than one in a thousand.
    """
    whole = below(share, count)
    return whole, (share * count - whole).clamp(max=1 - 2**-24)


def filled(values: Sequence[int], device: torch.device) -> Tensor:
    """(n,) int32, filled in on the device: to copy it there would make the host wait."""
    return torch.stack([torch.full((), value, dtype=torch.int32, device=device) for value in values])


def strides(size: Sequence[int]) -> list[int]:
    """How far apart neighbours along each axis of an array lie in memory."""
    return [math.prod(size[axis + 1 :]) for axis in range(len(size))]


def take_pixels(pixels: Tensor, number: Tensor) -> Tensor:
    """As `pixels` (B, C, *S), every pixel the one of that number; they are counted through the batch, without channels.

    Args:
        number: (B * N,) int32 or int64. Half as many bytes are nearly half the time.
    """
    batch, channels, *size = pixels.shape
    flat = pixels.movedim(1, -1).reshape(-1, channels).squeeze(1)
    return flat.index_select(0, number).view(batch, *size, channels).movedim(-1, 1)
