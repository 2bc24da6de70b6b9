"""How trained models score within groups of the test patients, and whether one group fares worse than the rest.

A group is scored as the whole test set is, on its own images: the same metric, strata and luck of seeds. It is held
against the rest, all other images whose group is known, on the classes that both can measure; models are paired with
themselves, and a patient with images on both sides counts on both, so that what they share falls away.

Several groups are compared: p values are corrected for their number (Holm). The worst group is picked after the fact,
so its interval is widened for all that it was picked from (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medprior.evaluation.intervals import Array, Difference, Interval, difference, holm, interval
from medprior.evaluation.luck import NOTHING, Sample, Spread
from medprior.evaluation.strata import Strata, over_folds, thin_folds
from medprior.evaluation.yardstick import Yardstick

FEWEST_IN_FOLD = 3
"""Fewest patients of the smallest class in the average fold: with one or two, how folds differ cannot be told."""
ONE_CLASS = "some class is not among its test patients"


@dataclass(frozen=True)
class Fold:
    """Predictions on the test images of one fold, one entry per image; `member` is its group, -1: unknown."""

    rows: Array
    scores: Array
    targets: Array
    patients: Array
    member: Array

    def __len__(self) -> int:
        return len(self.member)

    def take(self, chosen: Array) -> Fold:
        """Some of the images."""
        return Fold(*(part[chosen] for part in vars(self).values()))


@dataclass(frozen=True)
class Model:
    """One adaptation seed and pre-training run, over all folds of the study."""

    seed: int
    run: int
    folds: tuple[Fold, ...]

    @property
    def test(self) -> Fold:
        """All folds as one; repeated images stand in it repeatedly."""
        return Fold(*(np.concatenate(parts) for parts in zip(*(vars(one).values() for one in self.folds), strict=True)))


def luck_of(models: Sequence[Model]) -> tuple[Array, Array]:
    """The adaptation seed and the pre-training run of each model, (C,) both, as a `Sample` has them."""
    seeds, runs = (np.array([getattr(model, name) for model in models]) for name in ("seed", "run"))
    return seeds, runs


@dataclass(frozen=True)
class GroupScore:
    """A group under one arm at one budget.

    Attributes:
        group: its number.
        inside, apart: scores within the group, and what they are above those of the rest.
        patients, images: distinct ones of the test set.
        smallest, smallest_apart: patients in the smallest class of the group, and of the poorer side of the comparison.
        reason: why there is no interval, besides too few patients.
        others, others_apart: how the seeds of other arms spread (`luck`).
    """

    group: int
    inside: Sample
    apart: Sample
    patients: int
    images: int
    smallest: int
    smallest_apart: int
    reason: str = ""
    others: Spread = NOTHING
    others_apart: Spread = NOTHING

    def score(self, level: float = 0.95) -> Interval:
        """Mean and interval within the group."""
        if self.reason or not np.isfinite(self.inside.mean):
            return Interval(self.inside.mean, reason=self.reason or ONE_CLASS)
        return interval(self.inside, self.smallest, level=level, others=self.others)

    def difference(self, level: float = 0.95) -> Difference:
        """The group less the rest."""
        if self.reason or not np.isfinite(self.apart.mean):
            return Difference(self.apart.mean, reason=self.reason or ONE_CLASS)
        return difference(self.apart, nil(self.apart), self.smallest_apart, level=level, others=self.others_apart)


def group_scores(
    models: Sequence[Model], groups: int, metric: str, yardstick: Yardstick, counted: Array
) -> list[GroupScore]:
    """The groups 0 to `groups` - 1 that have test images, of the models of one arm at one budget.

    `counted` (K,) are the classes that count in the mean of the whole study.
    """
    test = models[0].test
    present = [group for group in range(groups) if (test.member == group).any()]
    sides = {group: _Sides(models, test, group, metric, yardstick, counted) for group in present}
    inside = {group: side.sample(inside=True) for group, side in sides.items()}
    if len(present) == 2:  # each is the other's rest
        return [sides[group].scored(inside[group], inside[other]) for group, other in (present, present[::-1])]
    return [side.scored(inside[group], side.sample(inside=False)) for group, side in sides.items()]


def comparisons(scores: Sequence[GroupScore]) -> int:
    """How many there are to correct for: of two groups, one against the rest is the other's turned round."""
    return 1 if len(scores) == 2 else len(scores)


