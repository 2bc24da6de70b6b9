"""The intervals of a batch of studies: what `Findings` asks of one study, asked of all at once.

All of it is made of three tables of a study: how the means of its points (an arm at a budget) vary together with the
patients, how they vary together between seeds, and what patients explain of the latter. A difference, or a point
between two budgets, is a weighted sum of points, and its variances are the same sums of the tables.
`counted` asks medprior itself, too, and `simulate` compares the two in every cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from measured import Measured
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtr, stdtrit
from spreads import Spreads, lent, together

from medprior.evaluation.intervals import STILL
from medprior.study.verdict.findings import STEPS

Array = NDArray[Any]


@dataclass(frozen=True)
class Bounds:
    """Intervals of S studies, (S,), NaN where there is none; `p` of a difference."""

    low: Array
    high: Array
    p: Array | None = None


@dataclass(frozen=True)
class Batch:
    """S studies of A points, all trained with the same C seeds, and tested on the same patients within a study.

    `means` (S, A); `patients`, `between` and `explained` (S, A, A) are covariances: of the means with the patients, of
    the models of a seed between seeds, and what patients explain of these. `smallest` is the number of patients in the
    smallest class.
    """

    means: Array
    patients: Array
    between: Array
    explained: Array
    seeds: int
    smallest: int

    @classmethod
    def of(cls, measured: Measured, smallest: int) -> Batch:
        values, moved = measured
        seeds, mean, by_patient = values.shape[2], values.mean(2), moved.mean(2)
        apart, moved_apart = values - mean[..., None], moved - by_patient[:, :, None]
        flat = moved_apart.reshape(*moved.shape[:2], -1)
        return cls(
            mean, products(by_patient), products(apart) / (seeds - 1), products(flat) / (seeds - 1), seeds, smallest
        )

    @classmethod
    def joined(cls, parts: Sequence[Batch]) -> Batch:
        tables = (
            np.concatenate([getattr(part, key) for part in parts])
            for key in ("means", "patients", "between", "explained")
        )
        return cls(*tables, parts[0].seeds, parts[0].smallest)

    def spread(self, weights: Array) -> Spreads:
        """Of weighted sums of points, weights (K, A): (S, K)."""
        observed, by_patients = summed(self.between, weights), summed(self.explained, weights)
        return Spreads(observed, by_patients, np.full_like(observed, self.seeds - 1))

    def pooled(self, weights: Sequence[Array], freedom: float | None = None) -> Spreads | None:
        """`luck.pooled`: all have as many degrees of freedom."""
        if not len(weights):
            return None
        found = self.spread(np.stack(weights))
        count = (self.seeds - 1) * len(weights) if freedom is None else freedom
        observed = found.observed.mean(1)
        return Spreads(observed, found.by_patients.mean(1), np.full_like(observed, count))

    def only(self, point: int) -> Array:
        return np.eye(self.means.shape[1])[point]

    def apart(self, one: int, two: int) -> Array:
        return self.only(one) - self.only(two)

    def other_arms(self, point: int, budgets: Sequence[int]) -> Spreads:
        """`Findings._other_arms`, of a point that is not alone; `budgets` (A,) are those of all points."""
        rest = [other for other in range(len(budgets)) if other != point]
        here = [self.only(other) for other in rest if budgets[other] == budgets[point]]
        everywhere = self.pooled([self.only(other) for other in rest])
        assert everywhere is not None
        return lent(self.pooled(here), everywhere)

    def other_pairs(self, one: int, two: int) -> Spreads | None:
        """`Findings._other_pairs` where all points are of one budget; None where there are no others."""
        count = self.means.shape[1]
        pairs = [self.apart(*pair) for pair in combinations(range(count), 2) if set(pair) != {one, two}]
        return self.pooled(pairs, freedom=(self.seeds - 1) * (count - 2))

    def at(self, point: int, others: Spreads, level: float = 0.95) -> Bounds:
        """`intervals.interval`."""
        mean, patients = self.means[:, point], self.patients[:, point, point]
        error, freedom = self._standard_error(patients, self._own(self.only(point), others))
        tail = (1 - level) / 2
        still = (mean <= STILL) | (mean >= 1 - STILL) | (error < STILL)
        bound = tail ** (1 / self.smallest)
        safe = np.where(still, 0.5, mean)
        reach = quantile(freedom, 1 - tail) * error / (safe * (1 - safe))
        low = np.where(still, np.minimum(mean, bound), expit(logit(safe) - reach))
        high = np.where(still, np.maximum(mean, 1 - bound), expit(logit(safe) + reach))
        return Bounds(low, high)

    def compare(self, one: int, two: int, level: float = 0.95) -> Bounds:
        """`Findings.compare` where all points are of one budget."""
        weights = self.apart(one, two)
        spread = self._own(weights, self.other_pairs(one, two))
        return self._difference(one, weights, spread, level)

    def saving(self, arm: int, budgets: Sequence[int]) -> tuple[Array, Array]:
        """The bounds of `Findings.saving`, in labels: of the point `arm`, by the curve through all points before it."""
        nodes, found = [], []
        ours, *lent_to = (self.other_arms(point, budgets) for point in (arm, *range(arm)))
        for labels, curve, near in self._curve(arm, budgets):
            weights = self.only(arm) - curve
            spread = self._own(weights, together(ours, lent_to[near]))
            nodes.append(labels)
            found.append(self._difference(arm, weights, spread, 0.95))
        low, high = enclosed(
            np.array(nodes), np.stack([one.low for one in found], 1), np.stack([one.high for one in found], 1)
        )
        open_ = np.any([np.isnan(one.low) for one in found], axis=0)
        return np.where(open_, 0.0, low), np.where(open_, np.inf, high)

    def _curve(self, count: int, budgets: Sequence[int]) -> list[tuple[float, Array, int]]:
        """`Findings._curve` through the first `count` points: labels, the weights of points there, the nearest one."""
        found = []
        for at in range(count - 1):
            first, second = budgets[at], budgets[at + 1]
            for share in np.arange(STEPS) / STEPS:
                between = (1 - share) * self.only(at) + share * self.only(at + 1)
                found.append((first * (second / first) ** float(share), between, at if share < 0.5 else at + 1))
        return [*found, (float(budgets[count - 1]), self.only(count - 1), count - 1)]

    def _own(self, weights: Array, others: Spreads | None) -> Spreads:
        own = self.spread(weights[None])
        single = Spreads(own.observed[:, 0], own.by_patients[:, 0], own.freedom[:, 0])
        return single if others is None else single.moderated(others)

    def _difference(self, ours: int, weights: Array, spread: Spreads, level: float) -> Bounds:
        """`intervals.difference`, a weighted sum of points that has the point `ours` once."""
        mean, theirs = self.means @ weights, self.means @ (self.only(ours) - weights)
        error, freedom = self._standard_error(summed(self.patients, weights[None])[:, 0], spread)
        perfect = np.minimum(self.means[:, ours], theirs) > 1 - STILL
        error = np.where(perfect | (error < STILL), np.nan, error)
        reach = quantile(freedom, (1 + level) / 2) * error
        p = 2 * stdtr(freedom, -np.abs(mean) / error)
        return Bounds(np.clip(mean - reach, -1, 1), np.clip(mean + reach, -1, 1), p)

    def _standard_error(self, patients: Array, spread: Spreads) -> tuple[Array, Array]:
        """`intervals._standard_error` of patients and seeds."""
        total = np.maximum(patients + spread.luck / self.seeds, patients / 2)
        doubt = patients**2 / (2 * (self.smallest - 1)) + (spread.observed / self.seeds) ** 2 / spread.freedom
        freedom = np.divide(total**2, doubt, out=np.full_like(total, np.inf), where=doubt > 0)
        return np.sqrt(total), np.maximum(1.0, freedom)


def products(rows: Array) -> Array:
    """Of every two rows of (S, A, N) their inner product: (S, A, A)."""
    found: Array = rows @ rows.swapaxes(1, 2)
    return found


def summed(tables: Array, weights: Array) -> Array:
    """The variances (S, K) of weighted sums, weights (K, A), by tables (S, A, A)."""
    pairs = weights[:, :, None] * weights[:, None]
    found: Array = tables.reshape(len(tables), -1) @ pairs.reshape(len(weights), -1).T
    return found


def quantile(freedom: Array, share: float) -> Array:
    """Of Student's t; infinite freedom, which comes where nothing varies, counts as 1."""
    return stdtrit(np.where(np.isinf(freedom), 1.0, freedom), share)


