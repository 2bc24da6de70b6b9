"""Intervals for scores that vary with the patients tested, the adaptation seed and the pre-training run.

Three sources of luck are added up, each with its own degrees of freedom:

- patients: a bootstrap of whole patients within their class. Of the n patients of a class n - 1 are drawn, which makes
  the variance of a mean unbiased where the usual n of n is too small (Rao & Wu, JASA 1988). The same draws serve every
  arm and budget, so that differences are paired by patient;
- adaptation seeds and pre-training runs: the variance between them on the real test set, over their number.

The sum gives a Student interval with Welch-Satterthwaite degrees of freedom, on the logit scale for a score and on the
plain scale for a difference. With 3 seeds a bootstrap over seeds would cover far less than it says; this does not.
The luck that the seeds of other arms show can be lent to it (see `luck`); without that, 2 seeds say next to nothing.
One seed, or one run, has no variance to estimate: its part is missing, and the verdict has to say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medprior.evaluation.luck import NOTHING, Part, Sample, Spread, effects

Array = NDArray[Any]
FEWEST = 10
"""Fewest patients per class for which an interval is given."""
STILL = 1e-6
"""A spread below this is rounding: nothing varies."""


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


def interval(sample: Sample, patients: int, *, level: float = 0.95, others: Spread = NOTHING) -> Interval:
    """Interval of a mean score in [0, 1] over patients, seeds and runs, on the logit scale.

    `patients` is the number in the smallest class; fewer than `FEWEST` give no interval. `others` is the spread between
    seeds of other arms. A perfect score has no spread to work with: its lower bound is the chance of success that
    `patients` successes in a row leave open.
    """
    mean = sample.mean
    if reason := _too_few(patients):
        return Interval(mean, reason=reason)
    error, freedom = _standard_error([_patient_part(sample, patients), *_luck(sample, others)])
    tail = (1 - level) / 2
    if not STILL < mean < 1 - STILL or error < STILL:
        bound = tail ** (1 / patients)
        return Interval(mean, min(mean, bound), max(mean, 1 - bound))
    reach = stats.t.ppf(1 - tail, freedom) * error / (mean * (1 - mean))
    centre = np.log(mean / (1 - mean))
    low, high = 1 / (1 + np.exp(-(centre + np.array([-reach, reach]))))
    return Interval(mean, float(low), float(high))


def difference(
    ours: Sample, theirs: Sample, patients: int, *, level: float = 0.95, others: Spread = NOTHING
) -> Difference:
    """Mean difference of two points of one study, paired by patient and by adaptation seed, within [-1, 1].

    `others` is the spread between seeds of the differences of other arms. Two points that differ by the same amount
    whichever patients are drawn, such as two perfect scores, leave nothing to judge chance by: no interval.
    """
    paired = ours.minus(theirs)
    if reason := _too_few(patients):
        return Difference(paired.mean, reason=reason)
    parts = [_patient_part(paired, patients), *_luck(paired, others), *_luck_of_other_runs(theirs)]
    error, freedom = _standard_error(parts)
    if reason := _no_spread(ours, theirs, error):
        return Difference(paired.mean, reason=reason)
    reach = stats.t.ppf((1 + level) / 2, freedom) * error
    low, high = np.clip([paired.mean - reach, paired.mean + reach], -1, 1)
    p = 2 * stats.t.sf(abs(paired.mean) / error, freedom)
    return Difference(paired.mean, float(low), float(high), p=float(p))


def holm(p_values: Array) -> Array:
    """P values corrected for their number (Holm, Scand J Stat 1979); NaN stays and does not count."""
    p_values = np.asarray(p_values, np.float64)
    adjusted = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def total_draws(sample: Sample, *, seed: int, arm: int, others: Spread = NOTHING) -> Array:
    """Draws (R,) of the mean score under all luck at once: drawn patients plus drawn seeds and runs.

    Seeds and runs move by a multivariate Student draw, whose marginal is the usual t interval of their mean. The noise
    of a seed is the same wherever that seed appears, that of a pre-training run wherever the run of this `arm` (a
    number) does, so curves over budgets move as a whole.
    """
    moved: Array = sample.draws.mean(0)
    for effect in effects(sample, others):
        if effect.variance == 0:
            continue
        freedom = effect.spread.freedom
        key = (seed, 1 + effect.by_run, arm * effect.by_run)
        noise = np.stack([_generator(*key, int(name)).standard_normal(len(moved)) for name in effect.names])
        chance = _generator(*key, 2**31 + round(freedom)).chisquare(freedom, len(moved))
        scale = np.sqrt(effect.variance * freedom / chance)
        moved = moved + scale * (_direction(effect.means - effect.means.mean()) @ noise)
    return moved


def _direction(apart: Array) -> Array:
    """Which seeds pull which way, as a unit vector; levels that agree by chance all pull alike."""
    size = np.linalg.norm(apart)
    return np.asarray(apart / size if size > 0 else np.full(len(apart), len(apart) ** -0.5))


def _generator(*key: int) -> np.random.Generator:
    return np.random.default_rng([number + 1 for number in key])  # a run number may be -1


def _patient_part(sample: Sample, patients: int) -> Part:
    variance = float(sample.draws.mean(0).var())
    return variance, variance**2 / (2 * (patients - 1))


def _luck(sample: Sample, others: Spread) -> list[Part]:
    return [(effect.variance, effect.doubt) for effect in effects(sample, others)]


def _luck_of_other_runs(theirs: Sample) -> list[Part]:
    """The pre-training runs of the subtracted arm, where pairing by seed averages them away."""
    return _luck(theirs, NOTHING)[1:]


def _standard_error(parts: list[Part]) -> tuple[float, float]:
    """Root of the summed variances and its Welch-Satterthwaite degrees of freedom."""
    total = sum(variance for variance, _ in parts)
    doubt = sum(doubt for _, doubt in parts)
    return float(np.sqrt(total)), max(1.0, total**2 / doubt) if doubt > 0 else np.inf


def _too_few(patients: int) -> str:
    enough = patients >= FEWEST
    return "" if enough else f"the smallest class of the test set has only {patients} patients, too few for an interval"


def _no_spread(ours: Sample, theirs: Sample, error: float) -> str:
    if min(ours.mean, theirs.mean) > 1 - STILL:
        return "both are perfect on these test patients, who cannot show which is better"
    return "it is the same whichever test patients are drawn, so chance cannot be judged" if error < STILL else ""
