"""Self-distillation: a student's distribution over outputs follows its teacher's, which is centred and sharpened."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medprior.objectives.gather import average
from medprior.objectives.precision import full


def across_views(targets: Tensor, outputs: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between what some views should be and what the others are taken for.

    With t the targets, p = softmax(outputs / temperature) and the first G of the V views those with targets, the mean
    over samples and the G (V - 1) pairs of different views g, v of

        -Σ_k t_gk log p_vk.

    Args:
        targets: (G, B, K) distributions over K outputs, without gradient.
        outputs: (V, B, K), V >= 2; the first G are of the views that the targets are of.
    """
    with torch.autocast(outputs.device.type, enabled=False):
        logarithms = F.log_softmax(full(outputs) / temperature, dim=-1)
        others = logarithms.sum(0) - logarithms[: len(targets)]
        pairs = len(targets) * (len(outputs) - 1)
        return -(targets * others).sum() / (pairs * outputs.shape[1])


@torch.no_grad()
def centred(outputs: Tensor, centre: Tensor, temperature: Tensor | float) -> Tensor:
    """The teacher's distributions, softmax((outputs - centre) / temperature): what the student is to follow.

    Caron et al., ICCV 2021, arXiv 2104.14294. Without the centre one output would win always, without a temperature
    below the student's all would come out even.

    Args:
        outputs: (G, B, K) of the teacher.
        centre: (K,), a moving average of `mean_output`.
        temperature: a number, or () so that it may change in a compiled graph.
    """
    with torch.autocast(outputs.device.type, enabled=False):
        return ((full(outputs) - centre) / temperature).softmax(dim=-1)


@torch.no_grad()
def mean_output(outputs: Tensor) -> Tensor:
    """The mean (K,) of outputs (G, B, K) over the views and samples of all processes."""
    return average(full(outputs).mean((0, 1)))


@torch.no_grad()
def entropy(distributions: Tensor) -> Tensor:
    """Mean entropy of distributions (..., K) in nats: 0 where one output has everything, log K where all are even.

    A teacher that has collapsed sits at one of these ends.
    """
    return -torch.xlogy(distributions, distributions).sum(-1).mean()
