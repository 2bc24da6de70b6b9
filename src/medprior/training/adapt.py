"""Adapting an encoder with a few labels: fine-tuning and scratch share every line but the start and the layer decay."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import AveragedModel

from medprior.backbones.encoder import Encoder
from medprior.data.store import ResidentStore
from medprior.evaluation.metrics import score
from medprior.tasks.classification import Classification
from medprior.training.device import precision
from medprior.training.interrupt import Stop, check, never
from medprior.training.optim import OptimizerPlan, cosine, layered_groups, make_optimizer, set_rate
from medprior.training.sampler import Sampler
from medprior.views.engine import render
from medprior.views.plan import independent
from medprior.views.recipe import ViewRecipe

EVALUATIONS = 10


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained; `layer_decay` 1 is training from scratch."""

    steps: int
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    layer_decay: float = 0.75
    warmup: float = 0.1
    average: float = 0.25
    class_balanced: bool = True

    def scratch(self, times: int = 1) -> Recipe:
        """The same for random weights: every layer at the full rate, `times` as many steps."""
        return replace(self, layer_decay=1.0, steps=self.steps * times)


class Classifier(nn.Module):
    """An encoder and a linear head on its pooled last map."""

    def __init__(self, encoder: Encoder, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, C, *S) in [0, 1] to logits (B, K)."""
        logits: torch.Tensor = self.head(self.encoder.pool(self.encoder(pixels)))
        return logits


@dataclass(frozen=True)
class Labelled:
    """Rows of a store and what is known of them: targets (N,) or (N, K), parallel to `rows`."""

    rows: NDArray[np.int64]
    targets: NDArray[np.float64]


def fit(
    encoder: Encoder,
    task: Classification,
    store: ResidentStore,
    train: Labelled,
    recipe: Recipe,
    base: ViewRecipe,
    *,
    seed: int,
    validation: Labelled | None = None,
    stop: Stop = never,
    tick: Callable[[], None] = lambda: None,
) -> Classifier:
    """Train a copy of `encoder` with a new head on `train`.

    With `validation` the weights of the best of ten evaluations are returned (AUROC); without it nothing stops
    early and the weights of the last steps are averaged (Izmailov et al. 2018, arXiv 1803.05407).

    Raises:
        Interrupted: a stop was asked for.
    """
    device = next(encoder.parameters()).device
    torch.manual_seed(seed)
    model = Classifier(copy.deepcopy(encoder), task.head(encoder.embed_dim)).to(device)
    position = {int(row): i for i, row in enumerate(train.rows)}
    targets = torch.from_numpy(train.targets).float().to(device)
    weights = task.weights(targets, recipe.class_balanced)
    sampler = Sampler(train.rows, recipe.batch_size, seed)
    plan = OptimizerPlan("adamw", recipe.lr, recipe.weight_decay, warmup=recipe.warmup)
    optimizer = make_optimizer(plan, layered_groups(_layers(model), recipe.weight_decay, recipe.layer_decay))
    views = independent(base.adaptation(), count=1)
    averaged = AveragedModel(model, use_buffers=True)
    best: tuple[float, Classifier] | None = None
    model.train()
    for step in range(recipe.steps):
        check(stop)
        rows = sampler.batch(step)
        torch.manual_seed(seed * 1_000_003 + step)
        stored = store.batch(torch.from_numpy(rows))
        with torch.no_grad():
            (view,) = render(stored, views, seed=seed, step=step)
        with precision(device):
            logits = model(view.pixels)
        where = torch.tensor([position[int(row)] for row in rows], device=device)
        loss = task.loss(logits.float(), targets[where], weights)
        set_rate(optimizer, recipe.lr * cosine(step, recipe.steps, recipe.warmup))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        tick()
        if validation is not None:
            best = _better(best, model, task, store, validation, base, step, recipe.steps)
        elif step >= recipe.steps * (1 - recipe.average):
            averaged.update_parameters(model)
    if best is not None:
        return best[1].eval()
    return cast(Classifier, averaged.module).eval()


@torch.inference_mode()
def predict(
    model: Classifier, task: Classification, store: ResidentStore, rows: NDArray[np.int64], base: ViewRecipe
) -> NDArray[np.float64]:
    """Logits (N, K) of `rows` from one plain view each."""
    model.eval()
    device = next(model.parameters()).device
    found = []
    for pixels in _plain(store, rows, base):
        with precision(device):
            found.append(model(pixels).float().cpu())
    return torch.cat(found).double().numpy()


@torch.inference_mode()
def embed(
    encoder: Encoder,
    store: ResidentStore,
    rows: NDArray[np.int64],
    base: ViewRecipe,
    tick: Callable[[int], None] = lambda n: None,
) -> NDArray[np.float32]:
    """Pooled features (N, embed_dim) of `rows` from one plain view each."""
    encoder.eval()
    device = next(encoder.parameters()).device
    found = []
    for pixels in _plain(store, rows, base):
        with precision(device):
            found.append(encoder.pool(encoder(pixels)).float().cpu())
        tick(len(pixels))
    features: NDArray[np.float32] = torch.cat(found).numpy()
    return features


def probabilities(task: Classification, logits: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """(N, K) probabilities from logits, softened by `temperature`."""
    result: NDArray[np.float64] = task.probabilities(torch.from_numpy(logits) / temperature).numpy()
    return result


def _plain(store: ResidentStore, rows: NDArray[np.int64], base: ViewRecipe, size: int = 128) -> Iterator[torch.Tensor]:
    views = independent(base.plain(), count=1)
    for start in range(0, len(rows), size):
        stored = store.batch(torch.from_numpy(rows[start : start + size]))
        (view,) = render(stored, views, seed=0, step=0)
        yield view.pixels


def _layers(model: Classifier) -> list[list[tuple[str, nn.Parameter]]]:
    parameters = dict(model.encoder.named_parameters())
    layers = [[(name, parameters[name]) for name in names] for names in model.encoder.layer_groups()]
    return [*layers, list(model.head.named_parameters())]


def _better(
    best: tuple[float, Classifier] | None,
    model: Classifier,
    task: Classification,
    store: ResidentStore,
    validation: Labelled,
    base: ViewRecipe,
    step: int,
    steps: int,
) -> tuple[float, Classifier] | None:
    if (step + 1) % max(1, steps // EVALUATIONS) and step + 1 != steps:
        return best
    chances = probabilities(task, predict(model, task, store, validation.rows, base))
    value = score("auroc", chances, validation.targets, task.kind)
    model.train()
    if best is None or value >= best[0]:
        return value, copy.deepcopy(model)
    return best
