"""SimMIM: large blocks of an image are hidden behind one learnt token, and a linear layer restores their pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from medprior.backbones.sparse import resize_cells
from medprior.backbones.vit import VisionTransformer
from medprior.errors import SettingsError
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.restoration import absolute_error
from medprior.views.draws import Key
from medprior.views.masking import mask_blocks
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View

GREY = 0.5
SCALE = (0.67, 1.0)
LARGEST_BLOCK = 32
LEAST_BLOCKS = 4


class SimMIM(Method):
    """Restore the pixels of hidden blocks by one linear layer on a transformer that sees a token in their place.

    Xie et al., CVPR 2022, arXiv 2111.09886. Positions are the encoder's own, theirs were relative ones; padding counts
    nowhere. A block is 32 pixels, or less where fewer than 4 of those lie along an axis. Images may have any shape that
    patches divide.
    """

    needs = "vit"
    paper = "Xie et al., CVPR 2022, arXiv 2111.09886"
    encoder: VisionTransformer

    class Config(MethodConfig):
        """`mask_ratio`: share of the blocks that are hidden, rounded up; `block`: their side in pixels, a multiple of
        the patch."""

        mask_ratio: float = Field(0.6, gt=0, lt=1)
        block: int | None = Field(None, ge=1)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(replace(base.restorative(), scale=SCALE), count=1)

    def build(self, facts: DataFacts) -> None:
        encoder, ratio = self.encoder, self.config.mask_ratio
        self.block = block_size(self.config.block, encoder.patch, facts.size)
        blocks = math.prod(math.ceil(count / (self.block // encoder.patch)) for count in encoder.tokens_grid)
        if math.ceil(ratio * blocks) == blocks:
            raise SettingsError(
                f"of {blocks} blocks of {self.block} pixels a share of {ratio} is all: nothing is left to see",
                where="data.size",
                do="Use larger views, smaller blocks (simmim.block) or an encoder with smaller patches",
            )
        self.head = HiddenHead(encoder.embed_dim, facts.channels * math.prod(encoder.sides))

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        (view,) = views
        hidden = self.mask(batch, self.encoder.grid_of(view.pixels.shape[2:]))
        wanted = view.valid & resize_cells(hidden, view.pixels.shape[2:])
        return {"loss": absolute_error(self._predict(view, hidden), self.encoder.standardise(view.pixels), wanted)}

    def mask(self, batch: Batch, grid: tuple[int, ...]) -> Tensor:
        """Which patches are hidden, (B, 1, *grid) bool, whole blocks of them, drawn for each scan."""
        key = Key(batch.seed, batch.step, batch.index, view=0)
        return mask_blocks(key, grid, self.block // self.encoder.patch, self.config.mask_ratio)

    @torch.no_grad()
    def reconstruct(self, views: Sequence[View], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """For the eye: the image, what the encoder saw of it (the rest grey), and what it made of that.

        Three tensors (B, C, *S) in [0, 1]; what was visible is the original.
        """
        (view,) = views
        hidden = self.mask(batch, self.encoder.grid_of(view.pixels.shape[2:]))
        restored = self._predict(view, hidden).float() * self.encoder.std + self.encoder.mean
        where = resize_cells(hidden, view.pixels.shape[2:])
        masked, filled = (torch.where(where, image, view.pixels).clamp(0, 1) for image in (GREY, restored))
        return view.pixels, masked, filled

    def parts(self) -> dict[str, nn.Module]:
        return {"head": self.head}

    def _predict(self, view: View, hidden: Tensor) -> Tensor:
        """Standardised pixels (B, C, *S)."""
        encoder, grid = self.encoder, tuple(hidden.shape[2:])
        z = encoder.hide(encoder.stem(view.pixels), hidden.flatten(1), self.head.token, grid)
        return encoder.join(self.head(encoder.tokens(z)[:, encoder.prefix :]), grid)


class HiddenHead(nn.Linear):
    """A linear layer from each token to the pixels of its patch, and the token that stands for a hidden one."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__(width, outputs)
        self.token = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.token, std=0.02)


def block_size(asked: int | None, patch: int, size: int) -> int:
    """The side of a block: as asked, or the most patches within `LARGEST_BLOCK` that leave `LEAST_BLOCKS` on an axis.

    Raises:
        SettingsError: not a multiple of the patch.
    """
    if asked is None:
        sides = range(patch, LARGEST_BLOCK + 1, patch)
        return max((side for side in sides if size // side >= LEAST_BLOCKS), default=patch)
    if asked % patch:
        raise SettingsError(
            f"blocks of {asked} pixels are no whole patches of {patch}",
            where="setting simmim.block",
            do=f"Use a multiple of {patch}, or leave it out",
        )
    return asked
