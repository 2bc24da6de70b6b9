"""Heat maps of a classifier: where in an image the score of an answer is sensitive.

They say where, not why, and look convincing for wrong models too (Adebayo et al., NeurIPS 2018, arXiv 1810.03292).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder
from medprior.tasks.classification import Kind

Name = Literal["Grad-CAM", "token relevance"]
LEAST_CELLS = 4
"""Along an axis, on average, of a feature map that is looked at: a map of one cell points nowhere."""
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
Score = Callable[[Tensor], Tensor]
"""From pooled features (B, D) to the scores (B,) that are looked into."""


@dataclass(frozen=True)
class HeatMap:
    """`heat` (*cells) in [0, 1], its maximum 1 unless nothing speaks for the answer; on the grid of features."""

    heat: Tensor
    name: Name


def heat_map(encoder: Encoder, score: Score, pixels: Tensor) -> HeatMap | None:
    """Where `score` of one image (C, *S) is sensitive; the encoder is left in evaluation.

    Plain vision transformers by `token_relevance`, other encoders by `grad_cam`. None of encoders with instance norms:
    these take the mean out of every channel, by which Grad-CAM weighs, and its maps lie beside what decides.
    """
    encoder.eval()
    if any(isinstance(layer, INSTANCE_NORMS) for layer in encoder.modules()):
        return None
    tokens = encoder.kind == "vit" and bool(_attentions(encoder))
    found = (token_relevance if tokens else grad_cam)(encoder, score, pixels[None])[0]
    greatest = found.max().clamp(min=torch.finfo(found.dtype).tiny)
    return HeatMap(found / greatest, "token relevance" if tokens else "Grad-CAM")


def grad_cam(encoder: Encoder, score: Score, pixels: Tensor) -> Tensor:
    """(B, *cells), at least 0: channels of a feature map weighted by the mean slope of the score in each.

    Selvaraju et al., ICCV 2017, arXiv 1610.02391: on the last map, or where that has fewer than 4 cells an axis on the
    deepest that has as many and that the score rests on.
    """
    with torch.enable_grad():
        maps = encoder(pixels.detach().requires_grad_())
        total = score(encoder.pool(maps)).sum()
    slopes = torch.autograd.grad(total, maps, allow_unused=True)
    fine = [i for i, slope in enumerate(slopes) if slope is not None and _cells(maps[i]) >= LEAST_CELLS]
    chosen = fine[-1] if fine else len(maps) - 1
    weights = slopes[chosen].flatten(2).mean(-1)
    heat: Tensor = torch.einsum("bc,bc...->b...", weights, maps[chosen].detach()).clamp(min=0)
    return heat


def token_relevance(encoder: Encoder, score: Score, pixels: Tensor) -> Tensor:
    """(B, *cells), at least 0: how much each patch of a vision transformer reaches the score through attention.

    Chefer et al., ICCV 2021, arXiv 2103.15679, for self-attention: every block adds to the relevance R the product of
    its attention, weighted by the positive slope of the score and averaged over heads, with R. As features are means
    over patches, so is the relevance, less the identity that it begins with.
    """
    with _attention_seen(encoder) as seen, torch.enable_grad():
        maps = encoder(pixels.detach().requires_grad_())
        total = score(encoder.pool(maps)).sum()
    slopes = torch.autograd.grad(total, seen)
    relevance = torch.eye(seen[0].shape[-1], dtype=seen[0].dtype, device=pixels.device)
    for attention, slope in zip(seen, slopes, strict=True):
        relevance = relevance + (attention.detach() * slope).clamp(min=0).mean(1) @ relevance
    patches = maps[-1].shape[2:].numel()
    gained = relevance - torch.eye(relevance.shape[-1], dtype=relevance.dtype, device=pixels.device)
    heat: Tensor = gained[:, -patches:, -patches:].mean(1).clamp(min=0)
    return heat.reshape(-1, *maps[-1].shape[2:])


def answer_score(head: nn.Module, kind: Kind, label: int, there: bool = True) -> Score:
    """The log odds of an answer: of class `label` against all others, or of a label being `there` or not."""

    def score(features: Tensor) -> Tensor:
        logits: Tensor = head(features)
        if kind == "multilabel":
            return logits[:, label] if there else -logits[:, label]
        others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        return logits[:, label] - others.logsumexp(1)

    return score


def _cells(found: Tensor) -> float:
    """Along an axis, on average."""
    cells: float = found.shape[2:].numel() ** (1 / (found.ndim - 2)) + 1e-6
    return cells


def _attentions(encoder: Encoder) -> list[Any]:
    """timm's attention layers in their order; what follows their softmax is a layer of its own."""
    return [one for one in encoder.network.modules() if hasattr(one, "fused_attn") and hasattr(one, "attn_drop")]


@contextmanager
def _attention_seen(encoder: Encoder) -> Iterator[list[Tensor]]:
    """The attention (B, heads, L, L) of every layer of the forward passes inside, which fused kernels would hide."""
    seen: list[Tensor] = []
    layers = _attentions(encoder)
    fused = [layer.fused_attn for layer in layers]
    hooks = [layer.attn_drop.register_forward_hook(lambda _, __, found: seen.append(found)) for layer in layers]
    try:
        for layer in layers:
            layer.fused_attn = False
        yield seen
    finally:
        for layer, before, hook in zip(layers, fused, hooks, strict=True):
            layer.fused_attn = before
            hook.remove()
