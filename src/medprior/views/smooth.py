"""Gaussian filters of each sample's own width, exact to float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from medprior.views.average import contract
from medprior.views.taps import Taps, gather

REACH = 5
"""Standard deviations after which a Gaussian ends: what lies beyond weighs less than one part in a million."""
FEW = 1 / 4
"""Share of each of an image's sides up to which a CPU sums neighbours one by one; beyond, matrices are as fast."""


def smooth(images: Tensor, widths: Sequence[Tensor], widest: Sequence[float]) -> Tensor:
    """Images (B, C, *S) filtered with exp(-x² / 2 width²), which does not sum to 1; black beyond the border.

    Args:
        widths: (B,) standard deviations in pixels, above 0, for each axis.
        widest: the greatest that each may be, known before anything is drawn.
    """
    radii = [math.ceil(REACH * most) for most in widest]
    few = all(2 * radius + 1 <= FEW * side for radius, side in zip(radii, images.shape[2:], strict=True))
    # Of volumes most of the time would go into turning their axes.
    if images.device.type == "cpu" and len(radii) == 2 and few:
        return gathered(images, widths, radii)
    return multiplied(images, widths, radii)


def gathered(images: Tensor, widths: Sequence[Tensor], radii: Sequence[int]) -> Tensor:
    """The same, neighbour by neighbour; `radii` are where each Gaussian may end, in pixels."""
    taps = [_taps(*axis) for axis in zip(widths, radii, images.shape[2:], strict=True)]
    found = torch.empty_like(images)
    for channel in range(images.shape[1]):  # one by one, which stays in the cache longer
        found[:, channel : channel + 1] = gather(images[:, channel : channel + 1], taps)
    return found


def multiplied(images: Tensor, widths: Sequence[Tensor], radii: Sequence[int]) -> Tensor:
    """The same by matrix products."""
    shape = images.shape[2:]
    banded = all(2 * (_tile(radius) + 2 * radius) <= side for radius, side in zip(radii, shape, strict=True))
    # Of images a band is left of each matrix; of volumes the copies of the bands would cost more than they save.
    if len(shape) == 3 or not banded:
        axes = zip(shape, widths, strict=True)
        return contract(images, [gaussian(_apart(side, side, images), width) for side, width in axes])
    for axis, (width, radius) in enumerate(zip(widths, radii, strict=True)):
        images = _banded(images.movedim(axis + 2, -1), width, radius).movedim(-1, axis + 2)
    return images


def gaussian(apart: Tensor, width: Tensor) -> Tensor:
    """(B, m, n) weights at distances (m, n), for widths (B,)."""
    # Where it would end in denormal numbers or none at all, the exponential takes ten times as long on a CPU.
    return (-0.5 * (apart / width.view(-1, 1, 1)) ** 2).clamp_(min=-80).exp_()


def _banded(images: Tensor, width: Tensor, radius: int) -> Tensor:
    """Images (B, ..., n) filtered along their last axis, in tiles that share one matrix for each sample."""
    tile, (batch, *_, n) = _tile(radius), images.shape
    kernel = gaussian(_apart(tile + 2 * radius, tile, images) - radius, width)
    rows = pad(images.reshape(batch, -1, n), (radius, radius + -n % tile))
    tiles = rows.unfold(-1, tile + 2 * radius, tile).reshape(batch, -1, tile + 2 * radius)
    return torch.bmm(tiles, kernel).view(batch, rows.shape[1], -1)[..., :n].reshape(images.shape)


def _taps(width: Tensor, radius: int, size: int) -> Taps:
    """The neighbours of each of `size` pixels, for widths (B,)."""
    place = torch.arange(size, device=width.device)
    count = min(2 * radius + 1, size)
    first = (place - radius).clamp(0, size - count)
    apart = first.unsqueeze(1) + torch.arange(count, device=width.device) - place.unsqueeze(1)
    return Taps(first.expand(len(width), -1), gaussian(apart, width))


def _tile(radius: int) -> int:
    """Pixels that are filtered at once: enough of them that what their neighbours lend is not the most of the work."""
    return max(16, 3 * radius)


def _apart(m: int, n: int, like: Tensor) -> Tensor:
    """(m, n) differences of positions."""
    return torch.arange(m, device=like.device).unsqueeze(1) - torch.arange(n, device=like.device)
