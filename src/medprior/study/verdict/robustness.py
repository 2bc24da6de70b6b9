"""How far every arm falls on corrupted test images, and whether one falls less or further than scratch.

A drop is paired: the same models on the same images, with and without the corruption, so that a patient who is hard
either way counts for nothing. An arm's drop is held against that of scratch of the same encoder, paired by patient and
seed again. Severities are averaged before arms are compared (Hendrycks & Dietterich, ICLR 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from medprior.evaluation.intervals import Difference, holm
from medprior.evaluation.luck import Sample
from medprior.evaluation.subgroups import nil
from medprior.evaluation.yardstick import TITLES
from medprior.study.results import Arm, Points, StudyResults
from medprior.study.verdict.findings import Findings
from medprior.study.verdict.phrases import Words, count, gap

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    *("arm", "encoder", "adaptation", "budget", "corruption", "severity", "metric", "value"),
    *("drop", "drop_low", "drop_high", "difference", "difference_low", "difference_high", "p", "p_holm"),
    *("n_test", "reason"),
)
MEAN = "mean"
"""The severity of what is averaged over all of them."""
PHRASES = {
    "noise": "Under noise",
    "blur": "Under blur",
    "contrast": "With less contrast",
    "resolution": "At a lower resolution",
    "jpeg": "After JPEG compression",
}
Place = tuple[str, str]
"""A corruption and its severity."""


@dataclass(frozen=True)
class Fall:
    """One arm under one corruption, averaged over severities, beside scratch of the same encoder.

    Attributes:
        apart: its drop less that of scratch: above 0 it falls further.
        p: of `apart`, corrected for all that were looked at.
        scores, theirs: of it and of scratch, without and with the corruption.
    """

    arm: Arm
    corruption: str
    apart: Difference
    p: float
    scores: tuple[float, float]
    theirs: tuple[float, float]

    @property
    def told(self) -> bool:
        """Whether it can be told that it falls less, or further."""
        return self.p < 0.05


@dataclass(frozen=True)
class Robustness:
    """The largest budget of a study under corruptions.

    Attributes:
        images: test images.
        clean: of every arm, without any corruption.
        single, averaged: the drops of every arm. Where a study has budgets, these have places: corruptions and
            severities in the order of `places`, or corruptions alone in that of `names`.
        lacking: arms that were finished without corrupted images.
    """

    budget: int
    images: int
    places: tuple[tuple[str, int], ...]
    clean: Mapping[Arm, Sample]
    single: Findings
    averaged: Findings
    lacking: tuple[Arm, ...]

    @property
    def names(self) -> list[str]:
        """Every corruption once."""
        return list(dict.fromkeys(name for name, _ in self.places))

    @cached_property
    def falls(self) -> list[Fall]:
        """Every pre-trained arm that has scratch beside it, under every corruption."""
        pairs = [(arm, Arm("scratch", arm.encoder, "scratch")) for arm in self.clean if not arm.scratch]
        compared = [
            (arm, other, place, self.averaged.compare(arm, other, place))
            for arm, other in pairs
            if other in self.clean
            for place in range(len(self.names))
        ]
        corrected = holm(np.array([apart.p for *_, apart in compared]))
        return [
            Fall(arm, self.names[place], apart, float(p), self._scores(arm, place), self._scores(other, place))
            for (arm, other, place, apart), p in zip(compared, corrected, strict=True)
        ]

    def drop(self, findings: Findings, arm: Arm, place: int) -> Difference:
        """The drop of an arm in `single` or `averaged`, with its interval."""
        return findings.beside(arm, place, nil(findings.sample(arm, place)))

    def _scores(self, arm: Arm, place: int) -> tuple[float, float]:
        clean = self.clean[arm].mean
        return clean, clean - self.averaged.sample(arm, place).mean


def examine_robustness(results: StudyResults, metric: str = "") -> Robustness | None:
    """Score the largest budget of a study under every corruption; `metric` is the main one when absent.

    None where no model was shown corrupted images: in studies of outlines, where they were switched off, and where an
    older version finished the models. An arm of which some model was not is left out.
    """
    budget = max((cell.budget for cell in results.cells), default=0)
    largest = [cell for cell in results.cells if cell.budget == budget]
    places = max((tuple(cell.corruptions) for cell in largest), key=len, default=())
    lacking = {cell.key for cell in largest if tuple(cell.corruptions) != places}
    whole = StudyResults([cell for cell in largest if cell.key not in lacking], results.kind, results.names)
    if not places or not whole.runs:
        return None
    metric = metric or results.yardstick.main
    clean = whole.points(metric)
    drops = [_drops(clean, _under(whole, place).points(metric)) for place in range(len(places))]
    names = list(dict.fromkeys(name for name, _ in places))
    means = [_means([drop for drop, (each, _) in zip(drops, places, strict=True) if each == name]) for name in names]
    return Robustness(
        budget,
        len(np.unique(np.concatenate([cell.rows for cell in whole.cells]))),
        places,
        {arm: sample for (arm, _), sample in clean.samples.items()},
        _placed(whole, drops, clean.smallest, metric),
        _placed(whole, means, clean.smallest, metric),
        tuple(sorted(lacking)),
    )


def robustness_table(found: Robustness | None) -> pandas.DataFrame:
    """Rows of robustness.csv; what cannot be given is empty, and `reason` says why.

    `value` is the score under the corruption, `drop` what is lost of the score without it. Rows with the severity
    "mean" are averaged over severities; of pre-trained arms they have the difference to the drop of scratch.
    """
    import pandas

    rows = [] if found is None else [row for arm in sorted(found.clean) for row in _rows(found, arm)]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def robustness_said(verdict: Mapping[str, Any], found: Robustness | None) -> dict[str, Any]:
    """The verdict with a sentence on the arm that surely falls less or further than scratch, where there is one."""
    if found is None:
        return dict(verdict)
    words = Words(verdict["unit"])
    return {
        **verdict,
        "sentences": [*verdict["sentences"], *_surest(found, words)],
        "warnings": [*verdict["warnings"], *_left_out(found, words)],
    }


def _under(whole: StudyResults, place: int) -> StudyResults:
    """The same models on images under one corruption."""
    cells = [replace(cell, scores=cell.corrupted[place]) for cell in whole.cells if cell.corrupted is not None]
    return StudyResults(cells, whole.kind, whole.names)


def _drops(clean: Points, under: Points) -> dict[Arm, Sample]:
    """Of every arm its score less that under a corruption, model by model."""
    return {
        key[0]: replace(one, values=one.values - under.samples[key].values, moves=one.moves - under.samples[key].moves)
        for key, one in clean.samples.items()
    }


def _means(drops: Sequence[Mapping[Arm, Sample]]) -> dict[Arm, Sample]:
    """Of every arm the mean of several drops, model by model."""
    return {
        arm: replace(
            first,
            values=np.mean([drop[arm].values for drop in drops], axis=0),
            moves=np.mean([drop[arm].moves for drop in drops], axis=0),
        )
        for arm, first in drops[0].items()
    }


def _placed(whole: StudyResults, drops: Sequence[Mapping[Arm, Sample]], smallest: int, metric: str) -> Findings:
    """Drops as findings, so that they are compared and lend each other the luck of seeds as scores at budgets do."""
    samples = {(arm, place): sample for place, drop in enumerate(drops) for arm, sample in drop.items()}
    return Findings(whole, Points(samples, smallest), metric)


def _rows(found: Robustness, arm: Arm) -> list[tuple[object, ...]]:
    places = [(found.single, place, *each) for place, each in enumerate(found.places)]
    means = [(found.averaged, place, name, MEAN) for place, name in enumerate(found.names)]
    falls = {fall.corruption: fall for fall in found.falls if fall.arm == arm}
    start = (arm.name, arm.encoder, arm.adaptation, found.budget)
    rows = []
    for findings, place, name, severity in (*places, *means):
        drop = found.drop(findings, arm, place)
        value = found.clean[arm].mean - drop.value
        fall = falls.get(name) if severity == MEAN else None
        apart = (fall.apart.value, fall.apart.low, fall.apart.high, fall.apart.p, fall.p) if fall else (None,) * 5
        reason = drop.reason or (fall.apart.reason if fall else "")
        middle = (name, severity, findings.metric, value, drop.value, drop.low, drop.high)
        rows.append((*start, *middle, *apart, found.images, reason))
    return rows


def _surest(found: Robustness, words: Words) -> list[str]:
    told = sorted((fall for fall in found.falls if fall.told), key=lambda fall: fall.p)
    if not told:
        return []
    one, compared = told[0], len(found.falls)
    less = one.apart.value < 0
    where = f"{words.arm(one.arm)} at {words.labels(found.budget)}"
    severities = sum(name == one.corruption for name, _ in found.places)
    scores, theirs = (f"from {clean:.2f} to {under:.2f}" for clean, under in (one.scores, one.theirs))
    more = f"; {len(told) - 1} more can be told, see robustness.csv" if len(told) > 1 else ""
    return [
        f"{PHRASES.get(one.corruption, f'Under {one.corruption}')} {where} loses {'less' if less else 'more'} "
        f"{TITLES[found.averaged.metric]} than the same encoder from scratch{_hedge(one)}: {scores}, scratch {theirs}; "
        f"the drops differ by {gap(one.apart)} (mean of {severities} severities; the surest of "
        f"{count(compared, 'comparison')}, Holm's correction, exploratory{more})."
    ]


def _hedge(one: Fall) -> str:
    """Said where half of the difference or more may come from where the two begin."""
    ahead = one.scores[0] - one.theirs[0]
    if ahead * one.apart.value <= 0 or abs(ahead) < abs(one.apart.value) / 2:
        return ""
    return f", though it has {'less' if ahead < 0 else 'more'} to lose"


def _left_out(found: Robustness, words: Words) -> list[str]:
    return [
        f"No corrupted test images were shown to {words.arm(arm)}: an older version finished some of its models."
        for arm in found.lacking
    ]
