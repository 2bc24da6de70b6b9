"""The numbers a verdict is made of: where each arm stands, how it compares, and how many labels it saves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.errors import RunError
from medprior.evaluation.curves import needed_budget, rising
from medprior.evaluation.intervals import STILL, Difference, Interval, difference, interval, total_draws
from medprior.evaluation.luck import Sample, Spread, lent, pooled, seed_spread
from medprior.study.results import Arm, Points, StudyResults

Array = NDArray[Any]
_BOUNDS = (0.025, 0.975)


@dataclass(frozen=True)
class Saving:
    """The labels a reference needs for an arm's score, as multiples of the arm's own.

    `least` and `most` enclose what the curves say (equal unless the curve is flat there or the score lies outside the
    measured budgets), `low` and `high` the 95% interval. Open ends are 0 and infinity. Without enough patients, or
    where nothing varies, the interval is open on both sides and `reason` says why.
    """

    arm: Arm
    reference: Arm
    budget: int
    least: float
    most: float
    low: float
    high: float
    reason: str = ""

    @property
    def ratio(self) -> float | None:
        """The multiple where the curves give a single one."""
        return self.least if self.least == self.most else None


@dataclass(frozen=True)
class Findings:
    """Everything measured in a study under one metric; all comparisons are computed when asked for."""

    results: StudyResults
    points: Points
    metric: str
    seed: int = 0

    @property
    def smallest(self) -> int:
        """Test patients in the smallest class."""
        return self.points.smallest

    @cached_property
    def arms(self) -> list[Arm]:
        return sorted({arm for arm, _ in self.points.samples}, key=lambda arm: (not arm.scratch, arm))

    def budgets(self, arm: Arm) -> list[int]:
        """Budgets at which this arm was measured, rising."""
        return sorted(budget for one, budget in self.points.samples if one == arm)

    def sample(self, arm: Arm, budget: int) -> Sample:
        return self.points.samples[arm, budget]

    def at(self, arm: Arm, budget: int) -> Interval:
        """Mean and 95% interval of an arm."""
        return interval(self.sample(arm, budget), self.smallest, others=self._other_arms(arm, budget))

    def has(self, arm: Arm, budget: int) -> bool:
        return (arm, budget) in self.points.samples

    def pretrained(self, budget: int) -> list[Arm]:
        """Arms that are not trained from scratch, the best first."""
        arms = [arm for arm in self.arms if not arm.scratch and self.has(arm, budget)]
        return sorted(arms, key=lambda arm: -self.sample(arm, budget).mean)

    def best_scratch(self, budget: int) -> Arm | None:
        """The best training from scratch over all encoders and both lengths."""
        arms = [arm for arm in self.arms if arm.scratch and self.has(arm, budget)]
        return max(arms, key=lambda arm: self.sample(arm, budget).mean, default=None)

    def compare(self, arm: Arm, other: Arm, budget: int, *, picked_from: int = 1) -> Difference:
        """Paired difference; its interval is widened for an arm picked as the best of several (Bonferroni)."""
        ours, theirs = self.sample(arm, budget), self.sample(other, budget)
        others = self._other_pairs(arm, other, budget)
        return difference(ours, theirs, self.smallest, level=1 - 0.05 / picked_from, others=others)

    def savings(self) -> Iterator[Saving]:
        """Labels saved by every pre-trained arm at each of its budgets, against each of its references."""
        for arm in self.arms:
            for reference in self.references(arm):
                for budget in self.budgets(arm):
                    yield self.saving(arm, reference, budget)

    def references(self, arm: Arm) -> list[Arm]:
        """Scratch of the same encoder at both lengths, and ImageNet weights adapted the same way where they exist."""
        if arm.scratch:
            return []
        rivals = [Arm("scratch", arm.encoder, "scratch"), Arm("scratch", arm.encoder, "scratch-2x")]
        rivals.append(Arm("imagenet", arm.encoder, arm.adaptation))
        return [rival for rival in rivals if rival in self.arms and rival != arm]

    def saving(self, arm: Arm, reference: Arm, budget: int) -> Saving:
        """How many of the reference's labels one of this arm's labels is worth."""
        budgets = np.array(self.budgets(reference))
        means = np.array([[self.sample(reference, int(b)).mean for b in budgets]])
        (least,), (most,) = needed_budget(budgets, rising(means), np.array([self.sample(arm, budget).mean]))
        reason = self.at(arm, budget).reason
        if reason:
            return Saving(arm, reference, budget, least / budget, most / budget, 0.0, np.inf, reason)
        curves = np.stack([self._draws(reference, int(b)) for b in budgets], axis=1)
        ours = self._draws(arm, budget)
        fewest, furthest = needed_budget(budgets, rising(curves), ours)
        if min(np.ptp(ours), np.ptp([fewest, furthest])) < STILL:
            reason = "the scores are the same whichever test patients are drawn"
            return Saving(arm, reference, budget, least / budget, most / budget, 0.0, np.inf, reason)
        low = float(np.quantile(fewest, _BOUNDS[0], method="inverted_cdf")) / budget
        high = float(np.quantile(furthest, _BOUNDS[1], method="inverted_cdf")) / budget
        return Saving(arm, reference, budget, least / budget, most / budget, low, high)

    def _draws(self, arm: Arm, budget: int) -> Array:
        others = self._other_arms(arm, budget)
        return total_draws(self.sample(arm, budget), seed=self.seed, arm=self.arms.index(arm), others=others)

    @cached_property
    def _alone(self) -> dict[tuple[Arm, int], Spread]:
        """How the seeds of every arm spread, by budget."""
        return {key: seed_spread(sample) for key, sample in self.points.samples.items()}

    @cached_property
    def _paired(self) -> dict[tuple[frozenset[Arm], int], Spread]:
        """How the seeds of the difference of every two arms spread, by budget."""
        found = {}
        for budget in {budget for _, budget in self.points.samples}:
            arms = [arm for arm in self.arms if self.has(arm, budget)]
            for one, two in combinations(arms, 2):
                paired = self.sample(one, budget).minus(self.sample(two, budget))
                found[frozenset((one, two)), budget] = seed_spread(paired)
        return found

    def _other_arms(self, arm: Arm, budget: int) -> Spread:
        rest = {key: spread for key, spread in self._alone.items() if key != (arm, budget)}
        here = pooled([spread for (_, at), spread in rest.items() if at == budget])
        return lent(here, pooled(list(rest.values())))

    def _other_pairs(self, arm: Arm, other: Arm, budget: int) -> Spread:
        """Of A arms only A - 1 differences are independent, and at `budget` one of them is this one."""
        own, by_budget = (frozenset((arm, other)), budget), {}
        for at in {at for _, at in self.points.samples}:
            pairs = [spread for key, spread in self._paired.items() if key[1] == at and key != own]
            arms = sum(self.has(one, at) for one in self.arms)
            each = min((spread.freedom for spread in pairs if spread.freedom), default=0)
            by_budget[at] = pooled(pairs, freedom=each * (arms - 1 - (at == budget)))
        return lent(by_budget[budget], pooled(list(by_budget.values())))


def examine(results: StudyResults, metric: str, *, draws: int = 1000, seed: int = 0) -> Findings:
    """Score a study. Raises RunError when it holds no finished run, or a run that no metric can score."""
    if not results.runs:
        raise RunError("the study has no finished result yet", do="Repeat the command: it goes on where it stopped")
    points = results.points(metric, draws=draws, seed=seed)
    if not all(np.isfinite(sample.mean) for sample in points.samples.values()):
        raise RunError(
            "the test patients are all of one class, so nothing can be scored", do="Choose another test split"
        )
    return Findings(results, points, metric, seed)
