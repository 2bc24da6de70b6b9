"""The resample of views that are not rotated: the exact average over the area that each view pixel covers.

Without rotation the average over a box is one small matrix per axis, so the whole resample is d batched matrix
products: it neither aliases nor blurs beyond the view's own pixels, at any reduction. Views that lie on whole pixels
are not even that: their pixels are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from medprior.views.window import Place


def average(pixels: Tensor, place: Place, content: Tensor, affine: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Each view pixel averaged over its area, or interpolated linearly where it is smaller than a stored pixel.

    Args:
        pixels: (B, C, *W) float, stored pixels, equally long along each of d axes.
        place: where they lie in their scans; they hold all that the views see of the content.
        content: (B, d, 2) edges of the content box, normalised to the scan; what lies outside weighs nothing.
        affine: (B, d, d+1) from view to scan, normalised, without rotation.
        size: pixels of the view along each axis.

    Returns:
        Pixels (B, C, *S) in the units of `pixels`, 0 where not valid, channels last in memory; valid (B, 1, *S) bool:
        the centre of the view pixel lies in the content.
    """
    weights, inside = _weights(place, content, affine, size, pixels.shape[-1])
    return contract(pixels, weights.unbind(1)), _box(inside)


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


def _weights(place: Place, content: Tensor, affine: Tensor, size: int, side: int) -> tuple[Tensor, Tensor]:
    """Weights (B, d, size, side) of the given pixels in each view pixel, and whether that is inside (B, d, size)."""
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
    width = torch.where(inside, high - low, torch.inf)
    pixel = torch.arange(side, device=affine.device)
    weights = (high.unsqueeze(-1) - pixel).clamp_(0, 1)
    weights -= (low.unsqueeze(-1) - pixel).clamp_(0, 1)
    return weights.div_(width.unsqueeze(-1)), inside


def _box(inside: Tensor) -> Tensor:
    """(B, 1, *S) bool: inside (B, d, S) along every axis."""
    _, d, size = inside.shape
    masks = [inside[:, axis].view(-1, *[size if axis == i else 1 for i in range(d)]) for axis in range(d)]
    return reduce(torch.logical_and, masks).unsqueeze(1)
