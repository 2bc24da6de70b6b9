"""Heads that several methods share."""

from __future__ import annotations

from itertools import pairwise

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder
from medprior.backbones.vit import resized_positions, sincos_positions


def mlp(inputs: int, *widths: int, norm: bool = True, bias: bool = True) -> nn.Sequential:
    """Linear layers (B, inputs) to (B, widths[-1]) with ReLU between them, after batch norm if `norm`.

    `bias` is the last layer's: what is centred afterwards needs none.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise((inputs, *widths[:-1])):
        layers += [nn.Linear(before, after, bias=not norm)]
        layers += [nn.BatchNorm1d(after)] if norm else []
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear((inputs, *widths)[-2], widths[-1], bias=bias))


class Branch(nn.Module):
    """An encoder with a projector on its pooled output, pixels (B, C, *S) to (B, D): what a teacher is a copy of."""

    def __init__(self, encoder: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def forward(self, pixels: Tensor) -> Tensor:
        """Project the pooled output of the encoder."""
        projected: Tensor = self.projector(self.encoder.pool(self.encoder(pixels)))
        return projected


class HeldWeight(nn.Module):
    """A matrix (outputs, inputs) that a method can hold still for some steps: SwAV's prototypes, DINO's last layer.

    Called, it gives the weight; while it is held, the gradient that reaches it is 0. `hold` belongs before the loss of
    a step, `settle` after its update, which a weight decay or a momentum would else use to move it.
    """

    held: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(inputs, outputs, bias=False).weight.detach())
        self.register_buffer("held", torch.tensor(False), persistent=False)
        self._kept: Tensor | None = None

    def forward(self) -> Tensor:
        """The weight, (outputs, inputs)."""
        return torch.where(self.held, self.weight.detach(), self.weight)

    def hold(self, held: bool) -> None:
        """Keep the weight as it is in the step that begins, or let it move."""
        self.held.fill_(held)
        self._kept = self.weight.detach().clone() if held else None

    @torch.no_grad()
    def settle(self) -> None:
        """Undo what the update did to a weight that is held."""
        if self._kept is not None:
            self.weight.copy_(self._kept)


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
        self.prefix, self.grid = prefix, grid
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

    def forward(self, tokens: Tensor, keep: Tensor, hidden: Tensor, grid: tuple[int, ...] | None = None) -> Tensor:
        """Predict the hidden patches from the kept ones. Every token attends to every other.

        A token's place is told by its position alone, so visible and hidden ones simply follow each other.

        Args:
            tokens: (B, prefix + K, D) of the encoder.
            keep: (B, K) numbers of the patches they stand for.
            hidden: (B, M) numbers of the other patches.
            grid: patches along each axis, where it is not the decoder's own: positions are then interpolated.

        Returns:
            (B, M, outputs).
        """
        known, places = self.embed(tokens), resized_positions(self.positions[0], self.grid, grid or self.grid)
        prefix, visible = known[:, : self.prefix], known[:, self.prefix :] + nn.functional.embedding(keep, places)
        filled = self.mask_token + nn.functional.embedding(hidden, places)
        everything = torch.cat([prefix, visible, filled], dim=1)
        found: Tensor = self.head(self.norm(self.blocks(everything)[:, -hidden.shape[1] :]))
        return found
