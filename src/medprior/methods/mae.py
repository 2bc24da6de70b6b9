"""Masked autoencoder: most patches are dropped before the encoder and restored by a small decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medprior.backbones.vit import VisionTransformer
from medprior.errors import SettingsError
from medprior.methods.heads import TokenDecoder
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.reconstruction import Standardised, patch_loss, patchify, standardise_patches, unpatchify
from medprior.views.draws import Key, uniform
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View

GREY = 0.5


class MAE(Method):
    """Restore the hidden patches of an image from the few that are seen.

    He et al., CVPR 2022, arXiv 2111.06377. The encoder runs on the kept patches alone; padding counts nowhere.
    """

    needs = "vit"
    paper = "He et al., CVPR 2022, arXiv 2111.06377"
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
                f"views of {facts.size} pixels are a single patch of {encoder.patch}: nothing is left to hide",
                where="data.size",
                do="Use larger views or an encoder with smaller patches, such as vit_tiny_patch8",
            )
        encoder.positions.requires_grad_(False)
        self.decoder = TokenDecoder(
            encoder.embed_dim,
            encoder.tokens_grid,
            encoder.prefix,
            facts.channels * encoder.patch**facts.spatial_dims,
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
        )

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        (view,) = views
        keep, hidden = self.mask(batch)
        predicted = self._restore(view, keep, wanted=hidden)
        target, valid = self._target(view, hidden)
        return {"loss": patch_loss(predicted.float(), target.values, valid)}

    def mask(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Numbers of the patches to keep (B, K) and to hide (B, L - K), drawn for each scan."""
        cells = self.decoder.positions.shape[1]
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
        keep, hidden = self.mask(batch)
        cells = keep.shape[1] + hidden.shape[1]
        everything = torch.arange(cells, device=keep.device).expand(len(keep), -1)
        predicted = self._restore(view, keep, wanted=everything)
        target, _ = self._target(view, everything)
        patches = patchify(view.pixels, self.encoder.patch)
        seen = torch.zeros_like(everything, dtype=torch.bool).scatter(1, keep, True).unsqueeze(-1)
        restored = torch.where(seen, patches, predicted.float() * target.deviation + target.mean)
        shown = (
            unpatchify(p, self.encoder.patch, self.encoder.tokens_grid) for p in (patches.where(seen, GREY), restored)
        )
        masked, restored = (image.clamp(0, 1) for image in shown)
        return view.pixels, masked, restored

    def parts(self) -> dict[str, nn.Module]:
        return {"decoder": self.decoder}

    def _restore(self, view: View, keep: Tensor, wanted: Tensor) -> Tensor:
        tokens = self.encoder.tokens(self.encoder.stem(view.pixels), keep)
        restored: Tensor = self.decoder(tokens, keep, wanted)
        return restored

    def _target(self, view: View, wanted: Tensor) -> tuple[Standardised, Tensor]:
        """The wanted patches standardised, and which of their values are no padding."""
        whole = (view.pixels, view.valid.expand_as(view.pixels))
        pixels, valid = (_take(patchify(image, self.encoder.patch), wanted) for image in whole)
        return standardise_patches(pixels, valid, self.config.floor), valid


def _take(patches: Tensor, wanted: Tensor) -> Tensor:
    return patches.gather(1, wanted.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
