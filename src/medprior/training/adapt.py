"""Adapting an encoder with a few labels: fine-tuning and scratch share every line but the start and the layer decay."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medprior.backbones.encoder import Encoder
from medprior.data.store.resident import ResidentStore
from medprior.evaluation.metrics import score
from medprior.evaluation.probes import Probe
from medprior.tasks.classification import Classification
from medprior.training.descent import Descent, Recipe, layers_of
from medprior.training.device import channels_last, pixels_last, precision
from medprior.training.interrupt import Stop, check, never
from medprior.training.sampler import Sampler
from medprior.views.engine import render
from medprior.views.plan import independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View

EVALUATIONS = 10


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
    head: Probe | None = None,
    validation: Labelled | None = None,
    stop: Stop = never,
    tick: Callable[[], None] = lambda: None,
) -> Classifier:
    """Train a copy of `encoder` with a head on `train`: that of a probe of its features, or a new one.

    A head that knows nothing yet would bend features that are worth keeping: Kumar et al., ICLR 2022, arXiv 2202.10054.
    With `validation` the weights of the best of ten evaluations are returned (AUROC); without it nothing stops
    early and the weights of the last steps are averaged.

    Raises:
        Interrupted: a stop was asked for.
    """
    fitting = _Fitting(encoder, task, store, train, recipe, base, seed, head)
    best: tuple[float, Classifier] | None = None
    for step in range(recipe.steps):
        check(stop)
        fitting.step(step)
        tick()
        if validation is not None:
            best = _better(best, fitting, validation, step)
    return best[1].eval() if best is not None else fitting.descent.averaged()


class _Fitting:
    """A classifier in training: what one step needs."""

    def __init__(
        self,
        encoder: Encoder,
        task: Classification,
        store: ResidentStore,
        train: Labelled,
        recipe: Recipe,
        base: ViewRecipe,
        seed: int,
        head: Probe | None = None,
    ) -> None:
        self.task, self.store, self.recipe, self.base, self.seed = task, store, recipe, base, seed
        self.device = next(encoder.parameters()).device
        torch.manual_seed(seed)
        self.model = Classifier(copy.deepcopy(encoder), task.head(encoder.embed_dim, head)).to(self.device).train()
        self.convolves = encoder.kind == "cnn"
        if self.convolves:
            channels_last(self.model, encoder.spatial_dims)
        self.position = _positions(train.rows).to(self.device)
        self.targets = torch.from_numpy(train.targets).float().to(self.device)
        self.weights = task.weights(self.targets, recipe.class_balanced)
        self.sampler = Sampler(train.rows, recipe.batch_size, seed)
        self.descent = Descent(self.model, layers_of(self.model.encoder, self.model.head), recipe)
        self.views = independent(base.adaptation(), count=1)

    def step(self, number: int) -> None:
        rows = self.sampler.batch(number)
        torch.manual_seed(self.seed * 1_000_003 + number)  # dropout-like layers: the same on every repeat
        stored = self.store.batch(torch.from_numpy(rows))
        (view,) = render(stored, self.views, seed=self.seed, step=number)
        with precision(self.device):
            logits = self.model(pixels_last(view.pixels) if self.convolves else view.pixels)
        targets = self.targets.index_select(0, self.position.index_select(0, stored.index))
        self.descent.step(number, self.task.loss(logits.float(), targets, self.weights))


@torch.inference_mode()
def predict(
    model: Classifier, task: Classification, store: ResidentStore, rows: NDArray[np.int64], base: ViewRecipe
) -> NDArray[np.float64]:
    """Logits (N, K) of `rows` from one plain view each."""
    model.eval()
    found = [said_of(model, view.pixels) for _, view in plain_views(store, rows, base)]
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
    found = []
    for index, view in plain_views(store, rows, base):
        found.append(said_of(pooled(encoder), view.pixels))
        tick(len(index))
    features: NDArray[np.float32] = torch.cat(found or [torch.zeros(0, encoder.embed_dim)]).numpy()
    return features


def probabilities(task: Classification, logits: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """(N, K) probabilities from logits, softened by `temperature`."""
    result: NDArray[np.float64] = task.probabilities(torch.from_numpy(logits) / temperature).numpy()
    return result


def plain_views(
    store: ResidentStore, rows: NDArray[np.int64], base: ViewRecipe, size: int = 128
) -> Iterator[tuple[torch.Tensor, View]]:
    """Catalog rows (B,) and one view of each as it is, `size` at a time."""
    views = independent(base.plain(), count=1)
    for start in range(0, len(rows), size):
        stored = store.batch(torch.from_numpy(rows[start : start + size]))
        (view,) = render(stored, views, seed=0, step=0)
        yield stored.index, view


def said_of(network: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """What a network that is not in training says of pixels (B, C, *S): (B, ...) float32 on the CPU."""
    with precision(pixels.device):
        return network(pixels).float().cpu()


def pooled(encoder: Encoder) -> Callable[[torch.Tensor], torch.Tensor]:
    """From pixels (B, C, *S) to the features (B, embed_dim) of an encoder."""
    return lambda pixels: encoder.pool(encoder(pixels))


def _positions(rows: NDArray[np.int64]) -> torch.Tensor:
    """(max + 1,) the place of every catalog row in `rows`; looked up on the device, so that no step waits."""
    positions = torch.zeros(int(rows.max()) + 1, dtype=torch.int64)
    positions[torch.from_numpy(rows)] = torch.arange(len(rows))
    return positions


def _better(
    best: tuple[float, Classifier] | None, fitting: _Fitting, validation: Labelled, step: int
) -> tuple[float, Classifier] | None:
    """The best model so far by AUROC on `validation`, looked at ten times; of equals the later one."""
    steps = fitting.recipe.steps
    if (step + 1) % max(1, steps // EVALUATIONS) and step + 1 != steps:
        return best
    logits = predict(fitting.model, fitting.task, fitting.store, validation.rows, fitting.base)
    value = score("auroc", probabilities(fitting.task, logits), validation.targets, fitting.task.kind)
    fitting.model.train()
    return (value, copy.deepcopy(fitting.model)) if best is None or value >= best[0] else best
