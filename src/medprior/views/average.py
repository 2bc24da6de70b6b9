"""The resample of views that are not rotated: the exact average over the area that each view pixel covers.

Without rotation the average over a box is one small matrix per axis, so the whole resample is d batched matrix
products: it neither aliases nor blurs beyond the view's own pixels, at any reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor


def average(level0: Tensor, content: Tensor, affine: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Each view pixel averaged over its area, or interpolated linearly where it is smaller than a stored pixel.

    Args:
        level0: (B, C, *stored) float, the stored images, equally long along each of d axes.
        content: (B, d, 2) edges of the content box, normalised; what lies outside weighs nothing.
        affine: (B, d, d+1) from view to stored image, normalised, without rotation.
        size: pixels of the view along each axis.

    Returns:
        Pixels (B, C, *S) in the units of `level0`, 0 where not valid; valid (B, 1, *S) bool: the centre of the view
        pixel lies in the content.
    """
    weights, inside = _weights(content, affine, size, level0.shape[-1])
    d = inside.shape[1]
    masks = [inside[:, axis].view(-1, *[size if axis == i else 1 for i in range(d)]) for axis in range(d)]
    return contract(level0, weights.unbind(1)), reduce(torch.logical_and, masks).unsqueeze(1)


def contract(images: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Images (B, C, *n) with one matrix (B, m, n) per axis: (B, C, *m), contiguous."""
    batch, channels, *_ = images.shape
    for weight in reversed(weights):
        # The product leaves its axis in front and the next one last: in the end the channels are last.
        rows = images.reshape(batch, -1, weight.shape[2])
        images = torch.bmm(weight, rows.transpose(1, 2))
    return images.view(batch, *[weight.shape[1] for weight in weights], channels).movedim(-1, 1).contiguous()


def _weights(content: Tensor, affine: Tensor, size: int, stored: int) -> tuple[Tensor, Tensor]:
    """Weights (B, d, size, stored) of the stored pixels in each view pixel, and whether that is inside (B, d, size)."""
    step = affine.diagonal(dim1=1, dim2=2).unsqueeze(-1) * (stored / size)
    places = torch.arange(size, device=affine.device) + 0.5 - size / 2
    centre = step * places + (affine[..., -1:] + 1) * (stored / 2)
    # The average over one pixel width of an image made of square pixels is its linear interpolation.
    reach = step.abs().clamp(min=1) / 2
    edges = (content + 1) * (stored / 2)
    first, last = edges[..., :1], edges[..., 1:]
    low, high = torch.maximum(centre - reach, first), torch.minimum(centre + reach, last)
    inside = (centre > first) & (centre < last)
    # Divided by, not multiplied with an inverse: a pixel seen alone then weighs exactly 1.
    width = torch.where(inside, high - low, torch.inf)
    pixel = torch.arange(stored, device=affine.device)
    weights = (high.unsqueeze(-1) - pixel).clamp_(0, 1)
    weights -= (low.unsqueeze(-1) - pixel).clamp_(0, 1)
    return weights.div_(width.unsqueeze(-1)), inside
