"""A study seen through one of its classes: that class or label against everything else, or its outlines alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from medprior.evaluation import patientmeans
from medprior.evaluation.intervals import Interval
from medprior.evaluation.metrics import Kind, measured_columns, one_versus_rest
from medprior.evaluation.segmentation import METRICS, Metric, Scores
from medprior.evaluation.yardstick import unpacked
from medprior.study.results import Arm, CellResult, StudyResults
from medprior.study.verdict.findings import Findings

if TYPE_CHECKING:
    import pandas

COLUMNS = ("arm", "encoder", "adaptation", "budget", "class", "metric", "mean", "low", "high", "patients", "seeds")


@dataclass(frozen=True)
class ClassScore:
    """AUROC of one arm for one class, with its interval."""

    arm: Arm
    name: str
    auroc: Interval


@dataclass(frozen=True)
class OutlineScore:
    """What one arm's outlines of one class score at a budget, on average over seeds and folds.

    The interval is over test patients alone: the luck of seeds and of pre-training runs is not in it. `patients` are
    those who have a value, `seeds` the adaptation seeds behind it.
    """

    arm: Arm
    budget: int
    name: str
    metric: Metric
    score: Interval
    patients: int
    seeds: int


def class_scores(results: StudyResults, budget: int) -> list[ClassScore]:
    """AUROC of every class against the rest, for every arm at `budget`; none of two classes: theirs is the score."""
    found = []
    for k in range(len(results.names)) if results.kind != "binary" else ():
        seen = of_class(results, k, budget)
        points = seen.points("auroc")
        findings = Findings(seen, points, "auroc")
        for (arm, _), sample in points.samples.items():
            if np.isfinite(sample.mean):
                found.append(ClassScore(arm, results.names[k], findings.at(arm, budget)))
    return found


def of_class(results: StudyResults, k: int, budget: int) -> StudyResults:
    """The cells of `budget` as a binary study: class or label `k` against the rest; unknown entries are left out."""
    cells = [_seen(cell, k, results) for cell in results.cells if cell.budget == budget]
    return StudyResults(cells, "binary", ("rest", results.names[k]))


def outline_scores(results: StudyResults) -> list[OutlineScore]:
    """Dice, HD95 and surface Dice of every class, for every arm and budget of a study that learns outlines.

    The test scans of a patient are averaged over seeds and folds first. What no patient has a value of is left out.
    """
    models: dict[tuple[Arm, int], list[CellResult]] = {}
    for (arm, budget, _, _), cells in results.runs.items():
        models.setdefault((arm, budget), []).extend(cells)
    return [scored for (arm, budget), cells in models.items() for scored in _outlined(results, arm, budget, cells)]


def class_table(results: StudyResults) -> pandas.DataFrame:
    """Rows of classes.csv: `outline_scores`, a bound that cannot be given empty."""
    import pandas

    rows = [
        (*vars(one.arm).values(), one.budget, one.name, one.metric, *_values(one.score), one.patients, one.seeds)
        for one in outline_scores(results)
    ]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def _values(score: Interval) -> tuple[float, float | None, float | None]:
    return score.value, score.low, score.high


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
        temperature=None if results.kind == "multiclass" else cell.temperature,
        thresholds=_thresholds(cell, k, results),
    )


def _thresholds(cell: CellResult, k: int, results: StudyResults) -> Sequence[Sequence[float | None]] | None:
    """The one row of thresholds that is about class `k`; None where the held-out labels gave none for it."""
    measured = measured_columns(len(results.names), cast(Kind, results.kind))
    if cell.thresholds is None or k not in measured:
        return None
    return [cell.thresholds[measured.index(k)]]


def _outlined(results: StudyResults, arm: Arm, budget: int, cells: list[CellResult]) -> list[OutlineScore]:
    """The scores of one arm at one budget, class by class."""
    pooled = _by_patient(cells)
    seeds = len({cell.seed for cell in cells})
    found = []
    for label, name in enumerate(results.names, start=1):
        for metric in METRICS:
            patients = int(np.isfinite(pooled.of(metric)[:, label - 1]).sum())
            if patients:
                score = patientmeans.patient_interval(pooled, metric, label=label)
                found.append(OutlineScore(arm, budget, name, metric, score, patients, seeds))
    return found


def _by_patient(cells: list[CellResult]) -> Scores:
    """Scores (P, K) of the patients: means over their scans, and over the models that outlined them."""
    volumes = [scores for cell in cells for scores in unpacked(cell.scores, cell.targets)]
    _, pooled = patientmeans.by_patient(volumes, np.concatenate([cell.patients for cell in cells]))
    return pooled
