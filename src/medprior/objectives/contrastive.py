"""Losses that pull the views of one scan together and push those of others apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from medprior.objectives.gather import gather, rank, world_size
from medprior.objectives.precision import full


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
        mine = [F.normalize(full(view), dim=1) for view in (first, second)]
        everyone = torch.cat(gather(torch.stack(mine, dim=1)).unbind(1))
        similarity = torch.cat(mine) @ everyone.T / temperature
        count, joined = len(first), len(everyone) // 2
        own = torch.arange(count, device=first.device) + rank() * count
        itself, partner = torch.cat([own, own + joined]), torch.cat([own + joined, own])
        similarity = similarity.scatter(1, itself.unsqueeze(1), float("-inf"))
        return F.cross_entropy(similarity, partner)


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each query's key among the keys of a queue.

    He et al., CVPR 2020, arXiv 1911.05722, equation 1: the mean over the queries of

        -log( exp(q · k / τ) / (exp(q · k / τ) + Σ_j exp(q · n_j / τ)) ),    q and k scaled to unit length.

    Gradient runs to queries and keys: who wants none in the keys hands in keys without.

    Args:
        queries: (B, D), of any length but 0.
        keys: (B, D), in the same order.
        queue: (K, D) the n_j, of unit length.
        temperature: τ.

    Returns:
        The mean over this process's B queries.
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = (F.normalize(full(rows), dim=1) for rows in (queries, keys))
        alike, others = (queries * keys).sum(1, keepdim=True), queries @ queue.to(queries.dtype).T
        similarity = torch.cat([alike, others], dim=1) / temperature
        return F.cross_entropy(similarity, similarity.new_zeros(len(queries), dtype=torch.int64))


@torch.no_grad()
def shuffled(network: Callable[[Tensor], Tensor], rows: Tensor, draws: Tensor) -> Tensor:
    """What a network makes of the rows, each seen in the company of rows of other processes; without gradient.

    He et al., CVPR 2020, arXiv 1911.05722, section 3.3: a batch norm tells the network which batch a row came with, and
    that alone would find a query's key. So the rows of all processes are mixed before the key network, and what it
    makes of them is brought back. One process has no others to mix with: its rows stay together.

    Args:
        network: (B, ...) to (B, D).
        rows: (B, ...) of this process.
        draws: (B,) a random number for each row; the rows go in the order of these.

    Returns:
        (B, D) for this process's rows, in their order.
    """
    if world_size() == 1:
        return network(rows)
    order = gather(draws).argsort(stable=True)
    seen = gather(network(gather(rows)[order.chunk(world_size())[rank()]]))
    return seen[order.argsort()].chunk(world_size())[rank()]
