"""Scores of predictions, each with how far every image pulls it.

Conventions
-----------
- `scores` (N, K) are probabilities (binary: K = 2). `targets` are (N,) class indices with NaN for unlabelled, or for
  multi-label (N, K) of 0, 1 and NaN for unknown. What is unknown counts nowhere.
- AUROC and average precision: class 1 for binary; one class against the rest, then the plain mean over classes, for
  multi-class; one label at a time, then the plain mean over labels, for multi-label. Tied scores count half in AUROC
  and form one threshold in average precision (the step-wise sum, without interpolation).
- A class or label that lacks positives or negatives has no AUROC: it is left out of the mean, which is NaN without any.
- Decisions are the most probable class (the first of equals), or probability >= 0.5 for every label by itself.
- Balanced accuracy is the mean recall over classes; for multi-label the mean of (sensitivity + specificity) / 2.
- Macro F1 leaves out a class that is neither present nor predicted. Binary counts both classes.
- Quadratic kappa takes classes in their order, and means something only where they have one.
- Brier score: the squared distance to the truth, summed over classes (of binary tasks and labels: of the one chance),
  mean over images, then labels. Calibration error: of the chance of the decided class; of a label, of its chance.
- Log loss: minus the natural logarithm of the chance that was given to the truth, mean over images, then labels.
- Of the Brier score, the log loss and the calibration error less is better.
- A threshold calls an image positive whose chance is as large or larger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medprior.errors import DataError, unknown
from medprior.evaluation import measures
from medprior.evaluation.measures import Estimate, average

Array = NDArray[Any]
Kind = Literal["binary", "multiclass", "multilabel"]
Metric = Literal[
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "accuracy",
    "macro_f1",
    "quadratic_kappa",
    "brier",
    "log_loss",
    "calibration_error",
]
METRICS: tuple[Metric, ...] = get_args(Metric)
TITLES: dict[str, str] = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "quadratic_kappa": "quadratic kappa",
    "brier": "Brier score",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
}
"""How each metric is written in a sentence."""
Measure = Callable[[Array, Array, Array], Estimate]
_RANKED: dict[str, Measure] = {"auroc": measures.auroc, "average_precision": measures.average_precision}
_DECIDED: dict[str, Measure] = {"accuracy": measures.agreement, "macro_f1": measures.f1}


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
    return estimate(metric, scores, targets, kind, weights=weights, keep=keep).value


def estimate(
    metric: Metric,
    scores: Array,
    targets: Array,
    kind: Kind,
    *,
    weights: Array | None = None,
    keep: Array | None = None,
) -> Estimate:
    """The score with the pull of every image, see `measures`."""
    parts = _parts(metric, scores, targets, kind, weights)
    if keep is not None and kind == "multilabel":
        parts = [part for part, kept in zip(parts, keep, strict=True) if kept]
    return average(parts, len(scores))


def operating(
    scores: Array, targets: Array, kind: Kind, thresholds: Array, *, weights: Array | None = None
) -> list[tuple[Estimate, Estimate]]:
    """Sensitivity and specificity of every class or label (of a binary task: of class 1) at its threshold.

    Args:
        thresholds: (K,), of a binary task (1,); where one is not finite both are NaN.
        weights: (N,) of the images, all equal when absent.
    """
    scores, targets = _checked(scores, targets, kind)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    columns = measured_columns(scores.shape[1], kind)
    if len(thresholds) != len(columns):
        raise DataError(
            f"{len(thresholds)} thresholds do not fit {len(columns)} classes", do="Give one for each (binary: one)."
        )
    truth = one_versus_rest(targets, scores.shape[1], kind)
    found = []
    for column, threshold in zip(columns, thresholds, strict=True):
        parts = [
            _of_known(_at(measure, threshold), scores[:, column], truth[:, column], weights)
            for measure in (measures.recall, measures.specificity)
        ]
        found.append((parts[0], parts[1]))
    return found


def measured_columns(classes: int, kind: Kind) -> list[int]:
    """The classes or labels that are looked at one by one: of a binary task class 1 alone."""
    return [1] if kind == "binary" else list(range(classes))


def one_versus_rest(targets: Array, classes: int, kind: Kind) -> Array:
    """Targets as (N, K) of 0, 1 and NaN, whatever the kind."""
    targets = np.asarray(targets, np.float64)
    if kind == "multilabel":
        return targets
    is_class: Array = targets[:, None] == np.arange(classes)
    return np.where(np.isnan(targets)[:, None], np.nan, is_class)


def _parts(metric: Metric, scores: Array, targets: Array, kind: Kind, weights: Array | None) -> list[Estimate]:
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    scores, targets = _checked(scores, targets, kind)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    if kind == "multilabel":
        pairs = zip(scores.T, targets.T, strict=True)
        return [_of_known(_label(metric), chance, truth, weights) for chance, truth in pairs]
    known = np.isfinite(targets)
    found = _classes(metric, scores[known], targets[known].astype(np.int64), kind, weights[known])
    return [_spread(part, known) for part in found]


def _classes(metric: Metric, scores: Array, targets: Array, kind: Kind, weights: Array) -> list[Estimate]:
    """One class per image, all known."""
    classes = range(scores.shape[1])
    if not len(targets):
        return [measures.nothing(0)]
    if metric in _RANKED:
        columns = measured_columns(len(classes), kind)
        return [_RANKED[metric](scores[:, k], targets == k, weights) for k in columns]
    decided = scores.argmax(1)
    if metric == "balanced_accuracy":
        return [measures.recall(decided == k, targets == k, weights) for k in classes]
    if metric == "macro_f1":
        return [measures.f1(decided == k, targets == k, weights) for k in classes]
    return [_single(metric, scores, decided, targets, kind, weights)]


def _single(metric: Metric, scores: Array, decided: Array, targets: Array, kind: Kind, weights: Array) -> Estimate:
    """What is measured of all classes at once."""
    if metric == "accuracy":
        return measures.agreement(decided, targets, weights)
    if metric == "quadratic_kappa":
        return measures.kappa(decided, targets, scores.shape[1], weights)
    if metric == "calibration_error":
        return measures.calibration_error(scores.max(1), decided == targets, weights)
    if metric == "log_loss":
        return measures.log_loss(scores[np.arange(len(targets)), targets], weights)
    apart = ((scores - np.eye(scores.shape[1])[targets]) ** 2).sum(1)
    return measures.mean(apart / 2 if kind == "binary" else apart, weights)


def _label(metric: Metric) -> Measure:
    """How one label is measured from its chances."""
    if metric in _RANKED:
        return _RANKED[metric]
    if metric == "brier":
        return lambda chance, truth, weights: measures.mean((chance - truth) ** 2, weights)
    if metric == "log_loss":
        return lambda chance, truth, weights: measures.log_loss(np.where(truth, chance, 1 - chance), weights)
    if metric == "calibration_error":
        return measures.calibration_error
    if metric == "quadratic_kappa":
        return lambda chance, truth, weights: measures.kappa(
            (chance >= 0.5).astype(np.int64), truth.astype(np.int64), 2, weights
        )
    decide = measures.balanced if metric == "balanced_accuracy" else _DECIDED[metric]
    return lambda chance, truth, weights: decide(chance >= 0.5, truth, weights)


def _of_known(measure: Measure, chance: Array, truth: Array, weights: Array) -> Estimate:
    known = np.isfinite(truth)
    if not known.any():
        return measures.nothing(len(truth))
    return _spread(measure(chance[known], truth[known] == 1, weights[known]), known)


def _at(measure: Measure, threshold: float) -> Measure:
    if not np.isfinite(threshold):
        return lambda chance, truth, weights: measures.nothing(len(truth))
    return lambda chance, truth, weights: measure(chance >= threshold, truth, weights)


def _spread(part: Estimate, known: Array) -> Estimate:
    """Unknown images pull nothing."""
    pulls = np.zeros(len(known))
    pulls[known] = part.pulls
    return Estimate(part.value, pulls)


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
