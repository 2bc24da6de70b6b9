"""Clustering in the course of training: views are spread evenly over prototypes, and predict each other's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medprior.objectives.distillation import across_views
from medprior.objectives.gather import gather, rank
from medprior.objectives.precision import full


class Assigned(NamedTuple):
    """Codes of this process's samples, and what they were made from.

    Attributes:
        codes: (G, B, K), each a distribution over prototypes.
        everyone: (G, W * B, D) embeddings of the joined batch.
    """

    codes: Tensor
    everyone: Tensor


def similarity(embeddings: Tensor, directions: Tensor) -> Tensor:
    """Scalar products (..., K) of (..., D) embeddings with (K, D) directions, in full precision.

    Temperatures of 0.1 and less magnify what bf16 rounds off.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        return F.linear(full(embeddings), full(directions))


def swapped_prediction(scores: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """Every view predicts the codes of the other views' crops of the same scan.

    Caron et al., NeurIPS 2020, arXiv 2006.09882, equations 2 and 6: the mean over samples and pairs of a view with
    codes and another view of the cross-entropy between the codes and softmax(scores / temperature).

    Args:
        scores: (V, B, K) of all views.
        codes: (G, B, K) of the first G, from `assign`.
    """
    return across_views(codes, scores, temperature)


@torch.no_grad()
def assign(
    embeddings: Tensor, prototypes: Tensor, earlier: Tensor, use: Tensor, *, epsilon: float, iterations: int
) -> Assigned:
    """Codes that spread the batches of all processes, and earlier samples if `use`, evenly over the prototypes.

    Args:
        embeddings: (G, B, D) of unit length, of G views; each view is spread by itself.
        prototypes: (K, D) of unit length.
        earlier: (G, Q, D) embeddings of past batches; Q may be 0.
        use: () bool, whether they count.
    """
    everyone = gather(embeddings.transpose(0, 1)).transpose(0, 1)
    views, joined, mine = len(embeddings), everyone.shape[1], embeddings.shape[1]
    present = torch.ones(joined, dtype=torch.bool, device=use.device)
    counts = torch.cat([present, use.expand(earlier.shape[1])]).expand(views, -1)
    codes = sinkhorn(similarity(torch.cat([everyone, earlier], dim=1), prototypes), counts, epsilon, iterations)
    return Assigned(codes.narrow(1, rank() * mine, mine), everyone)


@torch.no_grad()
def sinkhorn(scores: Tensor, counts: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Codes near exp(scores / epsilon): every sample adds up to 1, and all prototypes have nearly the same share.

    Cuturi, NeurIPS 2013, arXiv 1306.0895, as in SwAV: prototypes and samples are scaled in turn, samples last. In
    full precision; the largest score of all is subtracted first, which changes nothing but that nothing overflows.

    Args:
        scores: (..., R, K) of R samples with K prototypes.
        counts: (..., R) bool, which samples take part; the codes of the others are 0.
        epsilon: how soft codes are; towards 0 they become hard.
        iterations: the published 3 leave the shares of the prototypes uneven, many make them N / K of N samples.
    """
    with torch.autocast(scores.device.type, enabled=False):
        scaled = (full(scores) / epsilon).masked_fill(~counts.unsqueeze(-1), float("-inf"))
        codes = (scaled - scaled.amax((-2, -1), keepdim=True)).exp()
        least = torch.finfo(codes.dtype).tiny  # a sum of 0 is one of nothing but zeros, and they stay zeros
        for _ in range(iterations):
            codes = codes / codes.sum(-2, keepdim=True).clamp(min=least)
            codes = codes / codes.sum(-1, keepdim=True).clamp(min=least)
        return codes
