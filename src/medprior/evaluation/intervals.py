"""Intervals for scores that vary with the patients tested, the adaptation seed and the pre-training run.

Three sources of luck are added up, each with its own degrees of freedom:

- patients: how far each moves the score, in strata (`strata`). Every arm and budget is tested on the same patients, so
  that differences are paired by patient;
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
from scipy.special import expit, logit

from medprior.evaluation.luck import NOTHING, Part, Sample, Spread, effects

Array = NDArray[Any]
FEWEST = 10
"""Fewest patients per class for which an interval is given."""
POWER = 0.8
"""Chance of telling a difference that is there, in what is said of the patients it would take."""
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

    `patients` is the number in the smallest class; fewer than `FEWEST` give no interval, as does a sample that says why
    none would be honest. `others` is the spread between seeds of other arms. A perfect score has no spread to work
    with: its lower bound is the chance of success that `patients` successes in a row leave open.
    """
    mean = sample.mean
    if reason := _too_few(patients) or sample.reason:
        return Interval(mean, reason=reason)
    error, freedom = _standard_error([_patient_part(sample, patients), *_luck(sample, others)])
    tail = (1 - level) / 2
    if not STILL < mean < 1 - STILL or error < STILL:
        bound = tail ** (1 / patients)
        return Interval(mean, min(mean, bound), max(mean, 1 - bound))
    reach = stats.t.ppf(1 - tail, freedom) * error / (mean * (1 - mean))
    low, high = expit(logit(mean) + np.array([-reach, reach]))
    return Interval(mean, float(low), float(high))


def difference(
    ours: Sample, theirs: Sample, patients: int, *, level: float = 0.95, others: Spread = NOTHING
) -> Difference:
    """Mean difference of two points of one study, paired by patient and by adaptation seed, within [-1, 1].

    `others` is the spread between seeds of the differences of other arms. Two points that differ by the same amount
    whichever patients are drawn, such as two perfect scores, leave nothing to judge chance by: no interval.
    """
    paired = ours.minus(theirs)
    if reason := _too_few(patients) or paired.reason:
        return Difference(paired.mean, reason=reason)
    parts = [_patient_part(paired, patients), *_luck(paired, others), *_luck_of_other_runs(theirs)]
    error, freedom = _standard_error(parts)
    if reason := _no_spread(ours, theirs, error):
        return Difference(paired.mean, reason=reason)
    reach = stats.t.ppf((1 + level) / 2, freedom) * error
    low, high = np.clip([paired.mean - reach, paired.mean + reach], -1, 1)
    p = 2 * stats.t.sf(abs(paired.mean) / error, freedom)
    return Difference(paired.mean, float(low), float(high), p=float(p))


def patients_needed(
    ours: Sample, theirs: Sample, margin: float, *, level: float = 0.95, others: Spread = NOTHING
) -> float:
    """Test patients, of the same mix, with whom a difference of `margin` would be told with a chance of `POWER`.

    Of n patients the standard error has to be `margin` over the sum of the normal quantiles of level and power. What
    patients add to its square falls as 1 / n, what seeds and runs add stays. Infinite where they alone vary too much.
    """
    paired = ours.minus(theirs)
    allowed = (margin / (stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(POWER))) ** 2
    luck = [*_luck(paired, others), *_luck_of_other_runs(theirs)]
    left = allowed - sum(max(0.0, variance) for variance, _ in luck)
    return float(_patient_variance(paired) * paired.moves.shape[1] / left) if left > 0 else np.inf


def holm(p_values: Array) -> Array:
    """P values corrected for their number (Holm, Scand J Stat 1979); NaN stays and does not count."""
    p_values = np.asarray(p_values, np.float64)
    adjusted = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def _patient_variance(sample: Sample) -> float:
    """Of the mean, as other patients would have made it."""
    return float((sample.by_patient**2).sum())


def _patient_part(sample: Sample, patients: int) -> Part:
    variance = _patient_variance(sample)
    return variance, variance**2 / (2 * (patients - 1))


def _luck(sample: Sample, others: Spread) -> list[Part]:
    return [(effect.variance, effect.doubt) for effect in effects(sample, others)]


def _luck_of_other_runs(theirs: Sample) -> list[Part]:
    """The pre-training runs of the subtracted arm, where pairing by seed averages them away."""
    return _luck(theirs, NOTHING)[1:]


def _standard_error(parts: list[Part]) -> tuple[float, float]:
    """Root of the summed variances, that of patients first, and its Welch-Satterthwaite degrees of freedom.

    Luck that seems to be below none may take back half of what patients vary, not more.
    """
    total = max(sum(variance for variance, _ in parts), parts[0][0] / 2)
    doubt = sum(doubt for _, doubt in parts)
    return float(np.sqrt(total)), max(1.0, total**2 / doubt) if doubt > 0 else np.inf


def _too_few(patients: int) -> str:
    enough = patients >= FEWEST
    return "" if enough else f"the smallest class of the test set has only {patients} patients, too few for an interval"


def _no_spread(ours: Sample, theirs: Sample, error: float) -> str:
    if min(ours.mean, theirs.mean) > 1 - STILL:
        return "both are perfect on these test patients, who cannot show which is better"
    return "it is the same whichever test patients are drawn, so chance cannot be judged" if error < STILL else ""
