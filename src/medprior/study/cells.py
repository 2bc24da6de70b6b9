"""One cell of a study: train on a budget, score the test patients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.backbones.encoder import Encoder
from medprior.config import Settings
from medprior.data.splits import grouped_folds
from medprior.data.store.pixels import ResidentStore
from medprior.evaluation.calibration import Calibration, calibrate
from medprior.evaluation.metrics import score
from medprior.evaluation.probes import Probe, linear_probe
from medprior.study.arms import Cell
from medprior.study.ground import Ground, Resident
from medprior.study.outlining import annotated, score_outlines, train_segmenter
from medprior.study.pretraining import encoder_of, features_of, make_encoder, seed_of
from medprior.study.results import CellResult
from medprior.study.saliency import keep_heat_maps
from medprior.tasks.classification import Classification
from medprior.training.adapt import Classifier, Labelled, fit, pooled, predict, probabilities, said_of
from medprior.training.corrupted import under_corruptions
from medprior.training.descent import Recipe
from medprior.training.interrupt import Stop, never
from medprior.views.degrading import SUITE

INNER_FOLDS = 5
HELD = 0.1
"""Share of the steps in which outlines are learnt by the decoder alone, on a pre-trained encoder."""
Chances = Callable[[torch.Tensor], NDArray[np.float64]]
"""From pixels (B, C, *S) to probabilities (B, K)."""


@dataclass(frozen=True)
class Bench:
    """Where cells are worked on: the ground, its pixels on a device, the settings and the steps of each budget.

    `corruptions` is whether models of the largest budget are shown corrupted test images, too.
    """

    ground: Ground
    store: Resident
    settings: Settings
    steps: dict[int, int]
    out: Path
    corruptions: bool = False

    @property
    def pixels(self) -> ResidentStore:
        """The whole scans of cells that classify."""
        return cast(ResidentStore, self.store)

    def cell_path(self, cell: Cell) -> Path:
        """Where a cell's result lies, without suffix."""
        return self.out / "cells" / cell.key

    def maps_path(self, cell: Cell) -> Path:
        """Where some label maps of a cell lie, for the report."""
        return self.out / "cells" / f"{cell.key}.maps.npz"

    def cost(self, cell: Cell) -> int:
        """Training steps of a cell."""
        return {"scratch": 1, "scratch-2x": 2, "fine-tune": 1, "probe": 0}[cell.adaptation] * self.steps[cell.budget]

    def recipe(self, budget: int) -> Recipe:
        """How a model is fine-tuned at `budget`."""
        adapt = self.settings.adapt
        return Recipe(
            steps=self.steps[budget],
            batch_size=self.ground.crops if self.ground.outlined else adapt.batch_size,
            lr=adapt.outline_rate if self.ground.outlined else adapt.learning_rates[0],
            weight_decay=adapt.weight_decay,
            layer_decay=adapt.layer_decay,
            warmup=adapt.warmup,
            average=adapt.average,
            class_balanced=adapt.class_balanced,
            hold=HELD if self.ground.outlined and adapt.head_first else 0.0,
        )

    def recipe_of(self, cell: Cell) -> Recipe:
        """The same for a cell; from random weights every layer learns at the full rate, and maybe twice as long."""
        recipe = self.recipe(cell.budget)
        if cell.pretraining is not None:
            return recipe
        return recipe.scratch(times=2 if cell.adaptation == "scratch-2x" else 1)


