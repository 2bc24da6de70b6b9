"""A shortcut audit: can a column (site, scanner, sex) be read from the images, does it go with the label, and how much
of a score stands between its groups instead of within them?

A model may have learnt the column in place of the finding only where all three hold; each alone is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from medprior.evaluation.intervals import FEWEST, Array, Difference, Interval, difference, interval
from medprior.evaluation.luck import Sample
from medprior.evaluation.measures import Estimate
from medprior.evaluation.metrics import Kind, estimate, one_versus_rest
from medprior.evaluation.probes import linear_probe
from medprior.evaluation.strata import Strata, over_folds, smallest_class, strata_of
from medprior.evaluation.subgroups import Fold, Model, luck_of, nil
from medprior.evaluation.yardstick import Yardstick

MOST_IMAGES = 5000
"""More are not read from: of larger cohorts whole patients are drawn."""
FEWEST_WITHIN = 2
"""Fewest patients of the smallest class in a fold for a group to be scored within it."""
DRAWS = 9999
_EXPECTED = 5.0


@dataclass(frozen=True)
class Reading:
    """How well a column can be read from embeddings: `auroc` over patients, of its `groups` with patients enough."""

    auroc: Interval
    groups: int
    patients: int


@dataclass(frozen=True)
class Association:
    """How a column goes with the label, by patient: Cramer's V (0 none, 1 fully) and its p value; NaN without both."""

    strength: float
    p: float


@dataclass(frozen=True)
class Within:
    """A pooled score, its mean within groups weighted by their patients, and what it loses by that.

    `alone` says that no group has test patients enough of every class: nothing can be measured within.
    """

    pooled: float
    within: float
    lost: Difference
    alone: bool = False


def readable(features: Array, member: Array, patients: Array, *, seed: int = 0) -> Reading:
    """How well a linear probe on frozen features (N, D) tells the group `member` (N,) of images of patients it has not
    seen; -1 is unknown, and groups of fewer than `FEWEST` patients count as unknown.

    Predictions are cross-validated by patient. Of several groups the mean of each against the rest.
    """
    chosen, group, groups = _large_groups(member, patients)
    if groups < 2:
        return Reading(Interval(float("nan"), reason="fewer than two groups have patients enough"), groups, 0)
    chosen, group = _drawn(chosen, group, patients, seed)
    people, kind = patients[chosen], _kind(groups)
    said = linear_probe(features[chosen], group, people, kind, groups, seed=seed).out_of_fold
    if not np.isfinite(said).all():
        return Reading(Interval(float("nan"), reason="too few patients to hold some back"), groups, 0)
    found = estimate("auroc", said, group, kind)
    moves = strata_of(people, group, kind, groups).spread(people, found.pulls)
    smallest = int(smallest_class(people, group, kind, groups).min())
    sample = Sample(np.array([found.value]), moves[None], np.zeros(1), np.zeros(1))
    return Reading(interval(sample, smallest), groups, len(np.unique(people)))


def association(member: Array, targets: Array, patients: Array, kind: Kind, classes: int) -> Association:
    """Whether patients of some groups have a class or label more often, by the chi-square test of independence.

    A patient counts once, in the group of its first known image, and has a label when any image has it. Where few
    patients are expected somewhere, tables are drawn instead. Of several labels the clearest counts, corrected for
    their number.
    """
    columns = [1] if kind == "binary" else range(classes)
    truth = one_versus_rest(targets, classes, kind)[:, columns]
    known = (member >= 0) & np.isfinite(truth).any(1)
    _, first, owner = np.unique(patients[known], return_index=True, return_inverse=True)
    group = member[known][first]
    tables = [_table(group, *_has(owner, len(first), label)) for label in truth[known].T]
    found = [_associated(table) for table in tables if min(table.shape) > 1]
    if not found:
        return Association(float("nan"), float("nan"))
    clearest = min(found, key=lambda one: (one.p, -one.strength))
    return Association(clearest.strength, min(1.0, clearest.p * len(found)))


def scored_within(model: Model, yardstick: Yardstick, counted: Array) -> Array:
    """(K,) the classes of `counted` that every group of at least `FEWEST` patients can measure; all if there are none.

    Of several labels the rare ones would leave no group to score within.
    """
    test = model.test
    _, _, groups = _large_groups(test.member, test.patients)
    kept = np.array(counted)
    for group in np.unique(test.member[test.member >= 0]):
        part = test.take(test.member == group)
        if groups and len(np.unique(part.patients)) >= FEWEST:
            kept &= yardstick.smallest(part.patients, part.targets) >= FEWEST_WITHIN * len(model.folds)
    return kept if kept.any() else counted


