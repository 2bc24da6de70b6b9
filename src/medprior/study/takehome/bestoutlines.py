"""The segmenter to take home: chosen without a test score, then refitted on every annotated scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medprior.data.annotations.masklabels import written_values
from medprior.evaluation.yardstick import Outlines
from medprior.progress import Progress, silent
from medprior.study.arms import Cell, Grid
from medprior.study.canvas import common_modality
from medprior.study.cells import INNER_FOLDS, Bench, hold_out, start_encoder
from medprior.study.outlining import annotated, score_outlines, train_segmenter, volumes_of
from medprior.study.pretraining import seed_of
from medprior.tasks.outliner import Outliner
from medprior.tasks.predictor import Familiarity, learn_familiarity
from medprior.tasks.segmentation import Segmenter
from medprior.training.interrupt import Stop, check, never
from medprior.training.windowfeatures import scan_features

FEWEST_SCANS, MOST_SCANS = 10, 60
"""Scans from which it is learnt how far is too far: fewer say nothing, more say little more."""


def take_home_outliner(
    bench: Bench, grid: Grid, folder: Path, *, progress: Progress = silent, stop: Stop = never
) -> dict[str, object]:
    """Write an Outliner to `folder` and say how it was chosen.

    Every arm is trained on four fifths of the largest budget and judged on the other fifth, patients apart and none of
    them a test patient of the first split. The winner is refitted on all annotated scans. Fewer than 5 patients leave
    nothing to judge by: then it is the first pre-trained arm.
    """
    ground = bench.ground
    budget = max(grid.budgets)
    cells = [
        c for c in Grid(grid.methods, grid.adaptations, (budget,), 1, 1, 1).cells() if c.adaptation != "scratch-2x"
    ]
    rows = annotated(ground, ground.budget(budget, 0, 0))
    with progress.task("Choosing the model to take home", len(cells) + 1) as bar:
        if len(np.unique(ground.persons[rows])) < INNER_FOLDS:
            cell, why = cells[-1], "nothing: too few annotated patients"
            bar.advance(len(cells))
        else:
            train, held = hold_out(ground, rows, seed_of(ground.seed, "best"))
            judged = []
            for one in cells:
                judged.append((_dice(bench, _fitted(bench, one, train.rows, stop), held.rows, stop), one))
                bar.advance()
            dice, cell = max(judged, key=lambda item: item[0])
            why = f"Dice {dice:.3f} on {len(held.rows)} held-out training scans"
        everything = annotated(ground, np.flatnonzero(ground.catalog.table["labelled"].to_numpy()))
        model = _fitted(bench, cell, everything, stop)
        bar.advance()
    familiarity = _familiarity(bench, model, progress, stop)
    origin: dict[str, object] = {
        "arm": cell.arm,
        "encoder": cell.backbone,
        "adaptation": cell.adaptation,
        "chosen_by": why,
        "annotated_scans": len(everything),
        "unfamiliar_scans": "refused" if familiarity is not None else f"not told: fewer than {FEWEST_SCANS} scans",
    }
    _outliner(bench, origin, familiarity).save(folder, model)
    return origin


def _fitted(bench: Bench, cell: Cell, rows: NDArray[np.int64], stop: Stop) -> Segmenter:
    seed = seed_of(bench.ground.seed, "best", cell.key)
    return train_segmenter(bench, cell, start_encoder(bench, cell, seed), rows, bench.recipe_of(cell), seed, stop)


def _dice(bench: Bench, model: Segmenter, rows: NDArray[np.int64], stop: Stop) -> float:
    found = score_outlines(bench, model, rows, stop)
    yardstick = Outlines(found.targets.shape[1])
    there = yardstick.keep(found.targets.sum(0))
    value = yardstick.estimate("dice", found.scores, found.targets, bench.ground.persons[rows], there).value
    return float(value)


def _familiarity(bench: Bench, model: Segmenter, progress: Progress, stop: Stop) -> Familiarity | None:
    """How far a scan may lie from those of the study, annotated or not; None where these are too few to say."""
    ground, store = bench.ground, volumes_of(bench)
    rows = ground.usable(np.setdiff1d(np.arange(len(ground.catalog)), ground.pool))
    if len(rows) < FEWEST_SCANS:
        return None
    some = np.random.default_rng(0).permutation(rows)[:MOST_SCANS]
    found = []
    with progress.task("Learning which scans are familiar", len(some), "scans") as bar:
        for row in np.sort(some).tolist():
            check(stop)
            found.append(scan_features(model, store, row, ground.base.shape))
            bar.advance()
    return learn_familiarity(np.stack(found))


def _outliner(bench: Bench, origin: dict[str, object], familiarity: Familiarity | None) -> Outliner:
    ground, settings = bench.ground, bench.settings
    masks = [mask["values"] for mask in ground.catalog.table["mask"] if mask is not None]
    return Outliner(
        names=ground.task.names,
        values=written_values(masks)[: ground.task.outputs],
        shape=ground.base.shape,
        spacing=ground.volumes.index.settings.spacing,
        channels=ground.channels,
        spatial_dims=ground.spatial_dims,
        modality=common_modality(ground.catalog),
        ct_window=settings.data.ct_window,
        supervise=settings.adapt.supervise,
        overlap=settings.adapt.overlap,
        mirrored=settings.adapt.mirrored,
        origin=origin,
        familiarity=familiarity,
    )