def corrected(scores: Sequence[GroupScore]) -> Array:
    """(G,) p values of the differences, by Holm over the groups; NaN without an interval."""
    found = np.array([one.difference().p for one in scores])
    return found if len(scores) == 2 else holm(found)


def worst(scores: Sequence[GroupScore]) -> GroupScore | None:
    """The group that lies furthest below the rest, of those with an interval."""
    judged = [one for one in scores if one.difference().low is not None]
    return min(judged, key=lambda one: one.apart.mean, default=None)


def shared_patients(member: Array, patients: Array) -> int:
    """Patients whose images stand in several groups; `member` (N,) is the group of each image, -1: unknown."""
    pairs = np.unique(np.stack([np.unique(patients, return_inverse=True)[1], member])[:, member >= 0], axis=1)
    return int((np.bincount(pairs[0]) > 1).sum()) if pairs.size else 0


def nil(sample: Sample) -> Sample:
    """Nothing, of the same models: what a paired difference is held against."""
    return Sample(np.zeros_like(sample.values), np.zeros_like(sample.moves), sample.seeds, sample.runs)


@dataclass(frozen=True)
class _Sides:
    """A group and the rest, of the models of one arm at one budget; `test` is the whole test set."""

    models: Sequence[Model]
    test: Fold
    group: int
    metric: str
    yardstick: Yardstick
    counted: Array

    @cached_property
    def fewest(self) -> tuple[Array, Array]:
        """(K,) patients on the rarer side of each class, in the group and in the rest."""
        ours, theirs = (self.test.take(_on_side(self.test, self.group, inside)) for inside in (True, False))
        smallest = self.yardstick.smallest
        return smallest(ours.patients, ours.targets), smallest(theirs.patients, theirs.targets)

    @cached_property
    def keep(self) -> Array:
        """(K,) classes that count and that both can measure."""
        both: Array = self.counted & self.yardstick.keep(np.minimum(*self.fewest))
        return both

    def scored(self, inside: Sample, rest: Sample) -> GroupScore:
        """The group, from its scores and those of the rest."""
        ours = self.test.take(self.test.member == self.group)
        apart = Sample(inside.values - rest.values, inside.moves - rest.moves, inside.seeds, inside.runs)
        least = [int(found[self.keep].min()) if self.keep.any() else 0 for found in self.fewest]
        patients, images = len(np.unique(ours.patients)), len(np.unique(ours.rows))
        return GroupScore(self.group, inside, apart, patients, images, least[0], min(least), self._thin())

    def sample(self, *, inside: bool) -> Sample:
        """The scores of one side, and how far every patient of the test set moves them."""
        side = self.test.take(_on_side(self.test, self.group, inside))
        everyone = np.unique(self.test.patients)
        seeds, runs = luck_of(self.models)
        moves = np.zeros((len(self.models), len(everyone)))
        if not len(side):
            return Sample(np.full(len(self.models), np.nan), moves, seeds, runs)
        strata = self.yardstick.strata(side.patients, side.targets)
        found = [self._one(model, inside, strata) for model in self.models]
        moves[:, np.searchsorted(everyone, strata.patients)] = np.stack([moved for _, moved in found])
        return Sample(np.array([value for value, _ in found]), moves, seeds, runs)

    def _one(self, model: Model, inside: bool, strata: Strata) -> tuple[float, Array]:
        """The mean over folds that can be scored, and how far the patients of this side move it."""
        parts = [fold.take(_on_side(fold, self.group, inside)) for fold in model.folds]
        estimate = self.yardstick.estimate
        scored = [
            (part.patients, estimate(self.metric, part.scores, part.targets, part.patients, self.keep))
            for part in parts
            if len(part)
        ]
        return over_folds(strata, scored)

    def _thin(self) -> str:
        """Why folds hold too few of the group for an interval, or ""."""
        folds = self.models[0].folds
        if len(folds) == 1 or not self.keep.any():
            return ""
        parts = [fold.take(fold.member == self.group) for fold in folds]
        smallest = self.yardstick.smallest
        found = [int(smallest(part.patients, part.targets)[self.keep].min()) if len(part) else 0 for part in parts]
        return thin_folds(found, FEWEST_IN_FOLD)


def _on_side(fold: Fold, group: int, inside: bool) -> Array:
    chosen: Array = fold.member == group if inside else (fold.member >= 0) & (fold.member != group)
    return chosen
