"""Do intervals hold where folds of a cross-validation are small? python benchmarks/statistics/folds.py OUT.

Made up as PLAN.md says (one image a patient, three seeds, two arms that are equal), but every fold has models of its
own: they share with each other what two seeds of one arm share. Each cell is one line of OUT/folds.csv.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cohorts import OF_ARM, SHARED
from numpy.typing import NDArray
from scipy.stats import norm

from medprior.evaluation.intervals import difference, interval
from medprior.evaluation.luck import Sample
from medprior.evaluation.measures import Estimate, auroc
from medprior.evaluation.strata import Strata, over_folds, strata_of

Array = NDArray[Any]
ARMS, SEEDS = 2, 3
CELLS = (
    # patients, positives, folds, repeats
    *((100, 10, 5, 1), (100, 10, 5, 2), (100, 10, 5, 4), (30, 10, 5, 2), (100, 15, 5, 2), (100, 30, 5, 2)),
    *((100, 20, 10, 2), (100, 10, 10, 1), (100, 10, 10, 2), (100, 15, 10, 2)),
)
Folds = list[tuple[Array, Estimate]]


def shares(rng: np.random.Generator, truth: Array, folds: int, repeats: int) -> Iterator[Array]:
    """The patients of every fold, stratified."""
    for _ in range(repeats):
        fold = np.empty(len(truth), np.int64)
        for side in (0, 1):
            mixed = rng.permutation(np.flatnonzero(truth == side))
            fold[mixed] = (np.arange(len(mixed)) + rng.integers(folds)) % folds
        yield from (np.flatnonzero(fold == number) for number in range(folds))


def study(rng: np.random.Generator, level: float, cell: tuple[int, int, int, int]) -> tuple[Strata, list[list[Folds]]]:
    """The folds of every arm and seed."""
    patients, positives, folds, repeats = cell
    truth = (np.arange(patients) < positives).astype(np.float64)
    common, of_arm = rng.standard_normal(patients), rng.standard_normal((ARMS, patients))
    found: list[list[Folds]] = [[[] for _ in range(SEEDS)] for _ in range(ARMS)]
    for kept in shares(rng, truth, folds, repeats):
        own = rng.standard_normal((ARMS, SEEDS, len(kept)))
        made = np.sqrt(SHARED) * common[kept] + np.sqrt(OF_ARM) * of_arm[:, None, kept]
        made = made + np.sqrt(1 - SHARED - OF_ARM) * own + np.sqrt(2) * norm.ppf(level) * truth[kept]
        values, pulls = aurocs(made, truth[kept] == 1)
        for arm, seed in np.ndindex(ARMS, SEEDS):
            found[arm][seed].append((kept, Estimate(float(values[arm, seed]), pulls[arm, seed])))
    return strata_of(np.arange(patients), truth, "binary", 2), found


def aurocs(made: Array, truth: Array) -> tuple[Array, Array]:
    """Of scores (A, S, N) without ties the AUROC (A, S) and the pulls (A, S, N), as `measures.auroc` has them."""
    won = made[..., truth][..., :, None] > made[..., ~truth][..., None, :]
    values = won.mean((-1, -2))
    pulls = np.empty(made.shape)
    pulls[..., truth] = (won.mean(-1) - values[..., None]) / truth.sum()
    pulls[..., ~truth] = (won.mean(-2) - values[..., None]) / (~truth).sum()
    one = auroc(made[0, 0], truth, np.ones(len(truth)))
    assert np.isclose(one.value, values[0, 0]) and np.allclose(one.pulls, pulls[0, 0])
    return values, pulls


def each_fold_by_itself(strata: Strata, folds: Folds) -> tuple[float, Array]:
    """As it was before companions that change were made up for."""
    moves = [strata.spread(patients, one.pulls) for patients, one in folds]
    return float(np.mean([one.value for _, one in folds])), np.mean(moves, axis=0)


def counted(level: float, cell: tuple[int, int, int, int], studies: int) -> dict[str, float]:
    """How often the interval of an arm holds the truth and equal arms are told apart, both ways."""
    rng = np.random.default_rng([round(100 * level), *cell])
    rows = []
    for _ in range(studies):
        strata, made = study(rng, level, cell)
        row: dict[str, float] = {}
        for name, score in (("before", each_fold_by_itself), ("now", over_folds)):
            samples = [sample_of([score(strata, folds) for folds in arm]) for arm in made]
            alone, apart = interval(samples[0], cell[1]), difference(*samples, cell[1])
            row |= {
                "value": alone.value,
                f"covered {name}": (alone.low or 0.0) <= level <= (alone.high or 0.0),
                f"rejected {name}": apart.p < 0.05,
                f"variance {name}": (samples[0].by_patient ** 2).sum(),
            }
        rows.append(row)
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    true = float(np.var([row["value"] for row in rows]))
    return {key: mean[key] / true if key.startswith("variance") else mean[key] for key in mean if key != "value"}


def sample_of(scored: list[tuple[float, Array]]) -> Sample:
    values, moves = zip(*scored, strict=True)
    return Sample(np.array(values), np.stack(moves), np.arange(SEEDS), np.full(SEEDS, -1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--studies", type=int, default=400)
    asked = parser.parse_args()
    with (asked.out / "folds.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for number, (cell, level) in enumerate(itertools.product(CELLS, (0.7, 0.85, 0.95))):
            found = counted(level, cell, asked.studies)
            if not number:
                writer.writerow(["patients", "positives", "folds", "repeats", "auroc", "studies", *found])
            writer.writerow([*cell, level, asked.studies, *(f"{value:.3f}" for value in found.values())])
            stream.flush()
