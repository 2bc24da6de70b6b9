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

from medprior.views.choices import filled
from medprior.views.taps import Taps, gather
from medprior.views.window import Place


@dataclass(frozen=True)
class Spans:
    """What each view pixel covers along each axis, in given pixels: (B, d, n) each, n as many as the longest axis has.

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
    pixels: Tensor, place: Place, content: Tensor, affine: Tensor, shape: Sequence[int], widest: float | None = None
) -> tuple[Tensor, Tensor]:
    """Each view pixel averaged over its area, or interpolated linearly where it is smaller than a stored pixel.

    Args:
        pixels: (B, C, *W) float, stored pixels.
        place: where they lie in their scans; they hold all that the views see of the content.
        content: (B, d, 2) edges of the content box, normalised to the scan; what lies outside weighs nothing.
        affine: (B, d, d+1) from view to scan, normalised, without rotation.
        shape: S, pixels of the view along each axis.
        widest: the most stored pixels that a view pixel covers along an axis, where they are to be looked up one by
            one, as is best on a CPU; None for matrix products.

    Returns:
        Pixels (B, C, *S) in the units of `pixels`, 0 where not valid, channels last in memory; valid (B, 1, *S) bool:
        the centre of the view pixel lies in the content.
    """
    spans, given = _spans(place, content, affine, shape), pixels.shape[2:]
    valid = _box([spans.inside[:, axis, :side] for axis, side in enumerate(shape)])
    if widest is None:
        return contract(pixels, _matrices(spans, shape, given)), valid
    averaged = gather(pixels, _taps(spans, shape, given, widest))
    return averaged.movedim(1, -1).contiguous().movedim(-1, 1), valid


def take(pixels: Tensor, place: Place, affine: Tensor, flips: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The stored pixels (B, C, *S) themselves, for views that lie on them, in their own type.

    Args:
        place: where they lie: just where the views do.
        affine: (B, d, d+1) from view to scan, normalised; a negative diagonal mirrors.
        flips: axes that may be mirrored.

    Returns:
        Pixels (B, C, *S), also where not valid; valid (B, 1, *S) bool: inside of the scan.
    """
    begins = place.corner.unsqueeze(-1).unbind(1)
    along = [at + torch.arange(n, device=at.device) for at, n in zip(begins, pixels.shape[2:], strict=True)]
    ends = place.lengths.unsqueeze(-1).unbind(1)
    valid = _box([(at >= 0) & (at < end) for at, end in zip(along, ends, strict=True)])
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


def _spans(place: Place, content: Tensor, affine: Tensor, shape: Sequence[int]) -> Spans:
    sides = filled(shape, affine.device).unsqueeze(-1)
    half = place.lengths.unsqueeze(-1) / 2
    middle = half - place.corner.unsqueeze(-1)  # of the scan, in given pixels as all that follows
    step = affine.diagonal(dim1=1, dim2=2).unsqueeze(-1) * (half * 2 / sides)
    steps = torch.arange(max(shape), device=affine.device) + 0.5 - sides / 2
    centre = step * steps + (affine[..., -1:] * half + middle)
    # The average over one pixel width of an image made of square pixels is its linear interpolation.
    reach = step.abs().clamp(min=1) / 2
    edges = content * half + middle
    first, last = edges[..., :1], edges[..., 1:]
    low, high = torch.maximum(centre - reach, first), torch.minimum(centre + reach, last)
    inside = (centre > first) & (centre < last)
    # Divided by, not multiplied with an inverse: a pixel seen alone then weighs exactly 1.
    return Spans(low, high, torch.where(inside, high - low, torch.inf), inside)


def _matrices(spans: Spans, shape: Sequence[int], given: Sequence[int]) -> list[Tensor]:
    """(B, S, W) weights of the given pixels in each view pixel, for each axis."""
    pixel = torch.arange(max(given), device=spans.low.device)
    weights = (spans.high.unsqueeze(-1) - pixel).clamp_(0, 1)
    weights -= (spans.low.unsqueeze(-1) - pixel).clamp_(0, 1)
    weights = weights.div_(spans.width.unsqueeze(-1))
    return [weights[:, axis, :side, :n] for axis, (side, n) in enumerate(zip(shape, given, strict=True))]


def _taps(spans: Spans, shape: Sequence[int], given: Sequence[int], widest: float) -> list[Taps]:
    """The same without most of the zeros: as many neighbours as something so wide can touch."""
    most = math.ceil(max(widest, 1.0) - 1e-6) + 1
    counts = [min(most, n) for n in given]
    last = filled([n - count for n, count in zip(given, counts, strict=True)], spans.low.device).unsqueeze(-1)
    first = torch.minimum(spans.low.floor().clamp(min=0), last)
    edges = first.unsqueeze(-1) + torch.arange(max(counts) + 1, device=first.device)
    covered = torch.clamp(edges, spans.low.unsqueeze(-1), spans.high.unsqueeze(-1)).diff(dim=-1)
    first, weights = first.long(), covered / spans.width.unsqueeze(-1)
    axes = enumerate(zip(shape, counts, strict=True))
    return [Taps(first[:, axis, :side], weights[:, axis, :side, :count]) for axis, (side, count) in axes]


def _box(inside: Sequence[Tensor]) -> Tensor:
    """(B, 1, *S) bool: inside (B, n) along every axis."""
    d = len(inside)
    masks = [each.view(len(each), *[-1 if axis == i else 1 for i in range(d)]) for axis, each in enumerate(inside)]
    return reduce(torch.logical_and, masks).unsqueeze(1)
