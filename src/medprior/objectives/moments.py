"""Losses that keep embeddings apart by their second moment, which remembers earlier batches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medprior.objectives.gather import gather
from medprior.objectives.precision import full


class CovarianceContrast(NamedTuple):
    """The two terms of TiCo before they are weighted, and what the next step remembers.

    Attributes:
        invariance: 1 minus the mean cosine of the pairs, over this process's samples.
        covariance: mean of zᵀ C z over this process's samples: 1 where all embeddings are one, 1/D where they spread.
        moment: (D, D) B, the second moment of the batch of all processes, without gradient.
    """

    invariance: Tensor
    covariance: Tensor
    moment: Tensor


def tico(first: Tensor, second: Tensor, remembered: Tensor, memory: float) -> CovarianceContrast:
    """The terms of TiCo; its loss is invariance + ρ * covariance.

    Zhu et al. 2022, arXiv 2206.10698. With z and z' of unit length, over the batch of all processes,

        B = mean_b z_b z_bᵀ,    C = β C_before + (1 - β) B,    1 - mean_b z_b · z'_b  and  mean_b z_bᵀ C z_b.

    Gradient runs through B too, as in the paper's pseudo-code as remembered here; lightly lets none through. The
    gradient is then that of a B without gradient which counts twice.

    Args:
        first: (B, D) embeddings of one view, which learn; of any length.
        second: (B, D) of the other, as the teacher sees it; who wants no gradient in it hands in one without.
        remembered: (D, D) C of the step before, 0 at first.
        memory: β.
    """
    with torch.autocast(first.device.type, enabled=False):
        z, other = F.normalize(full(first), dim=1), F.normalize(full(second), dim=1)
        everyone = gather(z)
        moment = everyone.T @ everyone / len(everyone)
        average = memory * remembered + (1 - memory) * moment
        return CovarianceContrast(
            invariance=1 - (z * other).sum(1).mean(),
            covariance=((z @ average) * z).sum(1).mean(),
            moment=moment.detach(),
        )
