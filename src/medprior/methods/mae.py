"""Masked autoencoder: most patches are dropped before the encoder and restored by a small decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medprior.backbones.axes import in_words
from medprior.backbones.vit import VisionTransformer
from medprior.errors import SettingsError
from medprior.methods.heads import TokenDecoder
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.reconstruction import patch_loss, standardise_patches
from medprior.views.draws import Key, uniform
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View

GREY = 0.5


class MAE(Method):
    """Restore the hidden patches of an image from the few that are seen.

    He et al., CVPR 2022, arXiv 2111.06377. The encoder runs on the kept patches alone; padding counts nowhere.
    Images may have any shape that patches divide.
    """

    needs = "vit"
    paper = "He et al., CVPR 2022, arXiv 2111.06377"
    evidence = "short studies: benchmarks/verdicts"
    encoder: VisionTransformer

    class Config(MethodConfig):
        """`floor`: deviation, in units of intensity, under which a patch counts as flat."""

        mask_ratio: float = Field(0.75, gt=0, lt=1)
        decoder_width: int = Field(512, ge=6)
        decoder_depth: int = Field(8, ge=1)
        decoder_heads: int = Field(16, ge=1)
        floor: float = Field(1e-3, gt=0)

        @model_validator(mode="after")
        def _heads_share_the_width(self) -> Self:
            if self.decoder_width % self.decoder_heads:
                raise ValueError(f"decoder_heads must divide decoder_width: {self.decoder_heads}, {self.decoder_width}")
            return self

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(base.restorative(), count=1)

    def build(self, facts: DataFacts) -> None:
        encoder, config = self.encoder, self.config
        if math.prod(encoder.tokens_grid) < 2:
            raise SettingsError(
                f"views of {facts.size} pixels are a single patch of {in_words(encoder.sides)}: nothing is left to "
                "hide",
                where="data.size",
                do="Use larger views or an encoder with smaller patches, such as vit_tiny_patch8",
            )
        encoder.positions.requires_grad_(False)
        self.decoder = TokenDecoder(
            encoder.embed_dim,
            encoder.tokens_grid,
            encoder.prefix,
            facts.channels * math.prod(encoder.sides),
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
        )

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        (view,) = views
        grid = self.encoder.grid_of(view.pixels.shape[2:])
        keep, hidden = self.mask(batch, grid)
        patches = self.encoder.cut(view.pixels)
        predicted = self._restore(patches, keep, hidden, grid)
        valid = self._valid(view, hidden)
        target = standardise_patches(_take(patches, hidden), valid, self.config.floor)
        return {"loss": patch_loss(predicted.float(), target.values, valid)}

    def mask(self, batch: Batch, grid: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
        """Numbers of the patches to keep (B, K) and to hide (B, L - K), drawn for each scan.

        `grid` are the patches along each axis; None is those of the encoder's own size.
        """
        cells = math.prod(grid or self.encoder.tokens_grid)
        kept = min(max(1, int(cells * (1 - self.config.mask_ratio))), cells - 1)
        key = Key(batch.seed, batch.step, batch.index, view=0)
        order = uniform(key, "mask", (cells,)).argsort(dim=1, stable=True)
        return order[:, :kept], order[:, kept:]

    @torch.no_grad()
    def reconstruct(self, views: Sequence[View], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """For the eye: the image, what the encoder saw of it (the rest grey), and what it made of that.

        Three tensors (B, C, *S) in [0, 1]. Hidden patches get back the brightness and contrast of the original,
        which the objective does not ask for; visible ones are the original.
        """
        (view,) = views
        grid = self.encoder.grid_of(view.pixels.shape[2:])
        keep, hidden = self.mask(batch, grid)
        patches = self.encoder.cut(view.pixels)
        predicted = self._restore(patches, keep, hidden, grid).float()
        target = standardise_patches(_take(patches, hidden), self._valid(view, hidden), self.config.floor)
        filled = (torch.full_like(predicted, GREY), predicted * target.deviation + target.mean)
        where = _wide(hidden, patches)
        masked, restored = (self.encoder.join(patches.scatter(1, where, values), grid).clamp(0, 1) for values in filled)
        return view.pixels, masked, restored

    def parts(self) -> dict[str, nn.Module]:
        return {"decoder": self.decoder}

    def _restore(self, patches: Tensor, keep: Tensor, hidden: Tensor, grid: tuple[int, ...]) -> Tensor:
        tokens = self.encoder.tokens(self.encoder.embed(_take(patches, keep), keep, grid))
        restored: Tensor = self.decoder(tokens, keep, hidden, grid)
        return restored

    def _valid(self, view: View, hidden: Tensor) -> Tensor:
        """Which values of the hidden patches are no padding, (B, M, P)."""
        found = _take(self.encoder.cut(view.valid), hidden)
        return found.repeat_interleave(view.pixels.shape[1], dim=-1)  # channels run fastest


def _take(patches: Tensor, numbers: Tensor) -> Tensor:
    return patches.gather(1, _wide(numbers, patches))


def _wide(numbers: Tensor, patches: Tensor) -> Tensor:
    return numbers.unsqueeze(-1).expand(-1, -1, patches.shape[-1])
