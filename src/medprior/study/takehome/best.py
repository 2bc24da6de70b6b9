"""The model to take home: chosen and calibrated without a test score, then refitted on every label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medprior.backbones.encoder import Encoder
from medprior.backbones.weights import load_encoder, save_encoder
from medprior.errors import MedpriorError
from medprior.evaluation.metrics import score
from medprior.evaluation.probes import fit_temperature, linear_probe
from medprior.progress import Progress, silent
from medprior.study.arms import Cell, Grid
from medprior.study.canvas import common_modality
from medprior.study.cells import Bench, first_head, hold_out, start_encoder
from medprior.study.pretraining import seed_of
from medprior.tasks.outliner import Outliner, is_outliner
from medprior.tasks.predictor import Predictor, Preprocessing, learn_familiarity
from medprior.training.adapt import Labelled, embed, fit, probabilities
from medprior.training.interrupt import Stop, never


@dataclass(frozen=True)
class Model:
    """An encoder and a linear head on its features: what a probe and a fine-tuning both end in."""

    encoder: Encoder
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]


def take_home(
    bench: Bench, grid: Grid, folder: Path, *, progress: Progress = silent, stop: Stop = never
) -> dict[str, object]:
    """Write a Predictor to `folder` and say how it was chosen.

    Every arm is trained on four fifths of the largest budget and judged on the other fifth (patients apart, none
    of them a test patient of the first split); the temperature comes from the same fifth. The winner is refitted
    on all labels there are.
    """
    ground, task = bench.ground, bench.ground.classification
    candidates = [
        c
        for c in Grid(grid.methods, grid.adaptations, (max(grid.budgets),), 1, 1, 1).cells()
        if c.adaptation != "scratch-2x"
    ]
    rows = ground.usable(ground.budget(max(grid.budgets), 0, 0))
    train, held = hold_out(ground, rows, seed_of(ground.seed, "best"))
    judged: list[tuple[float, float, Cell]] = []
    with progress.task("Choosing the model to take home", len(candidates) + 1) as bar:
        for cell in candidates:
            model = _train(bench, cell, train, stop)
            features = embed(model.encoder, bench.pixels, held.rows, ground.base)
            logits = features @ model.weight.T + model.bias
            value = score("auroc", probabilities(task, logits), held.targets, task.kind)
            judged.append((value, fit_temperature(logits, held.targets, task.kind), cell))
            bar.advance()
        value, temperature, cell = max(judged, key=lambda item: item[0])
        everything = ground.usable(np.flatnonzero(ground.catalog.table["labelled"].to_numpy()))
        model = _train(bench, cell, Labelled(everything, ground.targets[everything]), stop)
        bar.advance()
    origin: dict[str, object] = {
        "arm": cell.arm,
        "encoder": cell.backbone,
        "adaptation": cell.adaptation,
        "chosen_by": f"AUROC {value:.3f} on {len(held.rows)} held-out training images",
        "labelled_images": len(everything),
    }
    _predictor(bench, model, temperature, origin).save(folder)
    save_encoder(model.encoder, folder)
    return origin


def is_whole(folder: Path) -> bool:
    """Whether a predictor, or an outliner, can be read from `folder`."""
    try:
        if is_outliner(folder):
            Outliner.load(folder)
        else:
            Predictor.load(folder)
            load_encoder(folder)
    except MedpriorError:
        return False
    return True


def _train(bench: Bench, cell: Cell, train: Labelled, stop: Stop) -> Model:
    ground, task = bench.ground, bench.ground.classification
    seed = seed_of(ground.seed, "best", cell.key)
    encoder = start_encoder(bench, cell, seed)
    if cell.adaptation == "probe":
        features = embed(encoder, bench.pixels, train.rows, ground.base)
        groups = ground.persons[train.rows]
        probe = linear_probe(features, train.targets, groups, task.kind, task.outputs, seed=seed)
        return Model(encoder, probe.weight, probe.bias)
    start = first_head(bench, cell, train, seed)
    recipe = bench.recipe_of(cell)
    fitted = fit(encoder, task, bench.pixels, train, recipe, ground.base, seed=seed, head=start, stop=stop)
    head = fitted.head
    return Model(fitted.encoder, head.weight.detach().double().cpu().numpy(), head.bias.detach().double().cpu().numpy())


def _predictor(bench: Bench, model: Model, temperature: float, origin: dict[str, object]) -> Predictor:
    ground = bench.ground
    rows = ground.usable(np.setdiff1d(np.arange(len(ground.catalog)), ground.pool))
    some = np.random.default_rng(0).permutation(rows)[:2000]
    features = embed(model.encoder, bench.pixels, np.sort(some), ground.base)
    pre = Preprocessing(
        ground.base.size,
        bench.pixels.store.size,
        ground.channels,
        ground.spatial_dims,
        common_modality(ground.catalog),
        bench.settings.data.ct_window,
    )
    return Predictor(
        kind=ground.task.kind,
        names=ground.task.names,
        weight=model.weight,
        bias=model.bias,
        temperature=temperature,
        preprocessing=pre,
        familiarity=learn_familiarity(features),
        origin=origin,
    )
