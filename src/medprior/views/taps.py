"""Sums over a few neighbouring pixels along each axis, weighted for each sample: what a CPU does instead of matrices.

A view pixel is made of a handful of stored ones. A GPU multiplies with matrices that are zero everywhere else faster
than it could look these up; a CPU takes ten times as long for that as for the few rows that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True)
class Taps:
    """What each of m pixels is made of along one axis, for B samples: K neighbours, none of them outside.

    Attributes:
        first: (B, m) int64, where the neighbours begin.
        weights: (B, m, K) float.
    """

    first: Tensor
    weights: Tensor


def gather(images: Tensor, axes: Sequence[Taps]) -> Tensor:
    """Images (B, C, *n) summed with taps along each axis: (B, C, *m), in any order in memory."""
    batch, channels, *_ = images.shape
    planes = images.flatten(0, 1)
    for axis, taps in enumerate(axes, start=1):
        planes = _summed(planes.movedim(axis, 1), taps, channels).movedim(1, axis)
    return planes.view(batch, channels, *planes.shape[1:])


def _summed(planes: Tensor, taps: Taps, channels: int) -> Tensor:
    """Planes (B*C, n, *rest) summed over n: (B*C, m, *rest). Whole rows are added, which is what makes it fast."""
    count, n, *rest = planes.shape
    along = taps.first.unsqueeze(-1) + torch.arange(taps.weights.shape[-1], device=planes.device)
    begin = n * torch.arange(count, device=planes.device).view(-1, channels, 1, 1)
    rows = (begin + along.unsqueeze(1)).flatten(0, 2)
    weights = taps.weights.to(planes.dtype).unsqueeze(1).expand(-1, channels, -1, -1).reshape(rows.shape)
    summed = embedding_bag(rows, planes.reshape(count * n, -1), mode="sum", per_sample_weights=weights)
    return summed.view(count, -1, *rest)
