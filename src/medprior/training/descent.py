"""How the weights of a model move while it learns from few labels, whatever it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from medprior.backbones.encoder import Encoder
from medprior.training.optim import OptimizerPlan, layered_groups, make_optimizer, set_schedule

CLIP = 5.0

Model = TypeVar("Model", bound=nn.Module)
Layer = list[tuple[str, nn.Parameter]]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained with labels; `layer_decay` 1 is training from scratch.

    `hold` is the first share of steps in which the encoder stands still while what stands on it learns; then its rate
    rises, too.
    """

    steps: int
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    layer_decay: float = 0.75
    warmup: float = 0.1
    average: float = 0.25
    class_balanced: bool = True
    hold: float = 0.0

    @property
    def held_steps(self) -> int:
        """Steps in which the encoder stands still."""
        return round(self.hold * self.steps)

    def scratch(self, times: int = 1) -> Recipe:
        """The same for random weights: every layer at the full rate, `times` as many steps."""
        return replace(self, layer_decay=1.0, hold=0.0, steps=self.steps * times)


class Descent(Generic[Model]):
    """A model in training: AdamW, a rate for each layer, and the average of the weights of the last steps.

    Averaging: Izmailov et al. 2018, arXiv 1803.05407.
    """

    def __init__(self, model: Model, layers: Sequence[Layer], recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        self.plan = OptimizerPlan("adamw", recipe.lr, recipe.weight_decay, warmup=recipe.warmup)
        self.optimizer = make_optimizer(self.plan, layered_groups(layers, recipe.weight_decay, recipe.layer_decay))
        top = {id(weight) for _, weight in layers[-1]}
        self._below = [group for group in self.optimizer.param_groups if id(group["params"][0]) not in top]
        self._averaged = AveragedModel(model, use_buffers=True)

    def step(self, number: int, loss: torch.Tensor) -> None:
        """Move the weights against the gradient of `loss`."""
        set_schedule(self.optimizer, self.plan, number, self.recipe.steps)
        for group in self._below:
            group["lr"] *= self._risen(number)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        if number >= min(self.recipe.steps * (1 - self.recipe.average), self.recipe.steps - 1):
            self._averaged.update_parameters(self.model)

    def _risen(self, number: int) -> float:
        """Part of its rate that the encoder has by then: 0 while it is held, then rising as that of the rest did."""
        held, rise = self.recipe.held_steps, max(1, round(self.recipe.warmup * self.recipe.steps))
        if not held:
            return 1.0
        return min(1.0, max(0, number - held + 1) / rise)

    def averaged(self) -> Model:
        """The model with the mean of the weights of the last steps."""
        return cast(Model, self._averaged.module).eval()


def layers_of(encoder: Encoder, head: nn.Module) -> list[Layer]:
    """Weights from the input to the output: the layers of the encoder, then what stands on it."""
    parameters = dict(encoder.named_parameters())
    layers = [[(name, parameters[name]) for name in names] for names in encoder.layer_groups()]
    return [*layers, list(head.named_parameters())]
