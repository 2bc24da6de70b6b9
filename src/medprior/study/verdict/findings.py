"""The numbers a verdict is made of: where each arm stands, how it compares, and how many labels it saves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.errors import RunError
from medprior.evaluation.curves import enclosed, needed_budget, rising
from medprior.evaluation.intervals import (
    Difference,
    Interval,
    difference,
    interval,
    patients_needed,
)
from medprior.evaluation.luck import Sample, Spread, lent, pooled, seed_spread, together
from medprior.study.results import Arm, Points, StudyResults

Array = NDArray[Any]
STEPS = 8
"""Points between two measured budgets at which the labels of a reference are tested."""
MARGIN = 0.05
"""A difference that would matter, where nobody said which."""


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
    """Everything measured in a study under one metric; all comparisons are computed when asked for.

    Attributes:
        primary: the arm that was named before the study began, if one was.
        margin: a difference that would matter.
    """

    results: StudyResults
    points: Points
    metric: str
    primary: Arm | None = None
    margin: float = MARGIN

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

    def judged(self, budget: int) -> tuple[Arm, int]:
        """The arm that a verdict at `budget` is about, the primary one or the best, and from how many it was picked."""
        if self.primary is not None and self.has(self.primary, budget):
            return self.primary, 1
        arms = self.pretrained(budget)
        return arms[0], len(arms)

    def best_scratch(self, budget: int) -> Arm | None:
        """The best training from scratch over all encoders and both lengths."""
        arms = [arm for arm in self.arms if arm.scratch and self.has(arm, budget)]
        return max(arms, key=lambda arm: self.sample(arm, budget).mean, default=None)

    def compare(self, arm: Arm, other: Arm, budget: int, *, picked_from: int = 1) -> Difference:
        """Paired difference; its interval is widened for an arm picked as the best of several (Bonferroni)."""
        ours, theirs = self.sample(arm, budget), self.sample(other, budget)
        others = self._other_pairs(arm, other, budget)
        return difference(ours, theirs, self.smallest, level=1 - 0.05 / picked_from, others=others)

    def beside(self, arm: Arm, budget: int, answer: Sample) -> Difference:
        """The paired difference to an answer on the same test patients that no seed and no run changes."""
        return difference(self.sample(arm, budget), answer, self.smallest, others=self._other_arms(arm, budget))

    def needed(self, arm: Arm, other: Arm, budget: int, *, picked_from: int = 1) -> float:
        """Test patients that would show a difference of `margin`, see `intervals.patients_needed`."""
        ours, theirs = self.sample(arm, budget), self.sample(other, budget)
        others = self._other_pairs(arm, other, budget)
        return patients_needed(ours, theirs, self.margin, level=1 - 0.05 / picked_from, others=others)

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
        low, high, reason = self._span(arm, reference, budget)
        return Saving(arm, reference, budget, least / budget, most / budget, low / budget, high / budget, reason)

    def _span(self, arm: Arm, reference: Arm, budget: int) -> tuple[float, float, str]:
        """Fewest and most labels with which the reference may be as good as the arm, and why they are open if so.

        Every number of labels is tested by the difference there, between measured budgets on the line between them.
        """
        if reason := self.at(arm, budget).reason:
            return 0.0, np.inf, reason
        nodes, found = [], []
        for labels, sample, near in self._curve(reference):
            others = together(self._other_arms(arm, budget), self._other_arms(reference, near))
            nodes.append(labels)
            found.append(difference(self.sample(arm, budget), sample, self.smallest, others=others))
        if any(one.reason for one in found):
            return 0.0, np.inf, "the scores are the same whichever test patients are drawn"
        bounds = np.array([(one.low, one.high) for one in found], np.float64)
        return *enclosed(np.array(nodes), bounds[:, 0], bounds[:, 1]), ""

    def _curve(self, arm: Arm) -> Iterator[tuple[float, Sample, int]]:
        """Labels, scores there and the nearest measured budget, along an arm's learning curve."""
        budgets = self.budgets(arm)
        for first, second in pairwise(budgets):
            for step in range(STEPS):
                share = step / STEPS
                between = self.sample(arm, first).towards(self.sample(arm, second), share)
                yield first * (second / first) ** share, between, first if share < 0.5 else second
        yield budgets[-1], self.sample(arm, budgets[-1]), budgets[-1]

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


def examine(results: StudyResults, metric: str, **facts: Any) -> Findings:
    """Score a study; `facts` are the other attributes of `Findings`.

    Raises RunError when it holds no finished run, or a run that no metric can score.
    """
    if not results.runs:
        raise RunError("the study has no finished result yet", do="Repeat the command: it goes on where it stopped")
    points = results.points(metric)
    if not all(np.isfinite(sample.mean) for sample in points.samples.values()):
        raise RunError(
            "the test patients are all of one class, so nothing can be scored", do="Choose another test split"
        )
    return Findings(results, points, metric, **facts)
