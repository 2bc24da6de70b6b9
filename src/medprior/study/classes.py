"""A study seen through one of its classes: that class or label against everything else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from medprior.evaluation.intervals import Interval, interval
from medprior.evaluation.metrics import Kind, one_versus_rest
from medprior.study.results import Arm, CellResult, StudyResults


@dataclass(frozen=True)
class ClassScore:
    """AUROC of one arm for one class, with its interval."""

    arm: Arm
    name: str
    auroc: Interval


def class_scores(results: StudyResults, budget: int) -> list[ClassScore]:
    """AUROC of every class against the rest (of a binary task: its second class), for every arm at `budget`."""
    chosen = range(1, 2) if results.kind == "binary" else range(len(results.names))
    found = []
    for k in chosen:
        seen = of_class(results, k, budget)
        points = seen.points("auroc")
        for (arm, _), sample in points.samples.items():
            if np.isfinite(sample.mean):
                found.append(ClassScore(arm, results.names[k], interval(sample, points.smallest)))
    return found


def of_class(results: StudyResults, k: int, budget: int) -> StudyResults:
    """The cells of `budget` as a binary study: class or label `k` against the rest; unknown entries are left out."""
    cells = [_seen(cell, k, results) for cell in results.cells if cell.budget == budget]
    return StudyResults(cells, "binary", ("rest", results.names[k]))


def _seen(cell: CellResult, k: int, results: StudyResults) -> CellResult:
    truth = one_versus_rest(cell.targets, len(results.names), cast(Kind, results.kind))[:, k]
    known = np.isfinite(truth)
    chances = cell.scores[known, k]
    return replace(
        cell,
        rows=cell.rows[known],
        scores=np.stack([1 - chances, chances], axis=1),
        targets=truth[known],
        patients=cell.patients[known],
        n_test=int(known.sum()),
    )
