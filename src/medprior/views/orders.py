"""Random orders of the pixels of small windows, of every shape that a window can have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from medprior.views.choices import strides
from medprior.views.draws import Key, uniform

ORDERS, ENTRIES = 4, 2**18
"""Orders drawn of every shape, fewer where they would take more than this many entries."""


@dataclass(frozen=True)
class Orders:
    """Random orders of the pixels of every shape that a window can have.

    Shapes and pixels are both numbered as the M cells of the largest window: a shape by its last cell.

    Attributes:
        longest: edges of the largest window; it has M cells.
        count: K, orders of each shape.
        rank: (M * K * M) int32, of (shape, order, cell): the rank of the cell.
        offset: (M * K * 2M) int32, of (shape, order, rank): how far the cell of that rank lies from the window's corner
            in the image; ranks go on from the start where they end.
    """

    longest: tuple[int, ...]
    count: int
    rank: Tensor
    offset: Tensor

    @classmethod
    def draw(cls, key: Key, longest: Sequence[int], size: Sequence[int]) -> Orders:
        """The orders of a step, the same for all rows and views."""
        device, cells = key.rows.device, math.prod(longest)
        count = max(1, min(ORDERS, ENTRIES // cells**2))
        step = Key(key.seed, key.step, torch.zeros(1, dtype=torch.int64, device=device), 0)
        order = uniform(step, "shuffle orders", (2, count, cells))[0].argsort(dim=-1, stable=True)
        cell = torch.arange(cells, device=device)
        along = [cell // stride % edge for stride, edge in zip(strides(longest), longest, strict=True)]
        inside = reduce(torch.logical_and, (at <= at.unsqueeze(1) for at in along))
        away = reduce(torch.add, (at * stride for at, stride in zip(along, strides(size), strict=True))).int()
        rank, offset = _ranks(inside, order[0]), _by_rank(away, inside, order[1])
        return cls(tuple(longest), count, rank.flatten(), offset.flatten())


def _ranks(inside: Tensor, order: Tensor) -> Tensor:
    """(M, K, M): the rank of each cell among those inside (M, M) of each shape, when sorted as each order (K, M).

    0 for the first; of cells that are not inside, some rank.
    """
    rank = (inside[:, order].cumsum(dim=-1, dtype=torch.int32) - 1).clamp_(min=0)
    return rank.gather(-1, order.argsort(dim=-1).expand_as(rank))


def _by_rank(values: Tensor, inside: Tensor, order: Tensor) -> Tensor:
    """(M, K, 2M): the value (M,) of the cell of each rank; after the last inside of a shape, again from the first."""
    kept = inside[:, order]
    # Cells outside of the shape are thrown into one more place, which nobody reads.
    rank = torch.where(kept, kept.cumsum(dim=-1) - 1, len(inside))
    found = torch.zeros(*rank.shape[:2], len(inside) + 1, dtype=values.dtype, device=inside.device)
    found = found.scatter(-1, rank, values[order].expand_as(rank))
    again = torch.arange(2 * len(inside), device=inside.device) % inside.sum(dim=1, keepdim=True)
    return found.gather(-1, again.unsqueeze(1).expand(-1, rank.shape[1], -1))
