"""Joining the batches of all processes inside a loss, with gradients that equal those of one process.

Every loss of medprior is the mean over the samples of its own process. Distributed training averages the
gradients of the processes, so a loss whose terms also reach the samples of other processes needs the gradients
that they send back summed, not averaged: `gather` does so. No loss is scaled by the number of processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together; 1 without distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks: (B, ...) to (W * B, ...).

    Every process holds the same B. The gradient of this process's rows is summed over the losses of all.
    """
    return rows if world_size() == 1 else _Gather.apply(rows)


def average(value: Tensor) -> Tensor:
    """The mean of `value` over all processes, without gradient."""
    value = value.detach()
    if world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / world_size()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]
