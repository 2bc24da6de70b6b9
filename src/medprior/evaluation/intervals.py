"""Intervals for scores that vary with the patients tested, the adaptation seed and the pre-training run.

Three sources of luck are added up, each with its own degrees of freedom:

- patients: a bootstrap of whole patients within their class. Of the n patients of a class n - 1 are drawn, which makes
  the variance of a mean unbiased where the usual n of n is too small (Rao & Wu, JASA 1988). The same draws serve every
  arm and budget, so that differences are paired by patient;
- adaptation seeds and pre-training runs: the variance between them on the real test set, over their number.

The sum gives a Student interval with Welch-Satterthwaite degrees of freedom, on the logit scale for a score and on the
plain scale for a difference. With 3 seeds a bootstrap over seeds would cover far less than it says; this does not.
One seed, or one run, has no variance to estimate: its part is missing, and the verdict has to say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medprior.evaluation.metrics import Kind, one_versus_rest

Array = NDArray[Any]
FEWEST = 10
"""Fewest patients per class for which an interval is given."""


@dataclass(frozen=True)
class Interval:
    """A value with its bounds; both bounds are None, and `reason` says why, where none would be honest."""

    value: float
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference, with the two-sided p value that belongs to its interval (NaN without one)."""

    p: float = float("nan")


@dataclass(frozen=True)
class PatientDraws:
    """How often each patient stands in each replicate: `patients` (P,) sorted names, `counts` (P, R)."""

    patients: Array
    counts: Array

    def weights(self, patients: Array) -> Array:
        """Weights (N, R) of images that belong to `patients` (N,)."""
        drawn: Array = self.counts[np.searchsorted(self.patients, patients)]
        return drawn


def draw_patients(
    patients: Array, targets: Array, kind: Kind, classes: int, *, replicates: int = 1000, seed: int = 0
) -> PatientDraws:
    """Bootstrap draws of the patients of all test images, within strata.

    The stratum of a patient is the rarest class, or positive label, among its images. Arguments are per image:
    `patients` (N,) names and `targets` as in `metrics`. Repeated images (the folds of a repeated study) do no harm.
    """
    names, owner = np.unique(patients, return_inverse=True)
    stratum = _strata(owner, len(names), one_versus_rest(targets, classes, kind))
    rng = np.random.default_rng(seed)
    counts = np.empty((len(names), replicates), np.float32)
    for which in np.unique(stratum):
        members = np.flatnonzero(stratum == which)
        counts[members] = _resampled(len(members), replicates, rng)
    return PatientDraws(names, counts)


def smallest_class(patients: Array, targets: Array, kind: Kind, classes: int) -> Array:
    """Patients on the rarer side of each class or label, (K,): of those who have it, or of those who lack it.

    A patient lacks a label when an image is known to be without it: one patient with many images may do both.
    """
    names, owner = np.unique(patients, return_inverse=True)
    truth = one_versus_rest(targets, classes, kind)
    has, lacks = (np.stack([_owners(owner, column == side, len(names)) for column in truth.T]) for side in (1, 0))
    fewest: Array = np.minimum(has.sum(1), lacks.sum(1))
    return fewest


@dataclass(frozen=True)
class Sample:
    """The scores of one point of a study: one entry per trained model.

    `values` (C,) on the real test patients, `draws` (C, R) on the drawn ones, `seeds` (C,) and `runs` (C,) the
    adaptation seed and pre-training run of each. The patients are the same for every entry.
    """

    values: Array
    draws: Array
    seeds: Array
    runs: Array

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def minus(self, other: Sample) -> Sample:
        """Differences paired by seed: each entry less the mean of `other` at the same seed, or of all where none is."""
        mates = [other.seeds == seed if seed in other.seeds else np.ones(len(other.seeds), bool) for seed in self.seeds]
        values = self.values - np.array([other.values[mate].mean() for mate in mates])
        draws = self.draws - np.stack([other.draws[mate].mean(0) for mate in mates])
        return Sample(values, draws, self.seeds, self.runs)


def interval(sample: Sample, patients: int, *, level: float = 0.95) -> Interval:
    """Interval of a mean score in [0, 1] over patients, seeds and runs, on the logit scale.

    `patients` is the number in the smallest class; fewer than `FEWEST` give no interval. A perfect score has no
    spread to work with: its lower bound is the chance of success that `patients` successes in a row leave open.
    """
    mean = sample.mean
    if reason := _too_few(patients):
        return Interval(mean, reason=reason)
    error, freedom = _standard_error([_patient_part(sample, patients), *_run_parts(sample)])
    tail = (1 - level) / 2
    if mean >= 1 or mean <= 0 or error == 0:
        bound = tail ** (1 / patients)
        return Interval(mean, min(mean, bound), max(mean, 1 - bound))
    reach = stats.t.ppf(1 - tail, freedom) * error / (mean * (1 - mean))
    centre = np.log(mean / (1 - mean))
    low, high = 1 / (1 + np.exp(-(centre + np.array([-reach, reach]))))
    return Interval(mean, float(low), float(high))


def difference(ours: Sample, theirs: Sample, patients: int, *, level: float = 0.95) -> Difference:
    """Mean difference of two points of one study, paired by patient and by adaptation seed."""
    paired = ours.minus(theirs)
    if reason := _too_few(patients):
        return Difference(paired.mean, reason=reason)
    parts = [_patient_part(paired, patients), *_run_parts(paired), *_other_runs(theirs)]
    error, freedom = _standard_error(parts)
    reach = stats.t.ppf((1 + level) / 2, freedom) * error
    p = 2 * stats.t.sf(abs(paired.mean) / error, freedom) if error > 0 else float(paired.mean == 0)
    return Difference(paired.mean, float(paired.mean - reach), float(paired.mean + reach), p=float(p))


