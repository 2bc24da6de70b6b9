"""Barlow Twins: the same value of two views correlates, different values do not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn

from medprior.methods.heads import mlp
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.redundancy import barlow_twins
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View


class BarlowTwins(Method):
    """Draw the cross-correlation of two views over the batch towards the identity.

    Zbontar et al., ICML 2021, arXiv 2103.03230.
    """

    paper = "Zbontar et al., ICML 2021, arXiv 2103.03230"
    title = "Barlow Twins"

    class Config(MethodConfig):
        """Width of the projector and weights of the loss.

        Attributes:
            projection: widths of the projector, hidden layers and output.
            redundancy: λ, weight of the correlations between different values.
            scale: of the whole loss. LARS moves weights alike whatever it is, and norms and biases in proportion.
        """

        projection: tuple[int, ...] = Field((8192, 8192, 8192), min_length=1)
        redundancy: float = Field(0.0051, ge=0)
        scale: float = Field(1.0, gt=0)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(base.contrastive(), count=2)

    def build(self, facts: DataFacts) -> None:
        self.projector = mlp(self.encoder.embed_dim, *self.config.projection, bias=False)

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        both = torch.cat([view.pixels for view in views])
        z1, z2 = self.projector(self.embed(both)).chunk(2)
        invariance, redundancy = barlow_twins(z1, z2)
        loss = self.config.scale * (invariance + self.config.redundancy * redundancy)
        return {"loss": loss, "invariance": invariance.detach(), "redundancy": redundancy.detach()}

    def parts(self) -> dict[str, nn.Module]:
        return {"projector": self.projector}
