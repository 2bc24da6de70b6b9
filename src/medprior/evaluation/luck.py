"""The luck of adaptation seeds and pre-training runs: how much it moves a score, and how well that is known.

Two or three seeds say little about their own spread, but all arms of a study are trained with the same seeds by the
same recipe. So the variance between the seeds of one arm is moderated by that of the others (Smyth, Stat Appl Genet
Mol Biol 2004): both are averaged by their degrees of freedom, which then add up. Arms are not alike, so the others
count for `BORROWED` degrees at most, however many they are. Few labels bring more luck than many: the others are
those at the same budget or those of the whole study, whichever vary more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BORROWED = 4
"""Most degrees of freedom that other arms lend: where seed variances differ twofold, 95% intervals still cover 90%."""

Part = tuple[float, float]
"""An estimated variance, and how uncertain it is: half the variance of that estimate (Satterthwaite's term)."""


@dataclass(frozen=True)
class Sample:
    """The scores of one point of a study: one entry per trained model.

    `values` (C,) are the scores, `moves` (C, P) how far each of the test patients moves them (`Strata.spread`), `seeds`
    (C,) and `runs` (C,) the adaptation seed and pre-training run of each. The patients are the same for every entry.
    `reason` says why no interval would be honest, or "".
    """

    values: Array
    moves: Array
    seeds: Array
    runs: Array
    reason: str = ""

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def by_patient(self) -> Array:
        """How far each patient moves the mean, (P,)."""
        moved: Array = self.moves.mean(0)
        return moved

    def minus(self, other: Sample) -> Sample:
        """Differences paired by seed: each entry less the mean of `other` at the same seed, or of all where none is."""
        mates = [other.seeds == seed if seed in other.seeds else np.ones(len(other.seeds), bool) for seed in self.seeds]
        values = self.values - np.array([other.values[mate].mean() for mate in mates])
        moves = self.moves - np.stack([other.moves[mate].mean(0) for mate in mates])
        return Sample(values, moves, self.seeds, self.runs, self.reason or other.reason)

    def towards(self, other: Sample, share: float) -> Sample:
        """A point between two budgets of one arm: `share` of `other`, the rest of this, seed by seed."""
        both = np.intersect1d(self.seeds, other.seeds)
        if not len(both):
            return self if share < 0.5 else other
        own, its = ([int(np.flatnonzero(one.seeds == seed)[0]) for seed in both] for one in (self, other))
        values = (1 - share) * self.values[own] + share * other.values[its]
        moves = (1 - share) * self.moves[own] + share * other.moves[its]
        return Sample(values, moves, self.seeds[own], self.runs[own], self.reason or other.reason)


@dataclass(frozen=True)
class Spread:
    """Variance between levels: as `observed`, what patients explain of it, and the degrees of freedom it rests on."""

    observed: float = 0.0
    by_patients: float = 0.0
    freedom: float = 0.0

    def moderated(self, others: Spread) -> Spread:
        """The average with `others`, weighted by degrees of freedom; one level alone has no spread and keeps none."""
        borrowed = min(others.freedom, BORROWED)
        if self.freedom == 0 or borrowed == 0:
            return self
        return _average([self, others], [self.freedom, borrowed])


NOTHING = Spread()


def pooled(spreads: Sequence[Spread], *, freedom: float | None = None) -> Spread:
    """One spread of many, weighted by their degrees of freedom, which add up unless `freedom` says how many they are
    (spreads that share data)."""
    counted = [one for one in spreads if one.freedom > 0]
    if not counted:
        return NOTHING
    together = _average(counted, [one.freedom for one in counted])
    return together if freedom is None else Spread(together.observed, together.by_patients, freedom)


def lent(here: Spread, everywhere: Spread) -> Spread:
    """What others lend: those at the same budget or all, whichever vary more. Where there are none at the same budget,
    the rest of the study may be much calmer, and counts for one degree of freedom only."""
    if here.freedom == 0:
        return replace(everywhere, freedom=min(everywhere.freedom, 1))
    return max(here, everywhere, key=lambda one: one.observed - one.by_patients)


def together(one: Spread, other: Spread) -> Spread:
    """The spread of a difference of two that have no luck in common."""
    if not (one.freedom and other.freedom):
        return NOTHING
    luck = sum(max(0.0, each.observed - each.by_patients) for each in (one, other))
    return Spread(luck, 0.0, min(one.freedom, other.freedom))


def seed_spread(sample: Sample) -> Spread:
    """How much the adaptation seeds of a sample differ."""
    return _spread(sample, *_levels(sample, sample.seeds)[1:])


@dataclass(frozen=True)
class Effect:
    """One source of luck, seeds or runs: its levels, their mean scores, and the spread between them.

    Levels also differ because each errs on other patients; their moves show how much, and that share is already in the
    patients' part, so it is taken off here. What is taken off is not known better for it: `doubt` counts the whole.
    """

    by_run: bool
    names: Array
    means: Array
    spread: Spread

    @property
    def variance(self) -> float:
        """What this luck adds to the variance of the mean of all levels; below 0 where chance made the levels alike.

        To put 0 there would make every interval of a calm study too wide.
        """
        return (self.spread.observed - self.spread.by_patients) / len(self.names)

    @property
    def doubt(self) -> float:
        return (self.spread.observed / len(self.names)) ** 2 / self.spread.freedom if self.spread.freedom else 0.0


def effects(sample: Sample, others: Spread = NOTHING) -> list[Effect]:
    """Seeds, moderated by `others`, and runs where there are several.

    A seed that belongs to one run carries the luck of both, so the larger of the two variances stands for it.
    """
    found = [_effect(sample, sample.seeds, others, by_run=False)]
    if len(np.unique(sample.runs)) > 1:
        found.append(_effect(sample, sample.runs, NOTHING, by_run=True))
    nested = len(np.unique(sample.seeds)) == len(sample.seeds)
    return [max(found, key=lambda effect: effect.variance)] if nested else found


def _effect(sample: Sample, levels: Array, others: Spread, *, by_run: bool) -> Effect:
    names, place, means = _levels(sample, levels)
    return Effect(by_run, names, means, _spread(sample, place, means).moderated(others))


def _levels(sample: Sample, levels: Array) -> tuple[Array, Array, Array]:
    names, place = np.unique(levels, return_inverse=True)
    return names, place, np.bincount(place, sample.values) / np.bincount(place)


def _spread(sample: Sample, place: Array, means: Array) -> Spread:
    freedom = len(means) - 1
    if freedom == 0:
        return NOTHING
    moved = np.stack([sample.moves[place == level].mean(0) for level in range(len(means))])
    by_patients = float(((moved - moved.mean(0)) ** 2).sum() / freedom)
    return Spread(float(means.var(ddof=1)), by_patients, freedom)


def _average(spreads: Sequence[Spread], weights: Sequence[float]) -> Spread:
    observed = float(np.average([one.observed for one in spreads], weights=weights))
    by_patients = float(np.average([one.by_patients for one in spreads], weights=weights))
    return Spread(observed, by_patients, float(sum(weights)))
