"""Test images that a study's best arm got wrong, and the training images that its encoder holds for the nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.study.ground import Ground
from medprior.study.results import Arm, CellResult, StudyResults

Array = NDArray[Any]
MOST_MISTAKES, NEAREST = 8, 4


@dataclass(frozen=True)
class Neighbour:
    """A training image; `distance` is 1 - cosine of frozen features, between 0 and 2."""

    row: int
    label: str
    distance: float


@dataclass(frozen=True)
class Mistake:
    """A test image that was taken for `said`, with its mean chance over seeds, while it is `truth`."""

    row: int
    truth: str
    said: str
    chance: float
    near: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Wrong:
    """A wrong answer on a test image: on which label of several, or None where classes exclude each other."""

    row: int
    label: int | None
    truth: str
    said: str
    chance: float


def mistakes(results: StudyResults, arm: Arm, ground: Ground, features: Array) -> tuple[Mistake, ...]:
    """The surest wrong answers of an arm at its largest budget in the first fold, one of each patient, 8 at most.

    Args:
        features: (N, D) frozen features of its encoder by catalog row.
    """
    cells = [cell for cell in results.cells if cell.key == arm and cell.fold == 0]
    budget = max((cell.budget for cell in cells), default=0)
    wrong = wrong_answers([cell for cell in cells if cell.budget == budget], results.names)
    first = {int(ground.persons[one.row]): one for one in reversed(wrong)}
    shown = [one for one in wrong if first[int(ground.persons[one.row])] is one][:MOST_MISTAKES]
    learnt = ground.usable(ground.budget(budget, 0, 0)) if shown else np.zeros(0, np.int64)
    return tuple(
        Mistake(one.row, one.truth, one.said, one.chance, _near(one, learnt, ground, features)) for one in shown
    )


def wrong_answers(cells: list[CellResult], names: tuple[str, ...]) -> list[Wrong]:
    """Wrong answers of models that were tested on the same images, their chances averaged; the surest first."""
    if not cells:
        return []
    chances = np.mean([cell.scores for cell in cells], axis=0)
    return wrongly_answered(chances, cells[0].targets, cells[0].rows, names)


def wrongly_answered(chances: Array, targets: Array, rows: Array, names: tuple[str, ...]) -> list[Wrong]:
    """Wrong answers among chances (N, K) of the catalog rows (N,), targets as in `metrics`; the surest first."""
    work = _of_classes if targets.ndim == 1 else _of_labels
    return sorted(work(chances, targets, rows, names), key=lambda one: (-one.chance, one.row))


def _of_classes(chances: Array, targets: Array, rows: Array, names: tuple[str, ...]) -> list[Wrong]:
    said = chances.argmax(axis=1)
    at = np.flatnonzero(np.isfinite(targets) & (said != targets))
    return [Wrong(int(rows[i]), None, names[int(targets[i])], names[said[i]], float(chances[i, said[i]])) for i in at]


def _of_labels(chances: Array, targets: Array, rows: Array, names: tuple[str, ...]) -> list[Wrong]:
    """Of each image the label that is furthest from the truth, where that is more than half way."""
    off = np.where(np.isfinite(targets), np.abs(chances - targets), 0)
    worst = off.argmax(axis=1)
    found = []
    for i in np.flatnonzero(off.max(axis=1) > 0.5):
        k = int(worst[i])
        there = bool(targets[i, k] == 1)
        truth, said = presence(names[k], there), presence(names[k], not there)
        found.append(Wrong(int(rows[i]), k, truth, said, float(off[i, k])))
    return found


def presence(name: str, there: bool) -> str:
    """A label as one says it of an image."""
    return name if there else f"no {name}"


def _near(one: Wrong, learnt: NDArray[np.int64], ground: Ground, features: Array) -> tuple[Neighbour, ...]:
    ours, theirs = np.asarray(features[one.row], np.float64), np.asarray(features[learnt], np.float64)
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours)
    apart = 1 - theirs @ ours / np.maximum(lengths, 1e-12)
    order = np.argsort(apart, kind="stable")[:NEAREST]
    return tuple(Neighbour(int(learnt[i]), _label(one, int(learnt[i]), ground), float(apart[i])) for i in order)


def _label(one: Wrong, row: int, ground: Ground) -> str:
    target = ground.targets[row]
    value = target if one.label is None else target[one.label]
    if np.isnan(value):
        return "unknown"
    names = ground.task.names
    return names[int(value)] if one.label is None else presence(names[one.label], bool(value == 1))
