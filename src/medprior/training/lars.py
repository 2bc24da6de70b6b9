"""LARS as self-supervised learning uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

TRUST = 1e-3


class Lars(torch.optim.Optimizer):
    """SGD with momentum in which every weight tensor moves in proportion to its own length.

    You et al. 2017, arXiv 1708.03888, in the form of SimCLR (arXiv 2002.05709): with d = g + weight_decay * w,

        v = momentum * v + lr * TRUST * |w| / |d| * d;  w = w - v

    where the ratio is 1 when |w| or |d| is 0, and for groups whose "decays" is false (biases and norms, which do not
    decay either). The rate is part of the momentum, as in both papers; BYOL multiplies it in afterwards, which is the
    same while it stays constant. timm's LARS divides by |g| + weight_decay * |w|, also multiplies afterwards, and
    adapts nothing when the decay is 0.

    Args:
        groups: parameters, or groups of them.
        lr: a number, or a () tensor beside the parameters.
        nesterov: step on by momentum * v + the new summand instead of v.
    """

    def __init__(
        self,
        groups: Iterable[Any],
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov, "decays": True}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient; gradients are left as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            pairs = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
            if pairs:
                weights, gradients = map(list, zip(*pairs, strict=True))
                self._move(weights, gradients, group)
        return loss

    def _move(self, weights: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        pulls = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        if group["decays"]:
            torch._foreach_mul_(pulls, _trust(weights, pulls))
        torch._foreach_mul_(pulls, group["lr"])
        velocities = [self._velocity(weight) for weight in weights]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, pulls)
        if group["nesterov"]:
            torch._foreach_add_(pulls, velocities, alpha=group["momentum"])
        torch._foreach_sub_(weights, pulls if group["nesterov"] else velocities)

    def _velocity(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        found: Tensor = state["velocity"]
        return found


def _trust(weights: list[Tensor], pulls: list[Tensor]) -> list[Tensor]:
    lengths, forces = (torch.stack(list(torch._foreach_norm(tensors))) for tensors in (weights, pulls))
    ratios = torch.where((lengths > 0) & (forces > 0), TRUST * lengths / forces, 1.0)
    return list(ratios.unbind())
