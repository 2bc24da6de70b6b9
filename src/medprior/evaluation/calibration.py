"""Whether probabilities can be believed, and where to cut them: temperatures, thresholds and reliability bins.

Temperature and thresholds of a model come from labelled images that it has not learnt from, never from test images. A
temperature scales what the model says; thresholds are for its chances as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax

from medprior.evaluation import measures
from medprior.evaluation.intervals import FEWEST, Interval, interval
from medprior.evaluation.luck import Sample
from medprior.evaluation.metrics import Kind, measured_columns, one_versus_rest
from medprior.evaluation.probes import fit_temperature
from medprior.evaluation.strata import Strata

Array = NDArray[Any]
AIM = 0.9
"""The specificity, or the sensitivity, that a threshold is set for."""
_NEAR = 1e-15


@dataclass(frozen=True)
class Calibration:
    """What held-out labels say of the chances of one model; None where there were none.

    `thresholds` has a row per class or label (of a binary task: of class 1 alone): the threshold for a specificity of
    `AIM`, and the one for a sensitivity of `AIM`; None for a class that the held-out labels lack on one side.
    """

    temperature: float | None = None
    thresholds: Sequence[Sequence[float | None]] | None = None

    def cuts(self, which: int) -> Array | None:
        """(C,) thresholds for specificity (0) or for sensitivity (1), NaN for a class without one."""
        if self.thresholds is None:
            return None
        return np.array([pair[which] for pair in self.thresholds], np.float64)


def calibrate(chances: Array, targets: Array, kind: Kind) -> Calibration:
    """Temperature and thresholds from held-out images: chances (N, K), rows of NaN left out, and targets as `metrics`.

    Nothing comes of labels in which no class has both sides: from those every temperature would be as small as can be.
    """
    said = np.isfinite(chances).all(axis=1)
    chances, targets = chances[said], np.asarray(targets, np.float64)[said]
    truth = one_versus_rest(targets, chances.shape[1], kind)
    columns = measured_columns(chances.shape[1], kind)
    found = [_thresholds(chances[:, k], truth[:, k]) for k in columns]
    if all(pair == (None, None) for pair in found):
        return Calibration()
    temperature = fit_temperature(_logits(chances, kind), targets, kind)
    return Calibration(temperature, [list(pair) for pair in found])


def scaled(chances: Array, kind: Kind, temperature: float) -> Array:
    """Chances (N, K) as they are when their logits are divided by `temperature`."""
    logits = _logits(chances, kind) / temperature
    rows: Array = expit(logits) if kind == "multilabel" else softmax(logits, axis=1)
    return rows


def _logits(chances: Array, kind: Kind) -> Array:
    chances = np.clip(np.asarray(chances, np.float64), _NEAR, 1 - _NEAR)
    found: Array = logit(chances) if kind == "multilabel" else np.log(chances)
    return found


def _thresholds(chances: Array, truth: Array) -> tuple[float | None, float | None]:
    """The least that gives the specificity and the largest that gives the sensitivity, halfway between chances."""
    positive, negative = (np.sort(chances[truth == side]) for side in (1, 0))
    if not (len(positive) and len(negative)):
        return None, None
    levels = np.unique(np.concatenate([positive, negative]))
    halfway = np.maximum((levels[:-1] + levels[1:]) / 2, np.nextafter(levels[:-1], np.inf))
    cuts = np.concatenate([levels[:1], halfway, np.nextafter(levels[-1:], np.inf)])
    spared = np.searchsorted(negative, cuts) / len(negative)
    missed = np.searchsorted(positive, cuts) / len(positive)
    specific, sensitive = spared >= AIM - 1e-9, missed <= 1 - AIM + 1e-9
    return float(cuts[specific.argmax()]), float(cuts[np.flatnonzero(sensitive)[-1]])


@dataclass(frozen=True)
class Bin:
    """Chances that lie close together: their mean, the share that came true, and the patients whose they are."""

    predicted: float
    share: Interval
    patients: int


def outcomes(chances: Array, targets: Array, kind: Kind, keep: Array) -> tuple[Array, Array, Array]:
    """What was said (M,), whether it came true (M,), and of which image (M,).

    Of a binary task the chance of class 1; of several classes that of the decided one; of labels that of each which is
    known and in `keep` (K,).
    """
    truth = one_versus_rest(targets, chances.shape[1], kind)
    if kind == "multilabel":
        image, label = np.nonzero(np.isfinite(truth) & keep)
    else:
        image = np.flatnonzero(np.isfinite(truth).all(axis=1))
        label = np.ones(len(image), np.int64) if kind == "binary" else chances[image].argmax(1)
    return chances[image, label], truth[image, label] == 1, image


def reliability(said: Array, came_true: Array, patients: Array, strata: Strata) -> list[Bin]:
    """Bins of as many chances each, rising; fewer bins where patients are few.

    Args:
        said: (M,) chances; those of several models of one arm may stand together.
        came_true: (M,) bool.
        patients: (M,) whose they are. Intervals are over patients, not over the luck of seeds.
        strata: of all test patients.
    """
    count = int(np.clip(len(np.unique(patients)) // FEWEST, 1, measures.BINS))
    bins = measures.equal_bins(said, np.full(len(said), 1 / max(1, len(said))), count)
    return [_bin(said, came_true, patients, bins == one, strata) for one in np.unique(bins)]


def _bin(said: Array, came_true: Array, patients: Array, inside: Array, strata: Strata) -> Bin:
    ones = np.ones(len(said))
    share = measures.ratio((came_true & inside).astype(np.float64), inside.astype(np.float64), ones)
    one = np.zeros(1, np.int64)
    sample = Sample(np.array([share.value]), strata.spread(patients, share.pulls)[None], one, one)
    there = len(np.unique(patients[inside]))
    return Bin(float(said[inside].mean()), interval(sample, there), there)
