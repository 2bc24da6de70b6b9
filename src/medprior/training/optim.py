"""Optimisers and schedules as the papers use them; timm and torch where they are right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class OptimizerPlan:
    """What moves the weights. `lr` is the rate actually used, already scaled to the batch."""

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    warmup: float = 0.1
    clip: float | None = None


def scaled_lr(base: float, batch_size: int, per: int | None) -> float:
    """The linear scaling rule, base x batch / per (Goyal et al. 2017, arXiv 1706.02677); `per` None leaves it."""
    return base if per is None else base * batch_size / per


def cosine(step: int, steps: int, warmup: float) -> float:
    """Factor on the rate at `step` of `steps`: linear over the warm-up share, then a half cosine to 0."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def decay_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, object]]:
    """Two groups: weights that decay, and biases, norms, tokens (one dimension or fewer real ones) that do not."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in named:
        if parameter.requires_grad:
            (free if _is_free(name, parameter) else decayed).append(parameter)
    return [
        g
        for g in ({"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0})
        if g["params"]
    ]


def layered_groups(
    layers: Sequence[Sequence[tuple[str, nn.Parameter]]], weight_decay: float, layer_decay: float
) -> list[dict[str, object]]:
    """Groups for fine-tuning: the last layer at the full rate, each earlier one at `layer_decay` of the next.

    Bao et al. 2022 (BEiT, arXiv 2106.08254). `layers` run from the input to the head; each group carries
    `lr_scale`, which `set_rate` multiplies in.
    """
    groups = []
    for depth, layer in enumerate(layers):
        scale = layer_decay ** (len(layers) - 1 - depth)
        groups += [{**group, "lr_scale": scale} for group in decay_groups(layer, weight_decay)]
    return groups


def make_optimizer(plan: OptimizerPlan, groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    """AdamW and SGD from torch, fused on CPU and GPU alike; LARS and LAMB from timm."""
    if plan.name == "adamw":
        return torch.optim.AdamW(groups, lr=plan.lr, betas=plan.betas, fused=True)
    if plan.name == "sgd":
        return torch.optim.SGD(groups, lr=plan.lr, momentum=plan.momentum, fused=True)
    from timm.optim.lamb import Lamb
    from timm.optim.lars import Lars

    if plan.name == "lars":
        return Lars(groups, lr=plan.lr, momentum=plan.momentum)
    if plan.name == "lamb":
        return Lamb(groups, lr=plan.lr, betas=plan.betas, max_grad_norm=plan.clip)
    raise ValueError(f"no optimiser {plan.name}")


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the rate `lr`, times its own `lr_scale` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def _is_free(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim <= 1 or name.endswith((".bias", "_token", "pos_embed", "mask_token"))
