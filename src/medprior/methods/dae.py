"""Disruptive autoencoder: a volume that lost detail in three ways at once is restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medprior.backbones.embedded import embedded_maps, freeze_unreached
from medprior.backbones.unet import UNetDecoder, check_extents
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.restoration import absolute_error
from medprior.views.corruption import add_noise, down_and_up
from medprior.views.draws import Key
from medprior.views.masking import mask_channels
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View


class DAE(Method):
    """Restore each image from a noisy and coarse copy of which most channels of the embedding are hidden.

    Valanarasu et al., MIDL 2024, arXiv 2307.16896. Each disruption can be left out. The decoder sees the image at full
    resolution as it was disrupted, and not at all where it was not. Padding counts nowhere.
    """

    paper = "Valanarasu et al., MIDL 2024, arXiv 2307.16896"

    class Config(MethodConfig):
        """How images are disrupted; what is 0 (a factor of 1) leaves that disruption out.

        Attributes:
            variance: of the noise, in units of intensity.
            factor: by which images are made coarser; it has to divide them.
            mask_ratio: share of the channels of the embedding that are 0, rounded down; for what the embedding is see
                `medprior.backbones.embedded.embedded_maps`.
            scope: whether each sample loses channels of its own ("sample"), as the paper has it, or all of a step the
                same ("batch"), as the authors' code does.
            contrast: weight of the cross-modal contrast; 0 is all there is. The published version of the paper dropped
                it, the authors' code compares volumes with the numbers of their modalities, not with each other, and
                batches do not say which modality a scan is of.
        """

        variance: float = Field(0.1, ge=0)
        factor: int = Field(4, ge=1)
        mask_ratio: float = Field(0.6, ge=0, lt=1)
        scope: Literal["sample", "batch"] = "sample"
        contrast: float = Field(0.0, ge=0)

        @model_validator(mode="after")
        def _it_is_disrupted_and_not_contrasted(self) -> Self:
            if not (self.variance or self.factor > 1 or self.mask_ratio):
                raise ValueError("nothing is left to restore: give a variance, a factor above 1 or a mask_ratio")
            if self.contrast:
                raise ValueError(
                    "there is no cross-modal contrast, since batches do not say which modality a scan is of, and the "
                    "published version of the paper has none: leave contrast at 0"
                )
            return self

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(replace(base.restorative(), aspect=(1.0, 1.0), flips=()), count=1)

    def build(self, facts: DataFacts) -> None:
        extents, config = facts.extents, self.config
        check_extents(self.encoder, extents)
        down_and_up(torch.zeros(1, 1, *extents), config.factor)
        freeze_unreached(self.encoder)
        # With its channels hidden and nothing else, the image is still clean: to show it would be to show the target.
        disrupted = config.variance > 0 or config.factor > 1
        self.decoder = UNetDecoder(self.encoder, facts.channels, sees_image=disrupted)

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        (view,) = views
        key = Key(batch.seed, batch.step, batch.index, view=0)
        restored = self._restore(self.disrupt(view.pixels, key), key)
        return {"loss": absolute_error(restored, view.pixels, view.valid)}

    def disrupt(self, pixels: Tensor, key: Key) -> Tensor:
        """Pixels (B, C, *S), noisy and then coarse; what leaves [0, 1] is not cut off."""
        noisy = add_noise(pixels, key, self.config.variance) if self.config.variance else pixels
        return down_and_up(noisy, self.config.factor)

    @torch.no_grad()
    def reconstruct(self, views: Sequence[View], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """For the eye: the image, what the encoder saw of it, and what it made of that; (B, C, *S) in [0, 1]."""
        (view,) = views
        key = Key(batch.seed, batch.step, batch.index, view=0)
        seen, training = self.disrupt(view.pixels, key), self.training
        restored = self.eval()._restore(seen, key).float()
        self.train(training)
        return view.pixels, seen.clamp(0, 1), restored.clamp(0, 1)

    def parts(self) -> dict[str, nn.Module]:
        return {"decoder": self.decoder}

    def _restore(self, seen: Tensor, key: Key) -> Tensor:
        hide = partial(mask_channels, key=key, ratio=self.config.mask_ratio, scope=self.config.scope)
        restored: Tensor = self.decoder(embedded_maps(self.encoder, seen, hide), seen)
        return restored
