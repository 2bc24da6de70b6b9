"""Which of thousands of windows is the last to cover a pixel, for all pixels at once.

A window is the union of a few blocks of few sizes, which may overlap, since the greater of two numbers does not change
when one comes twice. The numbers of the windows are scattered to the corners of their blocks, keeping the greatest, and
are spread over the blocks, size by size and axis by axis: the update of a sparse table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from medprior.views.choices import strides


@dataclass(frozen=True)
class Windows:
    """n windows of each of B images.

    Attributes:
        start: (B, d, n) int32 first pixel along each axis.
        edge: (B, d, n) int32 pixels along each axis.
    """

    start: Tensor
    edge: Tensor


def last_covering(windows: Windows, size: Sequence[int], longest: Sequence[int], happened: Tensor) -> Tensor:
    """(B, *S) int16 or int32: the last window that covers each pixel, from 1; 0 where none does.

    Args:
        happened: (B,) bool, samples whose windows count.
    """
    batch, d, count = windows.start.shape
    covers = [Cover.of(edge) for edge in longest]
    shape = [len(cover.blocks) for cover in covers] + list(size)
    stride = strides(shape)
    places = [torch.zeros((), dtype=torch.int32, device=windows.start.device)]
    for axis, cover in enumerate(covers):
        corners = cover.corners(windows.start[:, axis], windows.edge[:, axis], stride[axis], stride[d + axis])
        places = [place + corner for place in places for corner in corners]
    # Half as many bytes, where they can hold the number of windows, stay in a cache.
    dtype = torch.int16 if count < 2**15 else torch.int32
    number = torch.arange(1, count + 1, dtype=dtype, device=happened.device) * happened.unsqueeze(1)
    found = torch.zeros(batch, math.prod(shape), dtype=dtype, device=happened.device)
    for place in places:
        found.scatter_reduce_(1, place.long(), number, "amax")
    return _spread(found.view(batch, *shape), covers)


@dataclass(frozen=True)
class Cover:
    """How intervals of length 1 to `longest` are covered by a few blocks of few lengths.

    Attributes:
        blocks: lengths of blocks, ascending from 1.
        count: blocks of one length that cover an interval, overlapping as they need.
    """

    blocks: tuple[int, ...]
    count: int

    @classmethod
    def of(cls, longest: int) -> Cover:
        """As few lengths as three blocks each allow, and then as few blocks as those allow."""
        lengths = next(n for n in range(1, 20) if _reach(n, 3) >= longest)
        count = next(count for count in (1, 2, 3) if _reach(lengths, count) >= longest)
        return cls(tuple(_reach(n, count) // count for n in range(1, lengths + 1)), count)

    def corners(self, start: Tensor, edge: Tensor, block_stride: int, stride: int) -> list[Tensor]:
        """Where the blocks of intervals (B, n) begin in an array with these strides: `count` tensors (B, n)."""
        length, first = torch.ones_like(edge), start * stride
        for shorter, longer in pairwise(self.blocks):
            fits = edge >= longer
            length, first = length + fits * (longer - shorter), first + fits * block_stride
        room = edge - length
        between = [first + torch.minimum(length * step, room) * stride for step in range(1, self.count - 1)]
        return [first, *between, first + room * stride][: self.count]


def _spread(found: Tensor, covers: Sequence[Cover]) -> Tensor:
    """(B, *S): the greatest number on any block that covers a pixel; (B, *blocks, *S) has them at their corners."""
    for axis, cover in enumerate(covers):
        *shorter, number = found.unbind(1)
        dim = number.dim() - len(covers) + axis
        for target, (length, whole) in zip(reversed(shorter), reversed(list(pairwise(cover.blocks))), strict=True):
            for offset in sorted({*range(0, whole - length, length), whole - length}):
                room = number.shape[dim] - offset
                target.narrow(dim, offset, room).clamp_(min=number.narrow(dim, 0, room))
            number = target
        found = number
    return found


def _reach(lengths: int, count: int) -> int:
    """The longest interval that `count` blocks of one of so many lengths can cover."""
    return count if lengths == 1 else count * (_reach(lengths - 1, count) + 1)
