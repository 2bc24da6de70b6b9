"""How every arm of a study scores within groups of its test patients: the rows of groups.csv."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medprior.data.annotations.groups import Grouping
from medprior.evaluation.luck import lent, pooled, seed_spread
from medprior.evaluation.subgroups import Fold, GroupScore, Model, corrected, group_scores, shared_patients
from medprior.study.results import Arm, CellResult, StudyResults

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    *("arm", "encoder", "adaptation", "budget", "column", "group", "metric", "mean", "low", "high"),
    *("patients", "images", "difference", "difference_low", "difference_high", "p", "p_holm", "reason"),
)
Key = tuple[Arm, int]


@dataclass(frozen=True)
class Column:
    """One grouping over all arms and budgets; `shared` are test patients who stand in several of its groups."""

    grouping: Grouping
    scores: dict[Key, list[GroupScore]]
    shared: int

    @property
    def name(self) -> str:
        return self.grouping.name

    def title(self, score: GroupScore) -> str:
        """The group's name."""
        return self.grouping.groups[score.group]


@dataclass(frozen=True)
class GroupFindings:
    """Every column of a study that parts its test images, under one metric."""

    metric: str
    columns: tuple[Column, ...]


def examine_groups(results: StudyResults, groupings: Sequence[Grouping], metric: str = "") -> GroupFindings:
    """Score every arm and budget within the groups of every column; `metric` is the main one when absent."""
    metric = metric or results.yardstick.main
    found = [_column(results, grouping, metric) for grouping in groupings]
    return GroupFindings(metric, tuple(one for one in found if any(len(scores) > 1 for scores in one.scores.values())))


def group_table(findings: GroupFindings) -> pandas.DataFrame:
    """Rows of groups.csv; what cannot be given is empty, and `reason` says why."""
    import pandas

    return pandas.DataFrame(list(_rows(findings)), columns=list(COLUMNS))


def models_of(results: StudyResults, grouping: Grouping) -> dict[Key, list[Model]]:
    """The trained models of every arm and budget, with the group of every test image."""
    found: dict[Key, list[Model]] = {}
    for (arm, budget, seed, run), cells in results.runs.items():
        model = Model(seed, run, tuple(_fold(cell, grouping) for cell in cells))
        found.setdefault((arm, budget), []).append(model)
    return found


def _column(results: StudyResults, grouping: Grouping, metric: str) -> Column:
    models = models_of(results, grouping)
    groups, yardstick = len(grouping.groups), results.yardstick
    scores = {key: group_scores(those, groups, metric, yardstick, results.keep) for key, those in models.items()}
    test = next(iter(models.values()))[0].test
    return Column(grouping, _with_lent_luck(scores), shared_patients(test.member, test.patients))


def _fold(cell: CellResult, grouping: Grouping) -> Fold:
    return Fold(cell.rows, cell.scores, cell.targets, cell.patients, grouping.member[cell.rows])


def _with_lent_luck(scores: dict[Key, list[GroupScore]]) -> dict[Key, list[GroupScore]]:
    """Each score with how much the seeds of other arms and budgets spread in the same group."""
    by_group: dict[int, dict[Key, GroupScore]] = {}
    for key, those in scores.items():
        for one in those:
            by_group.setdefault(one.group, {})[key] = one
    lent_to = {group: _lent(those) for group, those in by_group.items()}
    return {key: [lent_to[one.group][key] for one in those] for key, those in scores.items()}


def _lent(scores: dict[Key, GroupScore]) -> dict[Key, GroupScore]:
    spreads = {
        key: (seed_spread(one.inside), seed_spread(one.apart))
        for key, one in scores.items()
        if np.isfinite(one.apart.mean)
    }
    found = {}
    for key, one in scores.items():
        rest = [(at[1], spread) for at, spread in spreads.items() if at != key]
        inside, apart = (
            lent(
                pooled([spread[side] for budget, spread in rest if budget == key[1]]),
                pooled([spread[side] for _, spread in rest]),
            )
            for side in (0, 1)
        )
        found[key] = replace(one, others=inside, others_apart=apart)
    return found


def _rows(findings: GroupFindings) -> Iterator[tuple[object, ...]]:
    for column in findings.columns:
        for (arm, budget), scores in column.scores.items():
            for one, p in zip(scores, corrected(scores), strict=True):
                score, apart = one.score(), one.difference()
                yield (
                    *(arm.name, arm.encoder, arm.adaptation, budget, column.name, column.title(one), findings.metric),
                    *(score.value, score.low, score.high, one.patients, one.images),
                    *(apart.value, apart.low, apart.high, apart.p, p, score.reason or apart.reason),
                )
