"""Losses that pull the views of one scan together and push those of others apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medprior.objectives.gather import gather, rank


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy over the batches of all processes.

    Chen et al., ICML 2020, arXiv 2002.05709, equation 1. With z the 2N embeddings scaled to unit length and i, j
    the two views of one scan, the mean over all ordered pairs of

        -log( exp(z_i · z_j / τ) / Σ_{k ≠ i} exp(z_i · z_k / τ) ).

    Args:
        first: (B, D) embeddings of one view of each scan, of any length but 0.
        second: (B, D) embeddings of the other view, in the same order.
        temperature: τ.

    Returns:
        The mean over this process's 2B anchors, against the 2WB - 1 other embeddings of all W processes.
    """
    with torch.autocast(first.device.type, enabled=False):  # τ magnifies what bf16 rounds off
        mine = [F.normalize(_full(view), dim=1) for view in (first, second)]
        everyone = torch.cat(gather(torch.stack(mine, dim=1)).unbind(1))
        similarity = torch.cat(mine) @ everyone.T / temperature
        count, joined = len(first), len(everyone) // 2
        own = torch.arange(count, device=first.device) + rank() * count
        itself, partner = torch.cat([own, own + joined]), torch.cat([own + joined, own])
        similarity = similarity.scatter(1, itself.unsqueeze(1), float("-inf"))
        return F.cross_entropy(similarity, partner)


def _full(embedding: Tensor) -> Tensor:
    return embedding if embedding.dtype == torch.float64 else embedding.float()
