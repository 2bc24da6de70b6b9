"""The shortcut audit of a study: what its encoders know of site, scanner and sex, and what its scores rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from medprior.data.annotations.groups import Grouping
from medprior.evaluation.audit import (
    Association,
    Reading,
    Within,
    association,
    readable,
    scored_within,
    within_groups,
)
from medprior.evaluation.intervals import Array, holm
from medprior.evaluation.metrics import Kind
from medprior.evaluation.yardstick import TITLES
from medprior.study.arms import Pretraining
from medprior.study.pretraining import features_of
from medprior.study.results import Arm, StudyResults
from medprior.study.verdict.findings import Findings
from medprior.study.verdict.groups import models_of
from medprior.study.verdict.phrases import Words, shown
from medprior.study.verdict.whofails import judged_arm

if TYPE_CHECKING:
    import pandas

    from medprior.study.ground import Ground

COLUMNS = (
    *("arm", "encoder", "adaptation", "budget", "column", "groups"),
    *("read_auroc", "read_low", "read_high", "read_patients"),
    *("association", "association_p", "association_p_holm"),
    *("metric", "pooled", "within", "lost", "lost_low", "lost_high", "lost_p", "lost_p_holm", "shortcut", "reason"),
)
READABLE, ASSOCIATED = 0.6, 0.01
"""What the lower bound of reading a column must exceed, and the corrected p value of its association lie below."""


@dataclass(frozen=True)
class Suspect:
    """A column under one arm at the largest budget; p values corrected over the columns of that arm.

    `reading` is None of arms without a frozen encoder: those from scratch.
    """

    arm: Arm
    budget: int
    column: str
    groups: int
    reading: Reading | None
    association: Association
    association_p: float
    within: Within
    lost_p: float

    @property
    def tempting(self) -> bool:
        """Whether the column can be read from the images and goes with the label."""
        low = self.reading.auroc.low if self.reading is not None else None
        return low is not None and low > READABLE and self.association_p < ASSOCIATED

    @property
    def shortcut(self) -> bool:
        """Whether, besides, the score is lower within its groups: the interval of what is lost leaves out 0."""
        low = self.within.lost.low
        return self.tempting and low is not None and low > 0


@dataclass(frozen=True)
class Known:
    """Of the labelled images that an audit reads columns from, one entry per image.

    `rows` are catalog rows, `targets` and `patients` as in `metrics`; `embeddings` holds the frozen features (N, D) of
    each pre-trained encoder by (method, encoder).
    """

    rows: Array
    targets: Array
    patients: Array
    embeddings: Mapping[tuple[str, str], Array]


def known_of(ground: Ground, methods: Sequence[tuple[str, str]], out: Path) -> Known:
    """What the pre-training folders of a study below `out` hold: of each encoder the first run, of the first fold."""
    rows = ground.usable(np.flatnonzero(ground.catalog.table["labelled"].to_numpy(dtype=bool)))
    folders = {pair: out / Pretraining(*pair, fold=0, seed=0).folder for pair in methods}
    embeddings = {pair: features_of(folder)[rows] for pair, folder in folders.items()}
    return Known(rows, ground.targets[rows], ground.persons[rows], embeddings)


def audit_study(results: StudyResults, groupings: Sequence[Grouping], known: Known) -> list[Suspect]:
    """Every column under every arm at the largest budget of a study that classifies."""
    read = {
        (pair, one.name): readable(features, one.member[known.rows], known.patients)
        for pair, features in known.embeddings.items()
        for one in groupings
    }
    kind, classes = cast(Kind, results.kind), len(results.names)
    linked = {
        one.name: association(one.member[known.rows], known.targets, known.patients, kind, classes) for one in groupings
    }
    linked_p = dict(zip(linked, holm(np.array([one.p for one in linked.values()])), strict=True))
    budget, inner = max(cell.budget for cell in results.cells), _inner(results, groupings)
    found = []
    for arm, by_column in inner.items():
        lost_p = holm(np.array([one.lost.p for one in by_column.values()]))
        for grouping, p in zip(groupings, lost_p, strict=True):
            name = grouping.name
            reading = read.get(((arm.name, arm.encoder), name))
            link = linked[name], float(linked_p[name])
            groups = len(grouping.groups)
            found.append(Suspect(arm, budget, name, groups, reading, *link, by_column[name], float(p)))
    return found


def suspect_table(suspects: Sequence[Suspect], metric: str) -> pandas.DataFrame:
    """Rows of shortcuts.csv; what cannot be given is empty, and `reason` says why."""
    import pandas

    table = pandas.DataFrame([_row(one, metric) for one in suspects], columns=list(COLUMNS))
    return table.astype({"read_patients": "Int64"})


def shortcut_warnings(findings: Findings, suspects: Sequence[Suspect], words: Words | None = None) -> list[str]:
    """What a verdict must say of the best arm; nothing where no shortcut can be told."""
    words = words or Words()
    judged = judged_arm(findings)
    ours = [one for one in suspects if judged == (one.arm, one.budget)]
    said = [_shortcut(one, words, TITLES[findings.metric]) for one in ours if one.shortcut]
    return [*said, *(_inseparable(one, words) for one in ours if one.tempting and one.within.alone)]


def _inner(results: StudyResults, groupings: Sequence[Grouping]) -> dict[Arm, dict[str, Within]]:
    budget, yardstick = max(cell.budget for cell in results.cells), results.yardstick
    found: dict[Arm, dict[str, Within]] = {}
    for grouping in groupings:
        for (arm, at), models in models_of(results, grouping).items():
            if at == budget:
                counted = scored_within(models[0], yardstick, results.keep)
                found.setdefault(arm, {})[grouping.name] = within_groups(models, yardstick.main, yardstick, counted)
    return found


def _shortcut(one: Suspect, words: Words, metric: str) -> str:
    assert one.reading is not None
    return (
        f'The column "{one.column}" may be a shortcut for {words.arm(one.arm)}: it can be read from its frozen '
        f"embeddings (AUROC {shown(one.reading.auroc)}), it goes with the label (Cramer's V "
        f"{one.association.strength:.2f}), and the {metric} of {one.within.pooled:.2f} over all is "
        f"{one.within.within:.2f} within groups of {one.column}, a loss of {shown(one.within.lost)}. Where "
        f"{one.column} and label go together otherwise, it may do worse."
    )


def _inseparable(one: Suspect, words: Words) -> str:
    return (
        f'The column "{one.column}" and the label cannot be told apart here: {one.column} can be read from the images, '
        "and no group "
        f"has test patients enough of every class, so {words.arm(one.arm)} may have learnt {one.column} alone."
    )


def _row(one: Suspect, metric: str) -> tuple[object, ...]:
    reading, within = one.reading, one.within
    auroc = reading.auroc if reading is not None else None
    read = (auroc.value, auroc.low, auroc.high) if auroc is not None else (None, None, None)
    reasons = (auroc.reason if auroc is not None else "", within.lost.reason)
    return (
        *(one.arm.name, one.arm.encoder, one.arm.adaptation, one.budget, one.column, one.groups),
        *(*read, reading.patients if reading is not None else None),
        *(one.association.strength, one.association.p, one.association_p),
        *(metric, within.pooled, within.within, within.lost.value, within.lost.low, within.lost.high),
        *(within.lost.p, one.lost_p, one.shortcut, "; ".join(filter(None, reasons))),
    )