def enclosed(budgets: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """`curves.enclosed` of bounds (S, B): fewest and most labels, (S,) each."""
    unsure, unbeaten, end = low <= 0, high >= 0, len(budgets) - 1
    none_unsure, none_unbeaten = ~unsure.any(1), ~unbeaten.any(1)
    first, last = unsure.argmax(1), end - unbeaten[:, ::-1].argmax(1)
    fewest = np.where(none_unsure, budgets[-1], crossing(budgets, low, first - 1))
    most = np.where(none_unbeaten, budgets[0], crossing(budgets, high, last))
    return (
        np.where((first == 0) & ~none_unsure | none_unbeaten, 0.0, fewest),
        np.where((last == end) & ~none_unbeaten | none_unsure, np.inf, most),
    )


def crossing(budgets: Array, bound: Array, at: Array) -> Array:
    """Where bounds (S, B) cross zero after the budget of number `at` (S,), which has to have one after it."""
    at, rows = np.clip(at, 0, len(budgets) - 2), np.arange(len(bound))
    before, after = bound[rows, at], bound[rows, at + 1]
    share = np.divide(before, before - after, out=np.zeros_like(before), where=before != after)
    return budgets[at] * (budgets[at + 1] / budgets[at]) ** np.clip(share, 0, 1)
