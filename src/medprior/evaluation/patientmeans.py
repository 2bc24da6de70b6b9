"""Means over patients of what was measured class by class, with intervals.

A mean is taken over the patients who have a value in a class, then over the classes, so that a class of few patients
counts as much as any. Patients stand in `strata`, by the rarest class that their truth holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.evaluation import intervals, measures
from medprior.evaluation.intervals import FEWEST, STILL, Interval
from medprior.evaluation.luck import Sample
from medprior.evaluation.measures import Estimate
from medprior.evaluation.segmentation import Metric, Scores
from medprior.evaluation.strata import Strata, strata_of

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


def strata(scores: Scores) -> Strata:
    """The strata of the P patients of scores (P, K), named 0 to P - 1; they depend on the truth alone."""
    count, classes = scores.present.shape
    return strata_of(np.arange(count), scores.present.astype(np.float64), "multilabel", classes)


def estimate(values: Array) -> Estimate:
    """The mean over patients of values (P, K), then over classes, with the pull of every patient.

    Values are NaN where a patient has none; a class without any does not count.
    """
    known = np.isfinite(values)
    columns = zip(np.where(known, values, 0.0).T, known.T.astype(np.float64), strict=True)
    parts = [measures.ratio(column, counted, np.ones(len(values))) for column, counted in columns]
    return measures.average(parts, len(values))


def mean(values: Array) -> float:
    """The mean over patients of values (P, K), then over classes; NaN where there is none."""
    return estimate(values).value


def patient_interval(scores: Scores, metric: Metric, *, label: int | None = None, level: float = 0.95) -> Interval:
    """The mean of one model's scores (P, K) over patients and classes, and its interval over patients.

    Dice and surface Dice have the intervals that `intervals.interval` gives one model; HD95, which has no upper limit,
    a Student interval on the log scale. No interval where the rarest class has too few patients.

    Args:
        label: one class, from 1; all of them where it is not given.
    """
    values = scores.of(metric) if label is None else scores.of(metric)[:, label - 1 : label]
    fewest = int(np.isfinite(values).sum(0).min())
    found = estimate(values)
    moves = strata(scores).spread(np.arange(len(values)), found.pulls)
    if metric == "hd95":
        return _above_zero(found.value, float(np.linalg.norm(moves)), fewest, level)
    one = np.zeros(1, np.int64)
    return intervals.interval(Sample(np.array([found.value]), moves[None], one, one - 1), fewest, level=level)


def _above_zero(value: float, error: float, patients: int, level: float) -> Interval:
    from scipy import stats

    if patients < FEWEST:
        reason = f"only {patients} patients have a value in the rarest class, too few for an interval"
        return Interval(value, reason=reason)
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