def holm(p_values: Array) -> Array:
    """P values corrected for their number (Holm, Scand J Stat 1979); NaN stays and does not count."""
    p_values = np.asarray(p_values, np.float64)
    adjusted = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def total_draws(sample: Sample, *, seed: int, arm: int) -> Array:
    """Draws (R,) of the mean score under all luck at once: drawn patients plus drawn seeds and runs.

    Seeds and runs move by a multivariate Student draw, whose marginal is the usual t interval of their mean. The noise
    of a seed is the same wherever that seed appears, that of a pre-training run wherever the run of this `arm` (a
    number) does, so curves over budgets move as a whole.
    """
    moved: Array = sample.draws.mean(0)
    for identity, levels in _effects(sample):
        effect = _effect(sample, levels)
        if effect.variance == 0:
            continue
        key = (seed, identity, arm * identity)
        noise = np.stack([np.random.default_rng([*key, int(n)]).standard_normal(len(moved)) for n in effect.names])
        chance = np.random.default_rng([*key, 2**31 + effect.freedom]).chisquare(effect.freedom, len(moved))
        apart = effect.means - effect.means.mean()
        direction = apart / np.sqrt((apart**2).sum())
        moved = moved + np.sqrt(effect.variance * effect.freedom / chance) * (direction @ noise)
    return moved


Part = tuple[float, float]
"""An estimated variance, and how uncertain it is: half the variance of that estimate (Satterthwaite's term)."""


@dataclass(frozen=True)
class _Effect:
    """The levels of one source of luck, their mean scores, and the variance this gives the overall mean."""

    names: Array
    means: Array
    variance: float
    doubt: float
    freedom: int


def _effect(sample: Sample, levels: Array) -> _Effect:
    """Variance of the mean from the levels alone.

    Levels also differ because each errs on other patients; the draws show how much, and that share is already in the
    patients' part, so it is taken off here.
    """
    names, place = np.unique(levels, return_inverse=True)
    means = np.bincount(place, sample.values) / np.bincount(place)
    if len(names) < 2:
        return _Effect(names, means, 0.0, 0.0, 1)
    drawn = np.stack([sample.draws[place == level].mean(0) for level in range(len(names))])
    by_patients = (drawn - drawn.mean(0)).var(axis=1).sum() / (len(names) - 1)
    observed, freedom = float(means.var(ddof=1)), len(names) - 1
    variance = max(observed - float(by_patients), 0.0) / len(names)
    return _Effect(names, means, variance, (observed / len(names)) ** 2 / freedom, freedom)


def _patient_part(sample: Sample, patients: int) -> Part:
    variance = float(sample.draws.mean(0).var())
    return variance, variance**2 / (2 * (patients - 1))


def _run_parts(sample: Sample) -> list[Part]:
    return [(effect.variance, effect.doubt) for effect in (_effect(sample, levels) for _, levels in _effects(sample))]


def _other_runs(theirs: Sample) -> list[Part]:
    """The pre-training runs of the subtracted arm, which pairing by seed averages away."""
    if len(_effects(theirs)) < 2:
        return []
    effect = _effect(theirs, theirs.runs)
    return [(effect.variance, effect.doubt)]


def _effects(sample: Sample) -> list[tuple[int, Array]]:
    """What varies between entries: (0, seeds) and (1, runs) when crossed; the runs alone when seeds nest in them."""
    pairs = {(int(seed), int(run)) for seed, run in zip(sample.seeds, sample.runs, strict=True)}
    if len(set(sample.runs.tolist())) < 2:
        return [(0, sample.seeds)]
    if len(pairs) == len(set(sample.seeds.tolist())):
        return [(1, sample.runs)]
    return [(0, sample.seeds), (1, sample.runs)]


def _standard_error(parts: list[Part]) -> tuple[float, float]:
    """Root of the summed variances and its Welch-Satterthwaite degrees of freedom."""
    total = sum(variance for variance, _ in parts)
    doubt = sum(doubt for _, doubt in parts)
    return float(np.sqrt(total)), max(1.0, total**2 / doubt) if doubt > 0 else np.inf


def _too_few(patients: int) -> str:
    return "" if patients >= FEWEST else f"too few patients: {patients} in the smallest class, {FEWEST} are needed"


def _strata(owner: Array, patients: int, truth: Array) -> Array:
    """The rarest class of each patient (-1: none), by how many patients have it; strata of one join the rest."""
    has = np.stack([_owners(owner, column == 1, patients) for column in truth.T])
    stratum = np.full(patients, -1)
    for label in np.argsort(-has.sum(1), kind="stable"):
        stratum[has[label]] = label
    lone = np.bincount(stratum + 1, minlength=len(has) + 1) == 1
    stratum[lone[stratum + 1]] = -1
    return stratum


def _owners(owner: Array, images: Array, patients: int) -> Array:
    flags = np.zeros(patients, bool)
    flags[owner[images]] = True
    return flags


def _resampled(size: int, replicates: int, rng: np.random.Generator) -> Array:
    """Counts (size, R) of `size - 1` draws, scaled to sum to `size`; one member stands in every replicate."""
    if size == 1:
        return np.ones((1, replicates))
    drawn = rng.integers(0, size, (size - 1, replicates)) * replicates + np.arange(replicates)
    counts = np.bincount(drawn.ravel(), minlength=size * replicates).reshape(size, replicates)
    return counts * (size / (size - 1))