def within_groups(models: Sequence[Model], metric: str, yardstick: Yardstick, counted: Array) -> Within:
    """How much of a score is lost when images are compared with those of their own group alone.

    A group counts in the folds where it has `FEWEST_WITHIN` patients of every class that counts; the pooled score is
    that of the same images. Means over folds; both scores are linear in how far images pull them, so the interval of
    their difference is paired by image.
    """
    test = models[0].test
    strata = yardstick.strata(test.patients, test.targets)
    found = [
        [one for fold in model.folds if (one := _fold_within(fold, metric, yardstick, counted))] for model in models
    ]
    if not found[0]:  # the same for all: they are tested on the same images
        return Within(float("nan"), float("nan"), Difference(float("nan"), reason="no group has every class"), True)
    pooled = _sample(models, strata, [[(one.patients, one.pooled) for one in folds] for folds in found])
    within = _sample(models, strata, [[(one.patients, one.within) for one in folds] for folds in found])
    sample = Sample(pooled.values - within.values, pooled.moves - within.moves, pooled.seeds, pooled.runs)
    used = np.isin(test.patients, np.concatenate([one.patients for folds in found for one in folds]))
    smallest = yardstick.smallest(test.patients[used], test.targets[used])[counted]
    return Within(pooled.mean, within.mean, difference(sample, nil(sample), int(smallest.min())))


def _sample(models: Sequence[Model], strata: Strata, scored: Sequence[Sequence[tuple[Array, Estimate]]]) -> Sample:
    """The scores of models over their folds, see `over_folds`."""
    values, moves = zip(*(over_folds(strata, folds) for folds in scored), strict=True)
    return Sample(np.array(values), np.stack(moves), *luck_of(models))


@dataclass(frozen=True)
class _FoldWithin:
    """Of one fold the patient of each image, (N,), the pooled score, and the mean of those within groups."""

    patients: Array
    pooled: Estimate
    within: Estimate


def _fold_within(fold: Fold, metric: str, yardstick: Yardstick, counted: Array) -> _FoldWithin | None:
    """None where no group has patients enough of every class."""
    groups = [group for group in np.unique(fold.member[fold.member >= 0]) if _enough(fold, group, yardstick, counted)]
    if not groups:
        return None
    fold = fold.take(np.isin(fold.member, groups))
    whole = yardstick.estimate(metric, fold.scores, fold.targets, fold.patients, counted)
    sizes = np.array([len(np.unique(fold.patients[fold.member == group])) for group in groups], np.float64)
    value, pulls = 0.0, np.zeros(len(fold))
    for group, share in zip(groups, sizes / sizes.sum(), strict=True):
        part = fold.take(fold.member == group)
        one = yardstick.estimate(metric, part.scores, part.targets, part.patients, counted)
        value += share * one.value
        pulls[fold.member == group] = share * one.pulls
    return _FoldWithin(fold.patients, whole, Estimate(value, pulls))


def _enough(fold: Fold, group: int, yardstick: Yardstick, counted: Array) -> bool:
    part = fold.take(fold.member == group)
    return bool(counted.any() and yardstick.smallest(part.patients, part.targets)[counted].min() >= FEWEST_WITHIN)


def _kind(groups: int) -> Kind:
    return "binary" if groups == 2 else "multiclass"


def _large_groups(member: Array, patients: Array) -> tuple[Array, Array, int]:
    """Images whose group has patients enough, the group of each as a number without gaps, and how many there are."""
    large = [g for g in np.unique(member[member >= 0]) if len(np.unique(patients[member == g])) >= FEWEST]
    chosen = np.flatnonzero(np.isin(member, large))
    return chosen, np.searchsorted(large, member[chosen]), len(large)


def _drawn(chosen: Array, group: Array, patients: Array, seed: int) -> tuple[Array, Array]:
    """Images of whole patients, at most `MOST_IMAGES` of them or so."""
    if len(chosen) <= MOST_IMAGES:
        return chosen, group
    names, owner, counts = np.unique(patients[chosen], return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    kept = np.isin(owner, order[np.cumsum(counts[order]) <= MOST_IMAGES])
    return chosen[kept], group[kept]


def _has(owner: Array, patients: int, label: Array) -> tuple[Array, Array]:
    """(P,) whether a patient has a label, and whether that is known."""
    has, known = np.zeros(patients, bool), np.zeros(patients, bool)
    has[owner[label == 1]] = True
    known[owner[np.isfinite(label)]] = True
    return has, known


def _table(group: Array, has: Array, known: Array) -> Array:
    """Counts of patients, groups by (without, with), of the rows and columns that hold any."""
    table = np.zeros((int(group.max()) + 1, 2), np.int64)
    np.add.at(table, (group[known], has[known].astype(int)), 1)
    filled: Array = table[table.sum(1) > 0][:, table.sum(0) > 0]
    return filled


def _associated(table: Array) -> Association:
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    square = float(((table - expected) ** 2 / expected).sum())
    strength = float(np.sqrt(square / table.sum() / (min(table.shape) - 1)))
    if expected.min() >= _EXPECTED:
        return Association(strength, float(stats.chi2.sf(square, (table.shape[0] - 1) * (table.shape[1] - 1))))
    drawn = stats.random_table(table.sum(1), table.sum(0)).rvs(DRAWS, random_state=0)
    as_far = (((drawn - expected) ** 2 / expected).sum((1, 2)) >= square - 1e-9).sum()
    return Association(strength, float((1 + as_far) / (1 + DRAWS)))
