"""Optimisers as the papers use them, and their rates: torch and timm where they are right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medprior.errors import unknown
from medprior.methods.schedules import half_cosine
from medprior.training.lars import Lars
from medprior.training.schedules import cosine

Group = dict[str, Any]


@dataclass(frozen=True)
class OptimizerPlan:
    """What moves the weights, and how that changes with the step.

    Attributes:
        name: adamw, sgd, lars or lamb.
        lr: the rate actually used, already scaled to the batch.
        weight_decay, weight_decay_end: of weights alone, first and last; None keeps the first.
        betas: of AdamW and LAMB.
        momentum, nesterov: of SGD and LARS.
        warmup: share of all steps in which the rate rises.
        clip: largest norm of the gradient, over all weights together; whoever steps clips, the optimiser does not.
        min_lr: where the rate ends, as a share of `lr`.
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    warmup: float = 0.1
    clip: float | None = None
    min_lr: float = 0.0
    weight_decay_end: float | None = None
    nesterov: bool = False


def scaled_lr(base: float, batch_size: int, per: int | None) -> float:
    """The linear scaling rule, base x batch / per (Goyal et al. 2017, arXiv 1706.02677); `per` None leaves it."""
    return base if per is None else base * batch_size / per


def rate_at(plan: OptimizerPlan, step: int, steps: int) -> float:
    """The learning rate of `step`."""
    return plan.lr * cosine(step, steps, plan.warmup, plan.min_lr)


def decay_at(plan: OptimizerPlan, step: int, steps: int) -> float:
    """The weight decay of `step`."""
    end = plan.weight_decay if plan.weight_decay_end is None else plan.weight_decay_end
    return half_cosine(step, steps, plan.weight_decay, end)


def decay_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[Group]:
    """Two groups: weights that decay, and biases, norms, tokens (one dimension or fewer real ones) that do not.

    "decays" tells them apart, since a decay may be 0 for a time. LARS and LAMB adapt the rate of the first alone.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in named:
        if parameter.requires_grad:
            (free if _is_free(name, parameter) else decayed).append(parameter)
    groups: list[Group] = [
        {"params": decayed, "weight_decay": weight_decay, "decays": True},
        {"params": free, "weight_decay": 0.0, "decays": False},
    ]
    return [group for group in groups if group["params"]]


def layered_groups(
    layers: Sequence[Sequence[tuple[str, nn.Parameter]]], weight_decay: float, layer_decay: float
) -> list[Group]:
    """Groups for fine-tuning: the last layer at the full rate, each earlier one at `layer_decay` of the next.

    Bao et al. 2022 (BEiT, arXiv 2106.08254). `layers` run from the input to the head; each group carries
    `lr_scale`, which is multiplied into the rate.
    """
    groups = []
    for depth, layer in enumerate(layers):
        scale = layer_decay ** (len(layers) - 1 - depth)
        groups += [{**group, "lr_scale": scale} for group in decay_groups(layer, weight_decay)]
    return groups


def make_optimizer(plan: OptimizerPlan, groups: list[Group]) -> torch.optim.Optimizer:
    """The optimiser of `plan` for groups of `decay_groups` or `layered_groups`.

    AdamW (Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101) and SGD are torch's, fused on CPU and GPU alike; LARS is
    `Lars`. LAMB (You et al., ICLR 2020, arXiv 1904.00962) is timm's, tested step by step against the paper's
    Algorithm 2 with bias correction; it would clip too, and is told not to, so that gradients are clipped once.

    Raises:
        SettingsError: no such optimiser.
    """
    if plan.name == "adamw":
        return torch.optim.AdamW(groups, lr=plan.lr, betas=plan.betas, fused=True)
    if plan.name == "sgd":
        return torch.optim.SGD(groups, lr=plan.lr, momentum=plan.momentum, nesterov=plan.nesterov, fused=True)
    if plan.name == "lars":
        return Lars(groups, plan.lr, plan.momentum, nesterov=plan.nesterov)
    if plan.name == "lamb":
        from timm.optim.lamb import Lamb

        adapted = [{**group, "always_adapt": group["decays"]} for group in groups]
        return Lamb(adapted, lr=plan.lr, betas=plan.betas, max_grad_norm=None)
    raise unknown("optimiser", plan.name, ("adamw", "sgd", "lars", "lamb"))


def set_schedule(optimizer: torch.optim.Optimizer, plan: OptimizerPlan, step: int, steps: int) -> None:
    """Give every group its rate and weight decay at `step` of `steps`; call it once before each optimiser step.

    Groups that do not decay stay at 0. Nothing waits for a device. A rate that is a tensor (for steps that are
    captured or compiled) is filled in place.
    """
    set_rate(optimizer, rate_at(plan, step, steps))
    decay = decay_at(plan, step, steps)
    for group in optimizer.param_groups:
        group["weight_decay"] = decay if group["decays"] else 0.0


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the rate `lr`, times its own `lr_scale` where it has one."""
    for group in optimizer.param_groups:
        rate = lr * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _is_free(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim <= 1 or name.endswith((".bias", "_token", "pos_embed", "mask_token"))
