"""Measures of one class or label, each with how far every image pulls it.

All take images with weights: scores (N,), truth (N,) bool and weights (N,) > 0. The pull of an image is the derivative
of the measure by the logarithm of its weight: by how much the measure would change, per unit, if the image counted
(1 + e) times. The pulls of all images sum to zero. Summed over the images of a patient they are what a clustered
variance is made of: of the AUROC they are the structural components of Obuchowski (Biometrics 1997).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BINS = 10
"""Of the calibration error: each holds as many images as the others."""
LEAST = float(np.finfo(np.float64).eps)
"""The smallest chance that a log loss knows, as scikit-learn has it."""


@dataclass(frozen=True)
class Estimate:
    """A measured value, and how far each image pulls it, (N,); NaN where it cannot be measured."""

    value: float
    pulls: Array

    @property
    def measured(self) -> bool:
        return bool(np.isfinite(self.value))


def nothing(images: int) -> Estimate:
    """What is said of what cannot be measured."""
    return Estimate(float("nan"), np.zeros(images))


def average(parts: Sequence[Estimate], images: int) -> Estimate:
    """The plain mean of those that could be measured."""
    counted = [part for part in parts if part.measured]
    if not counted:
        return nothing(images)
    value = float(np.mean([part.value for part in counted]))
    return Estimate(value, np.mean([part.pulls for part in counted], axis=0))


def ratio(above: Array, below: Array, weights: Array) -> Estimate:
    """Weighted sum of `above` (N,) over that of `below` (N,)."""
    total = float((weights * below).sum())
    if total <= 0:
        return nothing(len(weights))
    value = float((weights * above).sum()) / total
    return Estimate(value, weights * (above - value * below) / total)


def mean(values: Array, weights: Array) -> Estimate:
    """Weighted mean of values (N,)."""
    return ratio(values, np.ones(len(values)), weights)


def recall(decided: Array, truth: Array, weights: Array) -> Estimate:
    """Share of the true that were decided to be so."""
    return ratio((decided & truth).astype(np.float64), truth.astype(np.float64), weights)


def specificity(decided: Array, truth: Array, weights: Array) -> Estimate:
    """Share of those not true that were decided not to be."""
    return recall(~decided, ~truth, weights)


def balanced(decided: Array, truth: Array, weights: Array) -> Estimate:
    """Mean of sensitivity and specificity; both have to be there."""
    parts = [recall(decided, truth, weights), specificity(decided, truth, weights)]
    return average(parts, len(truth)) if all(part.measured for part in parts) else nothing(len(truth))


def agreement(decided: Array, truth: Array, weights: Array) -> Estimate:
    """Share of right decisions."""
    return mean((decided == truth).astype(np.float64), weights)


def f1(decided: Array, truth: Array, weights: Array) -> Estimate:
    """Twice those both true and decided, over those true plus those decided."""
    both = 2.0 * (decided & truth)
    return ratio(both, decided.astype(np.float64) + truth, weights)


def auroc(scores: Array, truth: Array, weights: Array) -> Estimate:
    """Chance that a true image outscores one that is not, ties half."""
    positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)
    if not (len(positive) and len(negative)):
        return nothing(len(truth))
    above = _outscored(scores[positive], scores[negative], weights[negative])
    below = 1 - _outscored(scores[negative], scores[positive], weights[positive])
    shares = weights[positive] / weights[positive].sum(), weights[negative] / weights[negative].sum()
    value = float(shares[0] @ above)
    pulls = np.empty(len(truth))
    pulls[positive], pulls[negative] = shares[0] * (above - value), shares[1] * (below - value)
    return Estimate(value, pulls)


def average_precision(scores: Array, truth: Array, weights: Array) -> Estimate:
    """Precision at every threshold, weighted by the recall gained there; equal scores are one threshold."""
    if truth.all() or not truth.any():
        return nothing(len(truth))
    levels, place = np.unique(scores, return_inverse=True)
    gained = np.bincount(place, weights * truth, len(levels))
    called = _from_above(np.bincount(place, weights, len(levels)))
    found = _from_above(gained)
    total, precision = gained.sum(), found / called
    value = float((gained * precision).sum() / total)
    by_true = np.cumsum(gained * (called - found) / called**2)[place]
    by_false = -np.cumsum(gained * found / called**2)[place]
    own = precision[place] - value
    return Estimate(value, weights * np.where(truth, own + by_true, by_false) / total)


def kappa(decided: Array, truth: Array, classes: int, weights: Array) -> Estimate:
    """Cohen's kappa with quadratic weights (Psychol Bull 1968) of class indices decided (N,) and true (N,).

    Of two classes it is the unweighted kappa.
    """
    share = weights / weights.sum()
    rows, columns = (np.bincount(found, share, classes) for found in (truth, decided))
    apart = (np.arange(classes)[:, None] - np.arange(classes)) ** 2 / max(1, classes - 1) ** 2
    observed, expected = float(share @ apart[truth, decided]), float(rows @ apart @ columns)
    if expected <= 0:
        return nothing(len(truth))
    value = 1 - observed / expected
    by_chance = (apart @ columns)[truth] + (apart.T @ rows)[decided] - 2 * expected
    by_image = apart[truth, decided] - observed
    return Estimate(value, share * (-by_image / expected + observed * by_chance / expected**2))


def log_loss(chances: Array, weights: Array) -> Estimate:
    """Mean of minus the logarithm of the chance (N,) that was given to what came true; none is taken as smaller than
    `LEAST`."""
    return mean(-np.log(np.clip(chances, LEAST, 1 - LEAST)), weights)


def calibration_error(confidence: Array, right: Array, weights: Array) -> Estimate:
    """Expected calibration error (Naeini et al., AAAI 2015) in `BINS` bins of as many images, equal ones together.

    `confidence` (N,) is the chance that was said, `right` (N,) whether it came true. With few images per bin it is too
    large, even of chances that are perfect.
    """
    share = weights / weights.sum()
    bins = equal_bins(confidence, share)
    gap = confidence - right
    by_bin = np.bincount(bins, share * gap)
    value = float(np.abs(by_bin).sum())
    return Estimate(value, share * (np.sign(by_bin)[bins] * gap - value))


def equal_bins(values: Array, share: Array, count: int = BINS) -> Array:
    """The bin of each value (N,), from 0: `count` bins, each of as much of `share` (N,), which sums to 1; equal values
    stand together, so that a bin may stay empty."""
    order = np.argsort(values, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(share[order])])[np.searchsorted(values[order], values)]
    bins: Array = np.minimum(count * below + 1e-6, count - 1).astype(np.int64)  # rounding must not move an image
    return bins


def _outscored(ours: Array, theirs: Array, weights: Array) -> Array:
    """Weighted share of `theirs` below each of `ours`, ties half."""
    order = np.argsort(theirs, kind="stable")
    levels, total = theirs[order], np.concatenate([[0.0], np.cumsum(weights[order])])
    low, high = (np.searchsorted(levels, ours, side=side) for side in ("left", "right"))
    share: Array = (total[low] + total[high]) / (2 * total[-1])
    return share


def _from_above(values: Array) -> Array:
    """Running sum from the last to each."""
    summed: Array = np.cumsum(values[::-1])[::-1]
    return summed
