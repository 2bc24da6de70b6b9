"""VICReg: two views are close, every value varies over the batch, and no two vary together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn

from medprior.methods.heads import mlp
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.redundancy import vicreg
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View


class VICReg(Method):
    """Invariance of the views, with variance and covariance regularised against collapse.

    Bardes, Ponce and LeCun, ICLR 2022, arXiv 2105.04906.
    """

    paper = "Bardes, Ponce and LeCun, ICLR 2022, arXiv 2105.04906"

    class Config(MethodConfig):
        """Width of the projector (the paper's expander) and weights of the loss.

        Attributes:
            projection: widths of the projector, hidden layers and output.
            invariance, variance, covariance: λ, μ and ν.
        """

        projection: tuple[int, ...] = Field((8192, 8192, 8192), min_length=1)
        invariance: float = Field(25.0, ge=0)
        variance: float = Field(25.0, ge=0)
        covariance: float = Field(1.0, ge=0)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(base.contrastive(), count=2)

    def build(self, facts: DataFacts) -> None:
        self.projector = mlp(self.encoder.embed_dim, *self.config.projection, bias=False)

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        both = torch.cat([view.pixels for view in views])
        z1, z2 = self.projector(self.embed(both)).chunk(2)
        terms, weights = vicreg(z1, z2), self.config
        loss = (
            weights.invariance * terms.invariance
            + weights.variance * terms.variance
            + weights.covariance * terms.covariance
        )
        return {"loss": loss, **{name: term.detach() for name, term in terms._asdict().items()}}

    def parts(self) -> dict[str, nn.Module]:
        return {"projector": self.projector}
