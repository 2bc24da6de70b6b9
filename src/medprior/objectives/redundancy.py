"""Losses that keep embeddings apart by the statistics of the batch: every value varies, and no two say the same.

Statistics are those of the joined batch of all processes; the gradients that these send each other are summed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medprior.objectives.gather import gather
from medprior.objectives.precision import full

# Added to variances, as the authors of either loss do in their code.
BARLOW_EPSILON = 1e-5
VICREG_EPSILON = 1e-4


class CrossCorrelation(NamedTuple):
    """How far the cross-correlation C of two views is from the identity.

    Attributes:
        invariance: Σ_i (1 - C_ii)².
        redundancy: Σ_{i ≠ j} C_ij².
    """

    invariance: Tensor
    redundancy: Tensor


class Regularities(NamedTuple):
    """The three terms of VICReg, before they are weighted.

    Attributes:
        invariance: mean squared difference of the views, over samples and values.
        variance: mean shortfall of the deviations from 1, over values and both views.
        covariance: squared covariances of different values, their sum over D, both views together.
    """

    invariance: Tensor
    variance: Tensor
    covariance: Tensor


def barlow_twins(first: Tensor, second: Tensor) -> CrossCorrelation:
    """The terms of Barlow Twins; its loss is invariance + λ * redundancy.

    Zbontar et al., ICML 2021, arXiv 2103.03230, equations 1 and 2:

        C_ij = Σ_b z_bi z'_bj / (√(Σ_b z_bi²) √(Σ_b z'_bj²)),    z and z' centred over the batch,

    with 1e-5 added to the variances, as in the authors' code, so that a value that never varies has a gradient.

    Args:
        first, second: (B, D) embeddings of two views of each scan, in the same order.
    """
    with torch.autocast(first.device.type, enabled=False):
        z, other = (_standardised(view) for view in _joined(first, second))
        own = (z * other).mean(0)
        return CrossCorrelation((1 - own).square().sum(), _off_diagonal(z, other) / len(z) ** 2)


def vicreg(first: Tensor, second: Tensor) -> Regularities:
    """The terms of VICReg; its loss is λ * invariance + μ * variance + ν * covariance.

    Bardes, Ponce and LeCun, ICLR 2022, arXiv 2105.04906, equations 1 to 5, with the factors of the authors' code, to
    which the published 25, 25 and 1 belong: there the invariance is a mean over the D values too and not their sum, and
    the variance the mean of both views and not their sum.

    Args:
        first, second: (B, D) embeddings of two views of each scan, in the same order.

    Returns:
        The invariance over this process's samples, the others over those of all.
    """
    with torch.autocast(first.device.type, enabled=False):
        views = [view - view.mean(0) for view in _joined(first, second)]
        freedom, width = len(views[0]) - 1, first.shape[1]
        deviations = torch.stack([(view.square().sum(0) / freedom + VICREG_EPSILON).sqrt() for view in views])
        covariances = torch.stack([_off_diagonal(view, view) for view in views]) / freedom**2
        invariance = F.mse_loss(full(first), full(second))
        return Regularities(invariance, F.relu(1 - deviations).mean(), covariances.sum() / width)


def _joined(first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
    return gather(torch.stack([full(first), full(second)], dim=1)).unbind(1)


def _standardised(view: Tensor) -> Tensor:
    centred = view - view.mean(0)
    return centred / (centred.square().mean(0) + BARLOW_EPSILON).sqrt()


def _off_diagonal(first: Tensor, second: Tensor) -> Tensor:
    """Σ_{i ≠ j} (firstᵀ second)_ij² of (B, D) matrices, by products of whichever is smaller, B x B or D x D.

    |XᵀY|² = tr(YᵀX XᵀY) = Σ (X Xᵀ) ∘ (Y Yᵀ), and projectors are wider than batches: at the published D = 8192 this
    saves the 268 MB of every D x D matrix, and the more of the time the smaller the batch.
    """
    if len(first) < first.shape[1]:
        gram = first @ first.T
        everything = (gram * (gram if second is first else second @ second.T)).sum()
    else:
        everything = (first.T @ second).square().sum()
    return everything - (first * second).sum(0).square().sum()
