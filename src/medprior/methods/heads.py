"""Heads that several methods share."""

from __future__ import annotations

from itertools import pairwise

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from medprior.backbones.vit import sincos_positions


def mlp(inputs: int, *widths: int, norm: bool = True) -> nn.Sequential:
    """Linear layers (B, inputs) to (B, widths[-1]) with ReLU between them, after batch norm if `norm`."""
    layers: list[nn.Module] = []
    for before, after in pairwise((inputs, *widths[:-1])):
        layers += [nn.Linear(before, after, bias=not norm)]
        layers += [nn.BatchNorm1d(after)] if norm else []
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear((inputs, *widths)[-2], widths[-1]))


class TokenDecoder(nn.Module):
    """A small transformer that fills hidden patches in: visible tokens stay, the others start as one learnt token.

    He et al., CVPR 2022, arXiv 2111.06377: fixed sin-cos positions, Xavier initialisation, a linear layer at the end.

    Args:
        inputs: width of the encoder's tokens.
        grid: patches along each axis.
        prefix: tokens before the patches; they have no position.
        outputs: values per patch.
    """

    positions: Tensor

    def __init__(
        self, inputs: int, grid: tuple[int, ...], prefix: int, outputs: int, *, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.prefix = prefix
        self.embed = nn.Linear(inputs, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sincos_positions(grid, width).unsqueeze(0), persistent=False)
        self.blocks = nn.Sequential(*[Block(width, heads, qkv_bias=True) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, keep: Tensor, wanted: Tensor) -> Tensor:
        """Predict the patches that are `wanted`.

        Args:
            tokens: (B, prefix + K, D) of the encoder.
            keep: (B, K) numbers of the patches they stand for.
            wanted: (B, M) numbers of the patches to predict.

        Returns:
            (B, M, outputs).
        """
        known = self.embed(tokens)
        batch, width = len(known), known.shape[-1]
        patches = self.mask_token.to(known.dtype).expand(batch, self.positions.shape[1], -1)
        patches = patches.scatter(1, _wide(keep, width), known[:, self.prefix :]) + self.positions
        decoded = self.blocks(torch.cat([known[:, : self.prefix], patches], dim=1))[:, self.prefix :]
        found: Tensor = self.head(self.norm(decoded.gather(1, _wide(wanted, width))))
        return found


def _wide(index: Tensor, width: int) -> Tensor:
    return index.unsqueeze(-1).expand(-1, -1, width)