def run_cell(bench: Bench, cell: Cell, *, stop: Stop = never, tick: Callable[[], None] = lambda: None) -> CellResult:
    """Train and score one cell.

    Raises:
        Interrupted: a stop was asked for; the cell will be done again.
    """
    began = time.perf_counter()
    ground = bench.ground
    seed = seed_of(ground.seed, "adapt", cell.backbone, cell.budget, cell.seed, cell.fold)
    work = _outlined if ground.outlined else _classified
    made = work(bench, cell, seed, stop, tick)
    return CellResult(
        arm=cell.arm,
        encoder=cell.backbone,
        method=cell.pretraining.method if cell.pretraining else None,
        adaptation=cell.adaptation,
        budget=cell.budget,
        budget_images=len(made.rows),
        seed=cell.seed,
        pretrain_seed=cell.pretraining.seed if cell.pretraining else None,
        fold=cell.fold,
        rows=made.test,
        scores=made.scores,
        targets=made.targets,
        patients=ground.persons[made.test],
        n_train=len(made.rows),
        n_test=len(made.test),
        seconds=time.perf_counter() - began,
        steps=made.steps,
        temperature=made.held.temperature,
        thresholds=made.held.thresholds,
        corruptions=SUITE if made.corrupted is not None else (),
        corrupted=made.corrupted,
    )


@dataclass(frozen=True)
class _Made:
    """Rows that were learnt from and tested, what came of the tested ones, and training steps.

    `held` is what labels of the budget that were not learnt from say of the chances. `corrupted` are the scores under
    each of `SUITE`, where these were asked for.
    """

    rows: NDArray[np.int64]
    test: NDArray[np.int64]
    scores: NDArray[np.float64]
    targets: NDArray[np.float64]
    steps: int
    held: Calibration = field(default_factory=Calibration)
    corrupted: NDArray[np.float64] | None = None


def _classified(bench: Bench, cell: Cell, seed: int, stop: Stop, tick: Callable[[], None]) -> _Made:
    ground = bench.ground
    rows = ground.usable(ground.budget(cell.budget, cell.seed, cell.fold))
    test = ground.usable(ground.splits[cell.fold].test)
    test = test[_known(ground.targets[test])]
    targets, task = ground.targets[test], ground.classification
    if cell.adaptation == "probe":
        probe, features = _probe(bench, cell, rows, seed)
        held = calibrate(probe.out_of_fold, ground.targets[rows], task.kind)
        corrupted = _corrupted(bench, cell, lambda: _probed(bench, cell, probe), test, stop)
        chances = probe.predict_proba(features[test])
        keep_heat_maps(bench, cell, lambda: _headed(bench, cell, probe), test, chances)
        return _Made(rows, test, chances, targets, 0, held, corrupted)
    model, steps, validation = _tuned(bench, cell, rows, seed, stop, tick)
    held = Calibration()
    if validation is not None:
        held = calibrate(_chances(bench, model, validation.rows), validation.targets, task.kind)
    corrupted = _corrupted(bench, cell, lambda: _told(model, task), test, stop)
    chances = _chances(bench, model, test)
    keep_heat_maps(bench, cell, lambda: model, test, chances)
    return _Made(rows, test, chances, targets, steps, held, corrupted)


def _outlined(bench: Bench, cell: Cell, seed: int, stop: Stop, tick: Callable[[], None]) -> _Made:
    """Of the first seed and fold the report shows some outlines."""
    ground = bench.ground
    rows = annotated(ground, ground.budget(cell.budget, cell.seed, cell.fold))
    test = annotated(ground, ground.splits[cell.fold].test)
    recipe = bench.recipe_of(cell)
    model = train_segmenter(bench, cell, start_encoder(bench, cell, seed), rows, recipe, seed, stop, tick)
    keep = bench.maps_path(cell) if (cell.seed, cell.fold) == (0, 0) else None
    found = score_outlines(bench, model, test, stop, keep)
    return _Made(rows, test, found.scores, found.targets, recipe.steps)


