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
    error, freedom = _standard_error([_patient_part(sample, patients), *_luck(sample)])
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
    parts = [_patient_part(paired, patients), *_luck(paired), *_luck_of_other_runs(theirs)]
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
    for effect in _effects(sample):
        if effect.variance == 0:
            continue
        key = (seed, 1 + effect.by_run, arm * effect.by_run)
        noise = np.stack([_generator(*key, int(name)).standard_normal(len(moved)) for name in effect.names])
        chance = _generator(*key, 2**31 + effect.freedom).chisquare(effect.freedom, len(moved))
        apart = effect.means - effect.means.mean()
        direction = apart / np.sqrt((apart**2).sum())
        moved = moved + np.sqrt(effect.variance * effect.freedom / chance) * (direction @ noise)
    return moved


def _generator(*key: int) -> np.random.Generator:
    return np.random.default_rng([number + 1 for number in key])  # a run number may be -1


Part = tuple[float, float]
"""An estimated variance, and how uncertain it is: half the variance of that estimate (Satterthwaite's term)."""


@dataclass(frozen=True)
class _Effect:
    """One source of luck, seeds or runs: its levels, their mean scores, and the variance this gives the mean of all."""

    by_run: bool
    names: Array
    means: Array
    variance: float
    doubt: float

    @property
    def freedom(self) -> int:
        return len(self.names) - 1


def _effects(sample: Sample) -> list[_Effect]:
    """Seeds and, where there are several, runs. A seed that belongs to one run carries the luck of both, so the larger
    of the two variances stands for it."""
    effects = [_effect(sample, sample.seeds, by_run=False)]
    if len(np.unique(sample.runs)) > 1:
        effects.append(_effect(sample, sample.runs, by_run=True))
    nested = len(np.unique(sample.seeds)) == len(sample.seeds)
    return [max(effects, key=lambda effect: effect.variance)] if nested else effects


def _effect(sample: Sample, levels: Array, *, by_run: bool) -> _Effect:
    """Variance of the mean from the levels alone.

    Levels also differ because each errs on other patients; the draws show how much, and that share is already in the
    patients' part, so it is taken off here. What is taken off is not known better for it: `doubt` counts the whole.
    """
    names, place = np.unique(levels, return_inverse=True)
    means = np.bincount(place, sample.values) / np.bincount(place)
    if len(names) < 2:
        return _Effect(by_run, names, means, 0.0, 0.0)
    drawn = np.stack([sample.draws[place == level].mean(0) for level in range(len(names))])
    by_patients = float((drawn - drawn.mean(0)).var(axis=1).sum() / (len(names) - 1))
    observed = float(means.var(ddof=1))
    doubt = (observed / len(names)) ** 2 / (len(names) - 1)
    return _Effect(by_run, names, means, max(observed - by_patients, 0.0) / len(names), doubt)


def _patient_part(sample: Sample, patients: int) -> Part:
    variance = float(sample.draws.mean(0).var())
    return variance, variance**2 / (2 * (patients - 1))


def _luck(sample: Sample) -> list[Part]:
    return [(effect.variance, effect.doubt) for effect in _effects(sample)]


def _luck_of_other_runs(theirs: Sample) -> list[Part]:
    """The pre-training runs of the subtracted arm, where pairing by seed averages them away."""
    effects = _effects(theirs)
    return [(effect.variance, effect.doubt) for effect in effects[1:]]


def _standard_error(parts: list[Part]) -> tuple[float, float]:
    """Root of the summed variances and its Welch-Satterthwaite degrees of freedom."""
    total = sum(variance for variance, _ in parts)
    doubt = sum(doubt for _, doubt in parts)
    return float(np.sqrt(total)), max(1.0, total**2 / doubt) if doubt > 0 else np.inf


def _too_few(patients: int) -> str:
    return "" if patients >= FEWEST else f"too few patients: {patients} in the smallest class, {FEWEST} are needed"
