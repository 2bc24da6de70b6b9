"""One cell of a study: train on a budget, score the test patients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medprior.backbones.encoder import Encoder
from medprior.config import Settings
from medprior.data.splits import grouped_folds
from medprior.data.store.pixels import ResidentStore
from medprior.evaluation.metrics import score
from medprior.evaluation.probes import linear_probe
from medprior.study.arms import Cell
from medprior.study.ground import Ground
from medprior.study.pretraining import encoder_of, features_of, make_encoder, seed_of
from medprior.study.results import CellResult
from medprior.training.adapt import Classifier, Labelled, fit, predict, probabilities
from medprior.training.descent import Recipe
from medprior.training.interrupt import Stop, never

INNER_FOLDS = 5


@dataclass(frozen=True)
class Bench:
    """Where cells are worked on: the ground, its pixels on a device, the settings and the steps of each budget."""

    ground: Ground
    store: ResidentStore
    settings: Settings
    steps: dict[int, int]
    out: Path

    def cell_path(self, cell: Cell) -> Path:
        """Where a cell's result lies, without suffix."""
        return self.out / "cells" / cell.key

    def cost(self, cell: Cell) -> int:
        """Training steps of a cell."""
        return {"scratch": 1, "scratch-2x": 2, "fine-tune": 1, "probe": 0}[cell.adaptation] * self.steps[cell.budget]

    def recipe(self, budget: int) -> Recipe:
        """How a classifier is fine-tuned at `budget`."""
        adapt = self.settings.adapt
        return Recipe(
            steps=self.steps[budget],
            batch_size=adapt.batch_size,
            lr=adapt.learning_rates[0],
            weight_decay=adapt.weight_decay,
            layer_decay=adapt.layer_decay,
            warmup=adapt.warmup,
            average=adapt.average,
            class_balanced=adapt.class_balanced,
        )


def run_cell(bench: Bench, cell: Cell, *, stop: Stop = never, tick: Callable[[], None] = lambda: None) -> CellResult:
    """Train and score one cell.

    Raises:
        Interrupted: a stop was asked for; the cell will be done again.
    """
    began = time.perf_counter()
    ground = bench.ground
    rows = ground.usable(ground.budget(cell.budget, cell.seed, cell.fold))
    test = ground.usable(ground.splits[cell.fold].test)
    test = test[_known(ground.targets[test])]
    seed = seed_of(ground.seed, "adapt", cell.backbone, cell.budget, cell.seed, cell.fold)
    if cell.adaptation == "probe":
        chances, steps = _probe(bench, cell, rows, test, seed), 0
    else:
        model, steps = _tuned(bench, cell, rows, seed, stop, tick)
        logits = predict(model, ground.task, bench.store, test, ground.base)
        chances = probabilities(ground.task, logits)
    return CellResult(
        arm=cell.arm,
        encoder=cell.backbone,
        method=cell.pretraining.method if cell.pretraining else None,
        adaptation=cell.adaptation,
        budget=cell.budget,
        budget_images=len(rows),
        seed=cell.seed,
        pretrain_seed=cell.pretraining.seed if cell.pretraining else None,
        fold=cell.fold,
        rows=test,
        scores=chances,
        targets=ground.targets[test],
        patients=ground.persons[test],
        n_train=len(rows),
        n_test=len(test),
        seconds=time.perf_counter() - began,
        steps=steps,
    )


def _probe(
    bench: Bench, cell: Cell, rows: NDArray[np.int64], test: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    assert cell.pretraining is not None
    ground = bench.ground
    features = features_of(bench.out / cell.pretraining.folder)
    probe = linear_probe(
        features[rows], ground.targets[rows], ground.patients[rows], ground.task.kind, ground.task.outputs, seed=seed
    )
    chances: NDArray[np.float64] = probe.predict_proba(features[test])
    return chances


def _tuned(
    bench: Bench, cell: Cell, rows: NDArray[np.int64], seed: int, stop: Stop, tick: Callable[[], None]
) -> tuple[Classifier, int]:
    encoder = start_encoder(bench, cell, seed)
    recipe = bench.recipe(cell.budget)
    if cell.pretraining is None:
        recipe = recipe.scratch(times=2 if cell.adaptation == "scratch-2x" else 1)
    recipe = choose_rate(bench, encoder, rows, recipe, seed, stop)
    train, validation = inner_split(bench, cell, rows, seed)
    ground = bench.ground
    model = fit(
        encoder,
        ground.task,
        bench.store,
        train,
        recipe,
        ground.base,
        seed=seed,
        validation=validation,
        stop=stop,
        tick=tick,
    )
    return model, recipe.steps


def start_encoder(bench: Bench, cell: Cell, seed: int) -> Encoder:
    """What a cell starts from: its pre-trained encoder, or random weights."""
    if cell.pretraining is not None:
        return encoder_of(bench.out / cell.pretraining.folder, bench.store)
    return make_encoder(bench.ground, bench.store, cell.backbone, fold=cell.fold, seed=seed)


def choose_rate(
    bench: Bench, encoder: Encoder, rows: NDArray[np.int64], recipe: Recipe, seed: int, stop: Stop
) -> Recipe:
    """The best of the asked-for rates on held-out patients of the budget itself; every arm gets the same trials."""
    rates = bench.settings.adapt.learning_rates
    if len(rates) == 1:
        return recipe
    ground = bench.ground
    train, held = hold_out(ground, rows, seed)

    def value(rate: float) -> float:
        trial = replace(recipe, lr=rate)
        model = fit(encoder, ground.task, bench.store, train, trial, ground.base, seed=seed, stop=stop)
        chances = probabilities(ground.task, predict(model, ground.task, bench.store, held.rows, ground.base))
        return score("auroc", chances, held.targets, ground.task.kind)

    return replace(recipe, lr=max(rates, key=value))


def inner_split(bench: Bench, cell: Cell, rows: NDArray[np.int64], seed: int) -> tuple[Labelled, Labelled | None]:
    """Training and validation labels of a budget.

    Below 200 patients everything trains and nothing validates; above, a fifth of the budget's own patients do,
    or the given validation split when that was allowed.
    """
    ground = bench.ground
    if cell.budget < bench.settings.adapt.early_stop_from:
        return Labelled(rows, ground.targets[rows]), None
    given = ground.usable(ground.splits[cell.fold].val)
    if bench.settings.study.free_validation and len(given):
        return Labelled(rows, ground.targets[rows]), Labelled(given, ground.targets[given])
    return hold_out(ground, rows, seed)


def hold_out(ground: Ground, rows: NDArray[np.int64], seed: int) -> tuple[Labelled, Labelled]:
    """A fifth of the patients of `rows` apart, stratified; patients never cross."""
    folds = grouped_folds(ground.patients[rows], _strata(ground.targets[rows]), INNER_FOLDS, seed)
    train, held = rows[folds != 0], rows[folds == 0]
    return Labelled(train, ground.targets[train]), Labelled(held, ground.targets[held])


def _known(targets: NDArray[np.float64]) -> NDArray[np.bool_]:
    unknown = np.isnan(targets.reshape(len(targets), -1)).all(axis=1)
    return np.asarray(~unknown)


def _strata(targets: NDArray[np.float64]) -> NDArray[np.int64]:
    """One class per image; for several labels its rarest positive one, 0 for none."""
    if targets.ndim == 1:
        return targets.astype(np.int64)
    rarity = np.argsort(np.nansum(targets == 1, axis=0))
    ordered = targets[:, rarity] == 1
    return np.where(ordered.any(1), 1 + ordered.argmax(1), 0).astype(np.int64)