def _chances(bench: Bench, model: Classifier, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    task = bench.ground.classification
    return probabilities(task, predict(model, task, bench.pixels, rows, bench.ground.base))


def _corrupted(
    bench: Bench, cell: Cell, chances: Callable[[], Chances], test: NDArray[np.int64], stop: Stop
) -> NDArray[np.float64] | None:
    """Scores of `test` under every corruption, of the largest budget alone; what is drawn is the same for all cells."""
    ground = bench.ground
    if not bench.corruptions or cell.budget != max(ground.budgets):
        return None
    return under_corruptions(chances(), bench.pixels, test, ground.base, seed=ground.seed, stop=stop)


def _told(model: Classifier, task: Classification) -> Chances:
    model.eval()
    return lambda pixels: probabilities(task, said_of(model, pixels).double().numpy())


def _probed(bench: Bench, cell: Cell, probe: Probe) -> Chances:
    encoder = start_encoder(bench, cell, seed=0).eval()
    return lambda pixels: probe.predict_proba(said_of(pooled(encoder), pixels).numpy())


def _headed(bench: Bench, cell: Cell, probe: Probe) -> Classifier:
    """A probe as the model that it makes of its encoder."""
    encoder = start_encoder(bench, cell, seed=0)
    return Classifier(encoder, bench.ground.classification.head(encoder.embed_dim, probe).to(bench.store.device))


def _probe(bench: Bench, cell: Cell, rows: NDArray[np.int64], seed: int) -> tuple[Probe, NDArray[np.float32]]:
    """A probe, and the features of all rows."""
    assert cell.pretraining is not None
    ground, task = bench.ground, bench.ground.classification
    features = features_of(bench.out / cell.pretraining.folder)
    probe = linear_probe(features[rows], ground.targets[rows], ground.persons[rows], task.kind, task.outputs, seed=seed)
    return probe, features


def _tuned(
    bench: Bench, cell: Cell, rows: NDArray[np.int64], seed: int, stop: Stop, tick: Callable[[], None]
) -> tuple[Classifier, int, Labelled | None]:
    """A model, its training steps, and the labels of its budget that it did not learn from."""
    encoder = start_encoder(bench, cell, seed)
    recipe = choose_rate(bench, cell, encoder, rows, seed, stop)
    train, validation = inner_split(bench, cell, rows, seed)
    ground = bench.ground
    model = fit(
        encoder,
        bench.ground.classification,
        bench.pixels,
        train,
        recipe,
        ground.base,
        seed=seed,
        head=first_head(bench, cell, train, seed),
        validation=validation,
        stop=stop,
        tick=tick,
    )
    return model, recipe.steps, validation


def first_head(bench: Bench, cell: Cell, train: Labelled, seed: int) -> Probe | None:
    """What a fine-tuning starts with: the head of a probe of the encoder, learnt from the same labels."""
    if cell.pretraining is None or not bench.settings.adapt.head_first:
        return None
    ground, task = bench.ground, bench.ground.classification
    features, groups = features_of(bench.out / cell.pretraining.folder)[train.rows], ground.persons[train.rows]
    return linear_probe(features, train.targets, groups, task.kind, task.outputs, seed=seed)


def start_encoder(bench: Bench, cell: Cell, seed: int) -> Encoder:
    """What a cell starts from: its pre-trained encoder, or random weights."""
    if cell.pretraining is not None:
        return encoder_of(bench.out / cell.pretraining.folder, bench.store)
    return make_encoder(bench.ground, bench.store, cell.backbone, fold=cell.fold, seed=seed)


def choose_rate(bench: Bench, cell: Cell, encoder: Encoder, rows: NDArray[np.int64], seed: int, stop: Stop) -> Recipe:
    """The cell's recipe with the best of the asked-for rates on held-out patients of the budget itself; every arm gets
    the same trials."""
    rates, recipe = bench.settings.adapt.learning_rates, bench.recipe_of(cell)
    if len(rates) == 1:
        return recipe
    ground, task = bench.ground, bench.ground.classification
    train, held = hold_out(ground, rows, seed)
    head = first_head(bench, cell, train, seed)

    def value(rate: float) -> float:
        trial = replace(recipe, lr=rate)
        model = fit(encoder, task, bench.pixels, train, trial, ground.base, seed=seed, head=head, stop=stop)
        chances = probabilities(task, predict(model, task, bench.pixels, held.rows, ground.base))
        return score("auroc", chances, held.targets, task.kind)

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
    folds = grouped_folds(ground.persons[rows], _strata(ground.targets[rows]), INNER_FOLDS, seed)
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
