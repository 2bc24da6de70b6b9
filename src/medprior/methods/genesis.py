"""Models Genesis: cubes that were shuffled, bent in intensity and painted over are restored, voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medprior.backbones.embedded import freeze_unreached
from medprior.backbones.unet import UNetDecoder, check_extents
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.precision import full
from medprior.objectives.restoration import squared_error
from medprior.views.corruption import deform, flip_repeatedly
from medprior.views.draws import Key
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View

Odds = Annotated[float, Field(ge=0, le=1)]


class Genesis(Method):
    """Restore each cube from a copy that was shuffled locally, bent in intensity and painted in or around boxes.

    Zhou et al., MICCAI 2019, arXiv 1908.06912; MedIA 2021, arXiv 2004.07882. Written from the papers; the authors' code
    and weights have a licence of their own (NOTICE). Flips are of spatial axes, theirs never of the last. Padding
    counts nowhere. Cubes of air are drawn anew; the authors', of chest CT alone, were held to the lung.
    """

    paper = "Zhou et al., MICCAI 2019, arXiv 1908.06912"
    title = "Models Genesis"

    class Config(MethodConfig):
        """Odds of each deformation, as in `medprior.views.corruption.deform`, and which cubes are taken.

        Attributes:
            air: intensity up to which a voxel is air, in [0, 1]: of CT between -1000 and 1000 HU, 0.05 is -900 HU.
            tissue: least and greatest share of a cube that may be more than air.
            tries: cubes drawn of each scan at every step. The first within `tissue` is taken, else the one nearest to
                it: no scan is left out, however dark.
        """

        flipped: Odds = 0.4
        shuffled: Odds = 0.5
        bent: Odds = 0.9
        painted: Odds = 0.9
        inner: Odds = 0.2
        air: Odds = 0.05
        tissue: tuple[Odds, Odds] = (0.15, 1.0)
        tries: int = Field(2, ge=1)

        @model_validator(mode="after")
        def _something_is_deformed(self) -> Self:
            if not (self.shuffled or self.bent or self.painted):
                raise ValueError("nothing is left to restore: give shuffled, bent or painted odds above 0")
            if self.tissue[0] > self.tissue[1]:
                raise ValueError(f"tissue runs from the least share to the greatest: {self.tissue}")
            return self

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        # Undistorted, as cubes of the scan's own voxels are; flips are the method's.
        return independent(replace(base.restorative(), aspect=(1.0, 1.0), flips=()), count=self.config.tries)

    def build(self, facts: DataFacts) -> None:
        check_extents(self.encoder, facts.extents)
        self.deform(torch.zeros(1, facts.channels, *facts.extents), Key(0, 0, torch.zeros(1, dtype=torch.int64), 0))
        freeze_unreached(self.encoder)
        self.decoder = UNetDecoder(self.encoder, facts.channels)

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        pixels, valid = self.choose(views)
        key = Key(batch.seed, batch.step, batch.index, view=0)
        seen, target = self.deform(pixels, key)
        return {"loss": squared_error(self._restore(seen), target, flip_repeatedly(valid, key, self.config.flipped))}

    def choose(self, views: Sequence[View]) -> tuple[Tensor, Tensor]:
        """Of every scan the cube that is taken: pixels (B, C, *S) and valid (B, 1, *S)."""
        pixels, valid, least = views[0].pixels, views[0].valid, self._unfit(views[0])
        for view in views[1:]:
            unfit = self._unfit(view)
            better = (unfit < least).view(-1, *[1] * (pixels.ndim - 1))
            pixels, valid = torch.where(better, view.pixels, pixels), torch.where(better, view.valid, valid)
            least = torch.minimum(least, unfit)
        return pixels, valid

    def deform(self, pixels: Tensor, key: Key) -> tuple[Tensor, Tensor]:
        """What the encoder sees and what is to be restored, both (B, C, *S) in [0, 1] and flipped alike."""
        c = self.config
        return deform(
            pixels, key, flipped=c.flipped, shuffled=c.shuffled, bent=c.bent, painted=c.painted, inner=c.inner
        )

    @torch.no_grad()
    def reconstruct(self, views: Sequence[View], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """For the eye: the target, what the encoder saw of it, and what it made of that; (B, C, *S) in [0, 1]."""
        seen, target = self.deform(self.choose(views)[0], Key(batch.seed, batch.step, batch.index, view=0))
        training = self.training
        restored = self.eval()._restore(seen)
        self.train(training)
        return target, seen, restored

    def parts(self) -> dict[str, nn.Module]:
        return {"decoder": self.decoder}

    def _restore(self, seen: Tensor) -> Tensor:
        return full(self.decoder(self.encoder(seen))).sigmoid()

    def _unfit(self, view: View) -> Tensor:
        """(B,) how far the share of tissue is from what it may be."""
        share = (view.pixels > self.config.air).flatten(1).float().mean(1)
        low, high = self.config.tissue
        return (low - share).clamp(min=0) + (share - high).clamp(min=0)
