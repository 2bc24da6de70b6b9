"""Boxes along the axes of an image, drawn per sample, and the pixels they cover together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import pad

BITS = 8
"""Boxes that share a byte: a pixel meets them all with one `and` per axis."""


def covered(start: Tensor, edge: Tensor, used: Tensor, size: Sequence[int]) -> Tensor:
    """(B, 1, *S) bool: inside at least one of the boxes that are used.

    Args:
        start: (B, n, d) int32 first pixel along each axis.
        edge: (B, n, d) int32 pixels along each axis.
        used: (B, n) bool.
        size: S.
    """
    d = len(size)
    laid = [_bytes(start[..., axis], edge[..., axis], used, side) for axis, side in enumerate(size)]
    along = [b.view(*b.shape[:2], *[-1 if axis == i else 1 for i in range(d)]) for axis, b in enumerate(laid)]
    found: Tensor = reduce(torch.bitwise_and, along).amax(dim=1, keepdim=True).bool()
    return found


def _bytes(start: Tensor, edge: Tensor, used: Tensor, side: int) -> Tensor:
    """(B, n / 8, side) uint8: bit i of a pixel tells whether box i reaches it along this axis."""
    place = torch.arange(side, device=start.device)
    apart = place - start.unsqueeze(-1)
    reached = (apart >= 0) & (apart < edge.unsqueeze(-1)) & used.unsqueeze(-1)
    rows = pad(reached, (0, 0, 0, -start.shape[1] % BITS)).view(len(start), -1, BITS, side)
    bit = 2 ** torch.arange(BITS, device=start.device)
    return (rows * bit.unsqueeze(1)).sum(dim=2).to(torch.uint8)
