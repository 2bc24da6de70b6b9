"""Means over patients of what was measured class by class, with bootstrap intervals.

A mean is taken over the patients who have a value in a class, then over the classes, so that a class of few patients
counts as much as any. Patients are drawn as `resampling` draws them, within the rarest class that their truth holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.evaluation import intervals
from medprior.evaluation.intervals import FEWEST, STILL, Interval
from medprior.evaluation.luck import Sample
from medprior.evaluation.resampling import PatientDraws, draw_patients
from medprior.evaluation.segmentation import Metric, Scores

Array = NDArray[Any]


def by_patient(volumes: Sequence[Scores], patients: Array) -> tuple[Array, Scores]:
    """The patients (P,), sorted, and their scores (P, K): means over the volumes of each that have a value.

    Args:
        volumes: scores (K,) of N label maps.
        patients: (N,) whose they are.
    """
    names, owner = np.unique(patients, return_inverse=True)
    pooled = {
        field.name: _pooled(np.stack([getattr(volume, field.name) for volume in volumes]), owner, len(names))
        for field in fields(Scores)
    }
    return names, Scores(**pooled | {"present": pooled["present"] > 0})


def draw(scores: Scores, *, replicates: int = 1000, seed: int = 0) -> PatientDraws:
    """Bootstrap draws of the P patients of scores (P, K), named 0 to P - 1; they depend on the truth alone."""
    count, classes = scores.present.shape
    present = scores.present.astype(np.float64)
    return draw_patients(np.arange(count), present, "multilabel", classes, replicates=replicates, seed=seed)


def replicates(values: Array, weights: Array) -> Array:
    """The mean over patients, then over classes, under each column of weights.

    Args:
        values: (P, K), NaN where a patient has no value.
        weights: (P, R), how often each patient stands in each replicate.

    Returns:
        (R,), NaN where a replicate holds no value at all.
    """
    known = np.isfinite(values)
    counted = known.T.astype(np.float64) @ weights
    means = _ratio(np.where(known, values, 0.0).T @ weights, counted)
    measured = np.isfinite(means)
    return _ratio(np.where(measured, means, 0.0).sum(0), measured.sum(0).astype(np.float64))


def mean(values: Array) -> float:
    """The mean over patients of values (P, K), then over classes; NaN where there is none."""
    return float(replicates(values, np.ones((len(values), 1)))[0])


def patient_interval(
    scores: Scores, metric: Metric, *, label: int | None = None, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Interval:
    """The mean of one model's scores (P, K) over patients and classes, and its interval over patients.

    Dice and surface Dice have the intervals that `intervals.interval` gives one model; HD95, which has no upper limit,
    a Student interval on the log scale from the same draws. No interval where the rarest class has too few patients.

    Args:
        label: one class, from 1; all of them where it is not given.
        draws: bootstrap replicates.
    """
    values = scores.of(metric) if label is None else scores.of(metric)[:, label - 1 : label]
    fewest = int(np.isfinite(values).sum(0).min())
    drawn = replicates(values, draw(scores, replicates=draws, seed=seed).counts)
    drawn = drawn[np.isfinite(drawn)]
    if metric == "hd95":
        return _above_zero(mean(values), drawn, fewest, level)
    one = np.zeros(1, np.int64)
    return intervals.interval(Sample(np.array([mean(values)]), drawn[None], one, one - 1), fewest, level=level)


def _above_zero(value: float, drawn: Array, patients: int, level: float) -> Interval:
    from scipy import stats

    if patients < FEWEST:
        reason = f"only {patients} patients have a value in the rarest class, too few for an interval"
        return Interval(value, reason=reason)
    error = float(drawn.std())
    if value < STILL or error < STILL:
        return Interval(value, reason="it is the same whichever patients are drawn, so chance cannot be judged")
    reach = float(stats.t.ppf((1 + level) / 2, patients - 1)) * error / value
    return Interval(value, value * float(np.exp(-reach)), value * float(np.exp(reach)))


def _pooled(values: Array, owner: Array, patients: int) -> Array:
    """(N, K) to (P, K), NaN left out."""
    member = owner[None, :] == np.arange(patients)[:, None]
    known = np.isfinite(values)
    return _ratio(member @ np.where(known, values, 0.0), (member @ known.astype(np.float64)))


def _ratio(above: Array, below: Array) -> Array:
    quotient: Array = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return quotient
