"""Batch, instance and group norm over the seen positions of maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def norm_seen(
    map: Tensor,
    active: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    over: tuple[int, ...],
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Norm a map by mean and variance of its seen values, pooled over some axes of (B, groups, C / groups, positions).

    Args:
        map: (B, C, *S), 0 where not seen.
        active: (B, 1, *S) bool.
        over: (0, 3) as batch norm does, (3,) as instance norm, (2, 3) as group norm.

    Returns:
        The normed map, 0 where not seen; mean, biased variance and count of the values behind each, without gradient.
    """
    shape = (1, groups, map.shape[1] // groups, 1)
    wide = torch.promote_types(map.dtype, torch.float32)
    scale = map.new_ones(shape, dtype=wide) if weight is None else weight.view(shape)
    shift = map.new_zeros(shape, dtype=wide) if bias is None else bias.view(shape)
    folded = map.reshape(len(map), *shape[1:3], -1)
    seen = active.reshape(len(map), 1, 1, -1).to(wide)
    made, *statistics = _Norm.apply(folded, seen, scale, shift, over, eps)
    return (made.reshape(map.shape), *statistics)


class _Norm(torch.autograd.Function):
    """(x - mean) / deviation * weight + bias over the seen values; 0 elsewhere, where x must be 0.

    Written out, because composed of single operations it would write and read the map three times as often.
    Shapes: x (B, G, K, L), active (B, 1, 1, L) of its wide type, weight and bias (1, G, K, 1).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, active: Tensor, weight: Tensor, bias: Tensor, over: tuple[int, ...], eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x.to(active.dtype)
        count = active.sum(over, keepdim=True) * (x.shape[2] if 2 in over else 1)
        mean = wide.sum(over, keepdim=True) / count
        centred = torch.addcmul(wide, active, mean, value=-1)
        variance = centred.square().sum(over, keepdim=True) / count
        inverse = (variance + eps).rsqrt()
        made = centred.mul_(inverse * weight).addcmul_(active, bias.to(wide.dtype)).to(x.dtype)
        ctx.save_for_backward(x, active, weight, mean, inverse, count)
        ctx.over = over
        ctx.mark_non_differentiable(mean, variance, count)
        return made, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, active, weight, mean, inverse, count = ctx.saved_tensors
        seen, wide = gradient * active, x.to(active.dtype)
        plain = seen.sum(3, keepdim=True)
        normed = ((seen * wide).sum(3, keepdim=True) - mean * plain) * inverse
        pull = -inverse * (weight * plain).sum(ctx.over, keepdim=True) / count
        turn = -inverse.square() * (weight * normed).sum(ctx.over, keepdim=True) / count
        back = seen.mul_(inverse * weight).addcmul_(wide, turn).addcmul_(active, pull - turn * mean)
        by_weight, by_bias = (part.sum(0, keepdim=True).to(weight.dtype) for part in (normed, plain))
        return back.to(x.dtype), None, by_weight, by_bias, None, None
