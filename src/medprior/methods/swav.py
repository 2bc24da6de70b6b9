"""SwAV: every view predicts to which prototypes the other views of its image were assigned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from medprior.methods.heads import HeldWeight, mlp
from medprior.methods.method import Batch, Clock, DataFacts, Losses, Method, MethodConfig, Share
from medprior.objectives.clustering import assign, similarity, swapped_prediction
from medprior.objectives.precision import full, sound
from medprior.views.limits import Range
from medprior.views.multicrop import GLOBAL, MultiCrop, by_size, multi_crop
from medprior.views.plan import ViewPlan
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View


class SwAV(Method):
    """Predict the codes of two large crops from each other and from small crops; codes are even over the batch.

    Caron et al., NeurIPS 2020, arXiv 2006.09882.
    """

    paper = "Caron et al., NeurIPS 2020, arXiv 2006.09882"
    queue: Tensor
    queue_open: Tensor

    class Config(MethodConfig):
        """What the paper tunes.

        Attributes:
            epsilon, iterations: of Sinkhorn.
            projection: widths of the projector, hidden layers and output.
            global_scale, local_scale: share of a scan's area in the two large crops and the `local_count` small ones.
            local_size: pixels along a small crop; None takes 96/224 of the large ones'.
            queue: past samples that are assigned with a batch too small for the prototypes, from the share
                `queue_from` of the steps, once it is full.
            frozen_steps, frozen_share: the prototypes stay for so many steps, and for so much of all steps.
        """

        temperature: float = Field(0.1, gt=0)
        epsilon: float = Field(0.05, gt=0)
        iterations: int = Field(3, ge=1)
        projection: tuple[int, ...] = Field((2048, 128), min_length=1)
        prototypes: int = Field(3000, ge=2)
        global_scale: Range = (0.14, 1.0)
        local_scale: Range = (0.05, 0.14)
        local_count: int = Field(6, ge=0)
        local_size: int | None = Field(None, ge=1)
        queue: int = Field(0, ge=0)
        queue_from: float = Field(0.0, ge=0, le=1)
        frozen_steps: int = Field(313, ge=0)
        frozen_share: Share = 0.0

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        c = self.config
        crops = MultiCrop(c.global_scale, c.local_scale, c.local_count, c.local_size)
        return multi_crop(base.contrastive(), crops, self.encoder)

    def build(self, facts: DataFacts) -> None:
        width = self.config.projection[-1]
        self.projector = mlp(self.encoder.embed_dim, *self.config.projection)
        self.prototypes = HeldWeight(width, self.config.prototypes)
        self._scale_prototypes()
        self.register_buffer("queue", torch.zeros(GLOBAL, self.config.queue, width))
        self.register_buffer("queue_open", torch.tensor(False))

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        pooled = torch.cat([self.embed(pixels) for pixels in by_size(views)])
        z = F.normalize(full(self.projector(pooled)), dim=1)
        z = z.reshape(len(views), -1, z.shape[-1])
        prototypes = self.prototypes()
        codes = self._codes(z[:GLOBAL].detach(), prototypes.detach())
        return {"loss": swapped_prediction(similarity(z, prototypes), codes, self.config.temperature)}

    def before_update(self, clock: Clock) -> None:
        frozen = max(self.config.frozen_steps, round(self.config.frozen_share * clock.steps))
        self.prototypes.hold(clock.step < frozen)
        self.queue_open.fill_(clock.progress >= self.config.queue_from)

    def after_update(self, clock: Clock) -> None:
        self._scale_prototypes()
        self.prototypes.settle()

    def parts(self) -> dict[str, torch.nn.Module]:
        return {"projector": self.projector, "prototypes": self.prototypes}

    @torch.no_grad()
    def _codes(self, z: Tensor, prototypes: Tensor) -> Tensor:
        """Codes (2, B, K) of the large crops; in training they then enter the queue, and the oldest leave."""
        full_queue = self.queue_open & self.queue[:, -1:].any()  # places not yet taken are 0, embeddings are not
        c = self.config
        codes, everyone = assign(z, prototypes, self.queue, full_queue, epsilon=c.epsilon, iterations=c.iterations)
        if self.training:
            self.queue.copy_(sound(torch.cat([everyone, self.queue], dim=1)[:, : c.queue], self.queue))
        return codes

    @torch.no_grad()
    def _scale_prototypes(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))
