"""SimCLR: two views of one image are more alike than views of different images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn

from medprior.methods.heads import mlp
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.contrastive import nt_xent
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View


class SimCLR(Method):
    """Contrast two views of each image against all other images of the batch.

    Chen et al., ICML 2020, arXiv 2002.05709.
    """

    paper = "Chen et al., ICML 2020, arXiv 2002.05709"
    evidence = "tested on CT: not told apart from scratch"

    class Config(MethodConfig):
        """`projection`: widths of the projector, hidden layers and output."""

        temperature: float = Field(0.1, gt=0)
        projection: tuple[int, ...] = Field((2048, 128), min_length=1)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(base.contrastive(), count=2)

    def build(self, facts: DataFacts) -> None:
        self.projector = mlp(self.encoder.embed_dim, *self.config.projection)

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        both = torch.cat([view.pixels for view in views])  # one pass: batch norm sees both views, as published
        first, second = self.projector(self.embed(both)).chunk(2)
        return {"loss": nt_xent(first, second, self.config.temperature)}

    def parts(self) -> dict[str, nn.Module]:
        return {"projector": self.projector}
