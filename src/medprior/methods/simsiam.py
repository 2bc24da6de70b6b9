"""SimSiam: each view predicts what the same network makes of the other, and only the prediction learns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn

from medprior.methods.heads import mlp
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.agreement import negative_cosine
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View


class SimSiam(Method):
    """Predict the projection of one view from that of the other, with no gradient through what is predicted.

    Chen and He, CVPR 2021, arXiv 2011.10566.
    """

    paper = "Chen and He, CVPR 2021, arXiv 2011.10566"

    class Config(MethodConfig):
        """`projection`: widths of the projector, hidden layers and output. `prediction`: the predictor's hidden one."""

        projection: tuple[int, ...] = Field((2048, 2048, 2048), min_length=1)
        prediction: int = Field(512, ge=1)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(base.contrastive(), count=2)

    def build(self, facts: DataFacts) -> None:
        widths = self.config.projection
        layers = mlp(self.encoder.embed_dim, *widths, bias=False)
        self.projector = nn.Sequential(*layers, nn.BatchNorm1d(widths[-1], affine=False))
        self.predictor = mlp(widths[-1], self.config.prediction, widths[-1])

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        z = self.projector(self.embed(torch.cat([view.pixels for view in views])))
        p1, p2 = self.predictor(z).chunk(2)
        z1, z2 = z.detach().chunk(2)
        return {"loss": negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2}

    def parts(self) -> dict[str, nn.Module]:
        return {"projector": self.projector, "predictor": self.predictor}
