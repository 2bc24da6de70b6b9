"""DINO: a student sees crops of all sizes and predicts what its slow teacher makes of the large ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from medprior.methods.heads import Branch, HeldWeight
from medprior.methods.method import Batch, Clock, DataFacts, Losses, Method, MethodConfig, Share
from medprior.methods.schedules import half_cosine, linear_rise
from medprior.methods.teacher import Teacher
from medprior.objectives.clustering import similarity
from medprior.objectives.distillation import across_views, centred, entropy, mean_output
from medprior.objectives.precision import full, sound
from medprior.views.limits import Range
from medprior.views.multicrop import GLOBAL, MultiCrop, by_size, multi_crop
from medprior.views.plan import ViewPlan
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View


class DinoHead(nn.Module):
    """Three layers to a bottleneck of unit length, then cosines with learnt directions, (B, inputs) to (B, outputs).

    The last layer is weight-normalised, its lengths fixed at 1 (Caron et al., ICCV 2021, arXiv 2104.14294).
    """

    def __init__(self, inputs: int, hidden: int, bottleneck: int, outputs: int) -> None:
        super().__init__()
        first, second, third = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, bottleneck)
        for layer in (first, second, third):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(first, nn.GELU(), second, nn.GELU(), third)
        self.last = HeldWeight(bottleneck, outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        """The outputs before any softmax, each between -1 and 1."""
        return similarity(F.normalize(full(self.layers(pooled)), dim=1), F.normalize(self.last(), dim=1))


class DINO(Method):
    """Match the centred and sharpened outputs of a teacher, the student's moving average, across crops of a scan.

    Caron et al., ICCV 2021, arXiv 2104.14294. The teacher sees the two large crops alone.
    """

    paper = "Caron et al., ICCV 2021, arXiv 2104.14294"
    centre: Tensor
    seen: Tensor
    teacher_temperature: Tensor

    class Config(MethodConfig):
        """What the paper tunes.

        Attributes:
            outputs, hidden, bottleneck: widths of the head.
            teacher_start, teacher_end: the teacher's temperature, rising over the share `teacher_rise` of the steps.
            centre_momentum: of the moving average of the teacher's outputs.
            momentum: of the teacher at the start; it rises to 1.
            frozen: share of the steps in which the last layer stays: an epoch.
            global_scale, local_scale: share of a scan's area in the two large crops and the `local_count` small ones.
            local_size: pixels along a small crop; None takes 96/224 of the large ones'.
        """

        outputs: int = Field(65_536, ge=2)
        hidden: int = Field(2048, ge=1)
        bottleneck: int = Field(256, ge=1)
        temperature: float = Field(0.1, gt=0)
        teacher_start: float = Field(0.04, gt=0)
        teacher_end: float = Field(0.07, gt=0)
        teacher_rise: Share = 0.0375
        centre_momentum: Share = 0.9
        momentum: float = Field(0.996, ge=0, le=1)
        frozen: Share = 0.00125
        global_scale: Range = (0.4, 1.0)
        local_scale: Range = (0.05, 0.4)
        local_count: int = Field(8, ge=0)
        local_size: int | None = Field(None, ge=1)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        c = self.config
        crops = MultiCrop(c.global_scale, c.local_scale, c.local_count, c.local_size)
        return multi_crop(base.contrastive(), crops, self.encoder)

    def build(self, facts: DataFacts) -> None:
        c = self.config
        self.head = DinoHead(self.encoder.embed_dim, c.hidden, c.bottleneck, c.outputs)
        self.teacher = Teacher(Branch(self.encoder, self.head))
        self.register_buffer("centre", torch.zeros(c.outputs))
        self.register_buffer("seen", torch.zeros(c.outputs))
        self.register_buffer("teacher_temperature", torch.tensor(c.teacher_start))

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        student = self.head(torch.cat([self.embed(pixels) for pixels in by_size(views)]))
        teacher = self.teacher(torch.cat([view.pixels for view in views[:GLOBAL]])).unflatten(0, (GLOBAL, -1))
        targets = centred(teacher, self.centre, self.teacher_temperature)
        if self.training:
            self.seen.copy_(sound(mean_output(teacher), self.seen))
        loss = across_views(targets, student.unflatten(0, (len(views), -1)), self.config.temperature)
        return {"loss": loss, "teacher_entropy": entropy(targets)}

    def before_update(self, clock: Clock) -> None:
        c = self.config
        self.centre.lerp_(self.seen, 1 - c.centre_momentum)  # here, so that a loss taken twice in a step is the same
        self.head.last.hold(clock.step < round(c.frozen * clock.steps))
        rise = round(c.teacher_rise * clock.steps)
        self.teacher_temperature.fill_(linear_rise(clock.step, rise, c.teacher_start, c.teacher_end))

    def after_update(self, clock: Clock) -> None:
        self.head.last.settle()
        momentum = half_cosine(clock.step, clock.steps, self.config.momentum, 1.0)
        self.teacher.move(Branch(self.encoder, self.head), momentum)

    def parts(self) -> dict[str, nn.Module]:
        return {"head": self.head, "teacher": self.teacher}
