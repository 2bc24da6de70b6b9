"""Classification: one label of two or more classes, or several yes/no labels of which some may be unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from medprior.evaluation.probes import Probe

Kind = Literal["binary", "multiclass", "multilabel"]
MOST_WEIGHT = 20.0


@dataclass(frozen=True)
class Classification:
    """What is to be told apart.

    Attributes:
        kind: binary and multiclass targets are class indices (N,), NaN where unlabelled;
            multilabel targets are (N, K) of 0, 1 or NaN where unknown.
        names: class names, or label names.
    """

    kind: Kind
    names: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Logits per image: one per class or label (two for a binary task)."""
        return len(self.names)

    def head(self, embed_dim: int, probe: Probe | None = None) -> nn.Linear:
        """A linear head on pooled features: that of a probe, or one near zero so that the encoder is not shaken."""
        head = nn.Linear(embed_dim, self.outputs)
        nn.init.trunc_normal_(head.weight, std=2e-3)
        nn.init.zeros_(head.bias)
        if probe is not None:
            head.load_state_dict({"weight": torch.from_numpy(probe.weight), "bias": torch.from_numpy(probe.bias)})
        return head

    def weights(self, targets: torch.Tensor, balanced: bool) -> torch.Tensor:
        """Loss weights (K,) that let every class count alike; ones when not `balanced`.

        For classes the inverse frequency, for labels unknown over known negatives per positive; at most 20.
        """
        if not balanced:
            return torch.ones(self.outputs, device=targets.device)
        if self.kind == "multilabel":
            positive = (targets == 1).sum(0).clamp(min=1)
            return ((targets == 0).sum(0) / positive).clamp(1 / MOST_WEIGHT, MOST_WEIGHT)
        counts = torch.bincount(targets.long(), minlength=self.outputs).clamp(min=1)
        return (len(targets) / (self.outputs * counts)).clamp(max=MOST_WEIGHT)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Weighted cross-entropy, or binary cross-entropy over the known entries; logits (B, K), a scalar out."""
        if self.kind != "multilabel":
            return F.cross_entropy(logits, targets.long(), weight=weights)
        known = ~torch.isnan(targets)
        clean = torch.where(known, targets, torch.zeros_like(targets))
        each = F.binary_cross_entropy_with_logits(logits, clean, pos_weight=weights, reduction="none")
        return (each * known).sum() / known.sum().clamp(min=1)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """(N, K): softmax over classes, or a sigmoid per label."""
        return logits.sigmoid() if self.kind == "multilabel" else logits.softmax(-1)
