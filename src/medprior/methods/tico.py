"""TiCo: two views agree while embeddings avoid the directions that recent batches have filled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from medprior.methods.heads import Branch, mlp
from medprior.methods.method import Batch, Clock, DataFacts, Losses, Method, MethodConfig, Share
from medprior.methods.schedules import half_cosine
from medprior.methods.teacher import Teacher
from medprior.objectives.moments import tico
from medprior.objectives.precision import sound
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View


class TiCo(Method):
    """Agree with a slow teacher on two views, and contrast embeddings with the moving average of their covariance.

    Zhu et al. 2022, arXiv 2206.10698. Written from memory of its pseudo-code: one view to the student, the other to
    the teacher; gradient through the batch's own covariance.
    """

    paper = "Zhu et al. 2022, arXiv 2206.10698"
    remembered: Tensor
    seen: Tensor

    class Config(MethodConfig):
        """Width of the projector, weight and memory of the covariance, and how slowly the teacher moves.

        Attributes:
            projection: widths of the projector, hidden layers and output.
            covariance: ρ, weight of the covariance contrast.
            memory: β, share of the earlier batches in the covariance.
            momentum: of the teacher at the first step; it rises to 1 on a half cosine.
        """

        projection: tuple[int, ...] = Field((4096, 256), min_length=1)
        covariance: float = Field(8.0, ge=0)
        memory: Share = 0.9
        momentum: float = Field(0.99, ge=0, le=1)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(base.contrastive(), count=2)

    def build(self, facts: DataFacts) -> None:
        width = self.config.projection[-1]
        self.projector = mlp(self.encoder.embed_dim, *self.config.projection)
        self.teacher = Teacher(Branch(self.encoder, self.projector))
        self.register_buffer("remembered", torch.zeros(width, width))
        self.register_buffer("seen", torch.zeros(width, width))

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        z1 = self.projector(self.embed(views[0].pixels))
        z2 = self.teacher(views[1].pixels)
        terms = tico(z1, z2, self.remembered, self.config.memory)
        if self.training:
            self.seen.copy_(sound(terms.moment, self.seen))
        loss = terms.invariance + self.config.covariance * terms.covariance
        return {"loss": loss, "invariance": terms.invariance.detach(), "covariance": terms.covariance.detach()}

    def before_update(self, clock: Clock) -> None:
        # Here, so that a loss taken twice in a step is the same.
        self.remembered.lerp_(self.seen, 1 - self.config.memory)

    def after_update(self, clock: Clock) -> None:
        momentum = half_cosine(clock.step, clock.steps, self.config.momentum, 1.0)
        self.teacher.move(Branch(self.encoder, self.projector), momentum)

    def parts(self) -> dict[str, nn.Module]:
        return {"projector": self.projector, "teacher": self.teacher}
