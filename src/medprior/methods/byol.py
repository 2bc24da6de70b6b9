"""BYOL: each view predicts what a slow copy of the network makes of the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn

from medprior.methods.heads import Branch, mlp
from medprior.methods.method import Batch, Clock, DataFacts, Losses, Method, MethodConfig
from medprior.methods.schedules import half_cosine
from medprior.methods.teacher import Teacher
from medprior.objectives.agreement import negative_cosine
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View


class BYOL(Method):
    """Predict the teacher's projection of one view from the student's of the other.

    Grill et al., NeurIPS 2020, arXiv 2006.07733.
    """

    paper = "Grill et al., NeurIPS 2020, arXiv 2006.07733"

    class Config(MethodConfig):
        """Widths of the heads, and how slowly the teacher moves.

        Attributes:
            projection: widths of the projector, hidden layers and output.
            prediction: width of the predictor's hidden layer.
            momentum: of the teacher at the first step; it rises to 1 on a half cosine.
        """

        projection: tuple[int, ...] = Field((4096, 256), min_length=1)
        prediction: int = Field(4096, ge=1)
        momentum: float = Field(0.996, ge=0, le=1)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(base.contrastive(), count=2)

    def build(self, facts: DataFacts) -> None:
        widths = self.config.projection
        self.projector = mlp(self.encoder.embed_dim, *widths, bias=False)
        self.predictor = mlp(widths[-1], self.config.prediction, widths[-1], bias=False)
        self.teacher = Teacher(Branch(self.encoder, self.projector))

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        both = torch.cat([view.pixels for view in views])
        q1, q2 = self.predictor(self.projector(self.embed(both))).chunk(2)
        z1, z2 = self.teacher(both).chunk(2)
        # Squared distances of unit vectors, one each way, summed as published.
        return {"loss": (2 + 2 * negative_cosine(q1, z2)) + (2 + 2 * negative_cosine(q2, z1))}

    def after_update(self, clock: Clock) -> None:
        momentum = half_cosine(clock.step, clock.steps, self.config.momentum, 1.0)
        self.teacher.move(Branch(self.encoder, self.projector), momentum)

    def parts(self) -> dict[str, nn.Module]:
        return {"projector": self.projector, "predictor": self.predictor, "teacher": self.teacher}
