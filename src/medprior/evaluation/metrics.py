"""Scores of predictions, each also under many sets of weights at once.

A bootstrap replicate is a set of weights: an image counts as often as its patient was drawn. Every measure here takes
a matrix of weights (N images, R replicates) and returns R values, so that a thousand replicates cost one sort.

Conventions
-----------
- `scores` (N, K) are probabilities (binary: K = 2). `targets` are (N,) class indices with NaN for unlabelled, or for
  multi-label (N, K) of 0, 1 and NaN for unknown. What is unknown counts nowhere.
- AUROC and average precision: class 1 for binary; one class against the rest, then the plain mean over classes, for
  multi-class; one label at a time, then the plain mean over labels, for multi-label. Tied scores count half in AUROC
  and form one threshold in average precision (the step-wise sum, without interpolation).
- A class or label that lacks positives or negatives has no AUROC: it is NaN in `per_class` and left out of the mean.
- Decisions are the most probable class (the first of equals), or probability >= 0.5 for every label by itself.
- Balanced accuracy is the mean recall over classes; for multi-label the mean of (sensitivity + specificity) / 2.
- Macro F1 leaves out a class that is neither present nor predicted. Binary counts both classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from medprior.errors import DataError, unknown

Array = NDArray[Any]
Comparison = Callable[[Array, Array, Array], Array]
Kind = Literal["binary", "multiclass", "multilabel"]
Metric = Literal["auroc", "average_precision", "balanced_accuracy", "accuracy", "macro_f1"]
METRICS: tuple[Metric, ...] = get_args(Metric)
TITLES: dict[str, str] = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
"""How each metric is written in a sentence."""


def score(
    metric: Metric,
    scores: Array,
    targets: Array,
    kind: Kind,
    *,
    weights: Array | None = None,
    keep: Array | None = None,
) -> float:
    """One number for predictions (N, K) against targets; NaN where the metric is undefined.

    `weights` (N,) weigh the images (all equal when absent). `keep` (K,) bool limits the mean to some labels of a
    multi-label task. Raises DataError for shapes that do not fit and SettingsError for an unknown metric.
    """
    column = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    return float(replicates(metric, scores, targets, kind, column[:, None], keep=keep)[0])


def per_class(metric: Metric, scores: Array, targets: Array, kind: Kind, *, weights: Array | None = None) -> Array:
    """The parts whose mean is `score`: one per class or label, NaN where undefined.

    Binary AUROC and average precision, and accuracy of one class per image, have a single part.
    """
    column = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    parts = [part.measure(column[:, None]) for part in _parts(metric, scores, targets, kind)]
    values: Array = np.concatenate(parts)
    return values


def replicates(
    metric: Metric, scores: Array, targets: Array, kind: Kind, weights: Array, *, keep: Array | None = None
) -> Array:
    """The score under each column of weights (N, R) -> (R,) float64; NaN where a replicate cannot be scored."""
    parts = _parts(metric, scores, targets, kind)
    if keep is not None and kind == "multilabel":
        parts = [part for part, kept in zip(parts, keep, strict=True) if kept]
    total, counted = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for part in parts:
        values = part.measure(weights)
        measured = np.isfinite(values)
        total[measured] += values[measured]
        counted += measured
    return _ratio(total, counted)


def one_versus_rest(targets: Array, classes: int, kind: Kind) -> Array:
    """Targets as (N, K) of 0, 1 and NaN, whatever the kind."""
    targets = np.asarray(targets, np.float64)
    if kind == "multilabel":
        return targets
    is_class: Array = targets[:, None] == np.arange(classes)
    return np.where(np.isnan(targets)[:, None], np.nan, is_class)


@dataclass(frozen=True)
class _Part:
    """One class or label: its column of scores or decisions, its truth, and how the two are compared."""

    compare: Comparison
    scores: Array
    truth: Array

    def measure(self, weights: Array) -> Array:
        known = np.isfinite(self.truth)
        if known.all():
            return self.compare(self.scores, self.truth == 1, weights)
        return self.compare(self.scores[known], self.truth[known] == 1, weights[known])


def _parts(metric: Metric, scores: Array, targets: Array, kind: Kind) -> list[_Part]:
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    scores, targets = _checked(scores, targets, kind)
    truth = one_versus_rest(targets, scores.shape[1], kind)
    if metric in ("auroc", "average_precision"):
        ranking = _auroc if metric == "auroc" else _average_precision
        columns = [1] if kind == "binary" else range(scores.shape[1])
        return [_Part(ranking, scores[:, k], truth[:, k]) for k in columns]
    decided = _decisions(scores, kind)
    if metric == "accuracy" and kind != "multilabel":
        right = np.where(np.isnan(targets), np.nan, (decided * np.nan_to_num(truth)).sum(1))
        return [_Part(_share, right, right)]
    recall = _balanced if kind == "multilabel" else _recall
    compare: Comparison = {"accuracy": _agreement, "macro_f1": _f1, "balanced_accuracy": recall}[metric]
    return [_Part(compare, decided[:, k], truth[:, k]) for k in range(scores.shape[1])]


def _checked(scores: Array, targets: Array, kind: Kind) -> tuple[Array, Array]:
    scores, targets = np.asarray(scores), np.asarray(targets, np.float64)
    expected = scores.shape if kind == "multilabel" else scores.shape[:1]
    if scores.ndim != 2 or targets.shape != expected or (kind == "binary" and scores.shape[1] != 2):
        raise DataError(
            f"{kind} scores {scores.shape} do not fit targets {targets.shape}",
            do="Give scores (N, K), K = 2 for binary, and targets (N,) or for multi-label (N, K).",
        )
    if not np.isfinite(scores).all():
        raise DataError(f"{int((~np.isfinite(scores)).sum())} scores are not finite numbers")
    return scores, targets


def _decisions(scores: Array, kind: Kind) -> Array:
    if kind == "multilabel":
        return (scores >= 0.5).astype(np.float64)
    chosen: Array = scores.argmax(1)[:, None] == np.arange(scores.shape[1])
    return chosen.astype(np.float64)


def _auroc(scores: Array, positive: Array, weights: Array) -> Array:
    """Chance that a positive outscores a negative, ties half; counted at the scores of the rarer class."""
    swap = 2 * int(positive.sum()) > len(positive)
    few, below, tied = _steps(scores, positive != swap, weights)
    wins = (few * (below + tied / 2)).sum(0, dtype=np.float64)
    share = _ratio(wins, few.sum(0, dtype=np.float64) * _total(positive == swap, weights))
    return 1 - share if swap else share


def _average_precision(scores: Array, positive: Array, weights: Array) -> Array:
    """Precision at every threshold, weighted by the recall gained there; equal scores are one threshold."""
    gained, below, _ = _steps(scores, positive, weights)
    negative = _total(~positive, weights)
    found = np.cumsum(gained[::-1], axis=0)[::-1]
    called = found + (negative - below)
    precision = np.divide(found, called, out=np.zeros_like(called), where=called > 0)
    value = _ratio((gained * precision).sum(0, dtype=np.float64), gained.sum(0, dtype=np.float64))
    return np.where(negative > 0, value, np.nan)


def _steps(scores: Array, chosen: Array, weights: Array) -> tuple[Array, Array, Array]:
    """At each distinct score of the chosen (rising): their weight, and the others' weight below it and tied with it.

    Shapes (U, R) each. The others are summed straight into the gaps between those scores by one sparse product, which
    is an order of magnitude faster than a running sum over all images.
    """
    levels, place = np.unique(scores[chosen], return_inverse=True)
    others = scores[~chosen]
    gap = np.searchsorted(levels, others, side="left") + np.searchsorted(levels, others, side="right")
    between = _grouped(gap, np.flatnonzero(~chosen), 2 * len(levels) + 1, weights)
    tied = between[1::2]
    below = np.cumsum(between[:-1:2], axis=0)
    below[1:] += np.cumsum(tied[:-1], axis=0)
    return _grouped(place, np.flatnonzero(chosen), len(levels), weights), below, tied


def _grouped(group: Array, rows: Array, groups: int, weights: Array) -> Array:
    """Sums of the given rows of `weights` by group: (groups, R)."""
    member = np.ones(len(rows), weights.dtype)
    sums: Array = csr_array((member, (group, rows)), shape=(groups, len(weights))) @ weights
    return sums


def _total(chosen: Array, weights: Array) -> Array:
    """Weight of the chosen images, (R,); in the type of `weights`, whose conversion would cost more than the sum."""
    total: Array = chosen.astype(weights.dtype) @ weights
    return total


def _recall(decided: Array, positive: Array, weights: Array) -> Array:
    return _ratio(_total(decided * positive, weights), _total(positive, weights))


def _balanced(decided: Array, positive: Array, weights: Array) -> Array:
    both: Array = _recall(decided, positive, weights) + _recall(1 - decided, ~positive, weights)
    return both / 2


def _agreement(decided: Array, positive: Array, weights: Array) -> Array:
    return _share(decided == positive, positive, weights)


def _share(right: Array, _: Array, weights: Array) -> Array:
    return _ratio(_total(right, weights), weights.sum(0))


def _f1(decided: Array, positive: Array, weights: Array) -> Array:
    return _ratio(2 * _total(decided * positive, weights), _total(decided + positive, weights))


def _ratio(above: Array, below: Array) -> Array:
    """Quotient in float64, NaN where the divisor is zero."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    quotient: Array = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return quotient
