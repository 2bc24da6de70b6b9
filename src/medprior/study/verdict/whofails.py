"""Who fails: what a verdict says of groups of test patients, hedged as what was looked for after the fact must be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medprior.evaluation.intervals import Difference, Interval
from medprior.evaluation.subgroups import GroupScore, comparisons, worst
from medprior.evaluation.yardstick import TITLES
from medprior.study.results import Arm
from medprior.study.verdict.findings import Findings
from medprior.study.verdict.groups import Column, GroupFindings
from medprior.study.verdict.phrases import Words, count, gap, listed, shown


@dataclass(frozen=True)
class Worst:
    """The group of a column that lies furthest below the rest; score, difference and p corrected for the picking.

    `picked_from` counts the groups of all columns that were looked at.
    """

    column: Column
    group: GroupScore
    score: Interval
    difference: Difference
    p: float
    picked_from: int

    @property
    def title(self) -> str:
        return f"{self.column.name} {self.column.title(self.group)}"

    @property
    def fails(self) -> bool:
        """Whether it can be told that it fares worse than the rest."""
        return self.p < 0.05 and self.difference.value < 0


def judged_arm(findings: Findings) -> tuple[Arm, int] | None:
    """The arm whose groups are spoken of: the best at the largest budget, from scratch where there is no other."""
    budget = max(budget for _, budget in findings.points.samples)
    pretrained = findings.pretrained(budget)
    best = pretrained[0] if pretrained else findings.best_scratch(budget)
    return (best, budget) if best is not None else None


def worst_groups(groups: GroupFindings, arm: Arm, budget: int) -> list[Worst]:
    """The worst group of every column in which groups can be compared, the surest first."""
    scored = [(column, column.scores[arm, budget]) for column in groups.columns if (arm, budget) in column.scores]
    looked_at = sum(len(scores) for _, scores in scored)
    tests = sum(comparisons(scores) for _, scores in scored)
    found = []
    for column, scores in scored:
        if (one := worst(scores)) is not None:
            apart = one.difference(1 - 0.05 / tests)
            p = min(1.0, one.difference().p * tests)
            found.append(Worst(column, one, one.score(1 - 0.05 / looked_at), apart, p, looked_at))
    return sorted(found, key=lambda one: (not one.fails, one.p, one.difference.value))


def who_fails(findings: Findings, groups: GroupFindings, words: Words | None = None) -> list[str]:
    """One sentence on the groups of the best arm, and of scratch beside it; none where there are no groups."""
    words = words or Words()
    judged = judged_arm(findings)
    if judged is None or not groups.columns:
        return []
    arm, budget = judged
    names = listed([column.name for column in groups.columns])
    found = worst_groups(groups, arm, budget)
    where = f"{words.arm(arm)} at {words.labels(budget)}"
    if not found:
        return [f"Whether {where} fails some group by {names} cannot be told: every group has too few test patients."]
    return [_failing(findings, found[0], where, words) if found[0].fails else _nothing_told(found, where, names)]


def _failing(findings: Findings, one: Worst, where: str, words: Words) -> str:
    start = f"{where[0].upper()}{where[1:]} fares worse in the group {one.title}"
    tested = count(one.group.patients, f"test {words.unit.removesuffix('s')}")
    score = f"{TITLES[findings.metric]} {shown(one.score)} on {tested}, {gap(one.difference)} against the others"
    return f"{start}: {score}{_beside(findings, one)}; {_widened(one)}, exploratory."


def _beside(findings: Findings, one: Worst) -> str:
    """How scratch of the same encoder does in the group."""
    judged = judged_arm(findings)
    if judged is None or judged[0].scratch:
        return ""
    key = Arm("scratch", judged[0].encoder, "scratch"), judged[1]
    same = [score for score in one.column.scores.get(key, []) if score.group == one.group.group]
    if not same or not np.isfinite(same[0].inside.mean):
        return ""
    return f" (from scratch {shown(same[0].score())} there)"


def _nothing_told(found: list[Worst], where: str, names: str) -> str:
    below = [one for one in found if one.difference.value < 0]
    said = f"Whether {where} fails some group by {names} cannot be told"
    if not below:
        return f"{said}: none that can be compared lies below the others."
    nearest = min(below, key=lambda one: one.p)
    score = f"{nearest.title} with {shown(nearest.score)}, {gap(nearest.difference)} against the others"
    return f"{said}; the likeliest is {score} ({_widened(nearest)}, exploratory)."


def _widened(one: Worst) -> str:
    return f"intervals widened for the {one.picked_from} groups looked at"
