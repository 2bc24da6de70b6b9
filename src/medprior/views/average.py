"""The resample of views that are not rotated: the exact average over the area that each view pixel covers.

Without rotation the average over a box is one small matrix per axis, so the whole resample is d batched matrix
products, or on a CPU, where most of such a product would be spent on zeros, d sums over the few pixels that count: it
neither aliases nor blurs beyond the view's own pixels, at any reduction. Views that lie on whole pixels are not even
that: their pixels are taken as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from medprior.views.taps import Taps, gather
from medprior.views.window import Place


@dataclass(frozen=True)
class Spans:
    """What each view pixel covers along each axis, in given pixels: (B, d, S) each.

    Attributes:
        low, high: its ends; nothing is covered where high is not above low.
        width: what a sum over it is divided by; infinite where not inside.
        inside: whether its centre lies in the content.
    """

    low: Tensor
    high: Tensor
    width: Tensor
    inside: Tensor


def average(
    pixels: Tensor, place: Place, content: Tensor, affine: Tensor, size: int, widest: float | None = None
) -> tuple[Tensor, Tensor]:
    """Each view pixel averaged over its area, or interpolated linearly where it is smaller than a stored pixel.

    Args:
        pixels: (B, C, *W) float, stored pixels, equally long along each of d axes.
        place: where they lie in their scans; they hold all that the views see of the content.
        content: (B, d, 2) edges of the content box, normalised to the scan; what lies outside weighs nothing.
        affine: (B, d, d+1) from view to scan, normalised, without rotation.
        size: pixels of the view along each axis.
        widest: the most stored pixels that a view pixel covers along an axis, where they are to be looked up one by
            one, as is best on a CPU; None for matrix products.

    Returns:
        Pixels (B, C, *S) in the units of `pixels`, 0 where not valid, channels last in memory; valid (B, 1, *S) bool:
        the centre of the view pixel lies in the content.
    """
    spans, side = _spans(place, content, affine, size), pixels.shape[-1]
    if widest is None:
        return contract(pixels, _matrices(spans, side).unbind(1)), _box(spans.inside)
    averaged = gather(pixels, _taps(spans, side, widest))
    return averaged.movedim(1, -1).contiguous().movedim(-1, 1), _box(spans.inside)


def take(pixels: Tensor, place: Place, affine: Tensor, flips: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The stored pixels (B, C, *S) themselves, for views that lie on them, in their own type.

    Args:
        place: where they lie: just where the views do.
        affine: (B, d, d+1) from view to scan, normalised; a negative diagonal mirrors.
        flips: axes that may be mirrored.

    Returns:
        Pixels (B, C, *S), also where not valid; valid (B, 1, *S) bool: inside of the scan.
    """
    along = place.corner.unsqueeze(-1) + torch.arange(pixels.shape[-1], device=pixels.device)
    valid = _box((along >= 0) & (along < place.lengths.unsqueeze(-1)))
    for axis in flips:
        mirrored = (affine[:, axis, axis] < 0).view(-1, *[1] * (pixels.dim() - 1))
        pixels = torch.where(mirrored, pixels.flip(axis + 2), pixels)
        valid = torch.where(mirrored, valid.flip(axis + 2), valid)
    return pixels, valid


def contract(images: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Images (B, C, *n) with one matrix (B, m, n) per axis: (B, C, *m), channels last in memory."""
    batch, channels, *_ = images.shape
    for weight in reversed(weights):
        # The product leaves its axis in front and the next one last: in the end the channels are last.
        rows = images.reshape(batch, -1, weight.shape[2])
        images = torch.bmm(weight, rows.transpose(1, 2))
    return images.view(batch, *[weight.shape[1] for weight in weights], channels).movedim(-1, 1)


def _spans(place: Place, content: Tensor, affine: Tensor, size: int) -> Spans:
    half = place.lengths.unsqueeze(-1) / 2
    middle = half - place.corner.unsqueeze(-1)  # of the scan, in given pixels as all that follows
    step = affine.diagonal(dim1=1, dim2=2).unsqueeze(-1) * (half * 2 / size)
    steps = torch.arange(size, device=affine.device) + 0.5 - size / 2
    centre = step * steps + (affine[..., -1:] * half + middle)
    # The average over one pixel width of an image made of square pixels is its linear interpolation.
    reach = step.abs().clamp(min=1) / 2
    edges = content * half + middle
    first, last = edges[..., :1], edges[..., 1:]
    low, high = torch.maximum(centre - reach, first), torch.minimum(centre + reach, last)
    inside = (centre > first) & (centre < last)
    # Divided by, not multiplied with an inverse: a pixel seen alone then weighs exactly 1.
    return Spans(low, high, torch.where(inside, high - low, torch.inf), inside)


def _matrices(spans: Spans, side: int) -> Tensor:
    """(B, d, S, side) weights of the given pixels in each view pixel."""
    pixel = torch.arange(side, device=spans.low.device)
    weights = (spans.high.unsqueeze(-1) - pixel).clamp_(0, 1)
    weights -= (spans.low.unsqueeze(-1) - pixel).clamp_(0, 1)
    return weights.div_(spans.width.unsqueeze(-1))


def _taps(spans: Spans, side: int, widest: float) -> list[Taps]:
    """The same for each axis without most of the zeros: as many neighbours as something so wide can touch."""
    count = min(math.ceil(max(widest, 1.0) - 1e-6) + 1, side)
    first = spans.low.floor().clamp(0, side - count)
    edges = first.unsqueeze(-1) + torch.arange(count + 1, device=first.device)
    covered = torch.clamp(edges, spans.low.unsqueeze(-1), spans.high.unsqueeze(-1)).diff(dim=-1)
    weights = covered / spans.width.unsqueeze(-1)
    return [Taps(*axis) for axis in zip(first.long().unbind(1), weights.unbind(1), strict=True)]


def _box(inside: Tensor) -> Tensor:
    """(B, 1, *S) bool: inside (B, d, S) along every axis."""
    _, d, size = inside.shape
    masks = [inside[:, axis].view(-1, *[size if axis == i else 1 for i in range(d)]) for axis in range(d)]
    return reduce(torch.logical_and, masks).unsqueeze(1)
