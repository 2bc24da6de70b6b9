"""A verdict on outlines beside answers that need no model: what marking everything, or nothing, would score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medprior.evaluation.luck import Sample
from medprior.evaluation.trivial import marked
from medprior.evaluation.yardstick import TITLES
from medprior.study.results import Arm, Array, StudyResults
from medprior.study.verdict.findings import Findings
from medprior.study.verdict.phrases import Words, listed, verdict_of

METRIC = "dice"


@dataclass(frozen=True)
class Trivial:
    """What an answer scores on the test patients of a study; `label` is the class that everything is, 0 for none."""

    answer: str
    label: int
    sample: Sample


def trivial_answers(results: StudyResults, sizes: Mapping[int, Array]) -> list[Trivial]:
    """Dice of marking everything as each class, and of marking nothing, the best first.

    They are averaged over scans, patients, classes and folds as those of a model are.

    Args:
        sizes: (C,) voxels of each class in the truth of every test scan, by catalog row.
    """
    names = results.names
    said = ["nothing", *(f"everything as {name}" for name in names)] if len(names) > 1 else ["nothing", "everything"]
    cells = next(iter(results.runs.values()))
    found = []
    for label, answer in enumerate(said):
        given = [replace(one, scores=marked(np.stack([sizes[int(row)] for row in one.rows]), label)) for one in cells]
        (sample,) = replace(results, cells=given).points(METRIC).samples.values()
        found.append(Trivial(answer, label, sample))
    return sorted(found, key=lambda one: -one.sample.mean)


def trivial_rows(answers: Sequence[Trivial]) -> list[dict[str, Any]]:
    """As `verdict.json` holds them."""
    return [{"answer": one.answer, "mean": round(one.sample.mean, 6)} for one in answers]


def trivial_warning(findings: Findings, answers: Sequence[Trivial], words: Words) -> list[str]:
    """A sentence on the models that are not shown to do better than the best of these answers; none where all are."""
    if not answers or findings.metric != METRIC:
        return []
    best = answers[0]
    below: dict[int, list[Arm]] = {}
    for arm, budget in findings.points.samples:
        if not _above(findings, arm, budget, best):
            below.setdefault(budget, []).append(arm)
    if not below:
        return []
    start = f"Marking {best.answer} would score {TITLES[METRIC]} {best.sample.mean:.2f} on these test {words.unit}"
    counts = {budget: sum(findings.has(arm, budget) for arm in findings.arms) for budget in below}
    if below.keys() == {budget for _, budget in findings.points.samples} and all(
        len(arms) == counts[budget] for budget, arms in below.items()
    ):
        return [f"{start}, and no model of this study is shown to do better."]
    each = [
        f"with {words.labels(budget)} {_which(arms, counts[budget], words)} shown to do better"
        for budget, arms in sorted(below.items())
    ]
    return [f"{start}: {'; '.join(each)}."]


def _above(findings: Findings, arm: Arm, budget: int, answer: Trivial) -> bool:
    """Whether the interval of the paired difference lies above 0; without one, whether the score does."""
    gain = findings.beside(arm, budget, answer.sample)
    how = verdict_of(gain)
    return gain.value > 0 if how == "unknown" else how == "better"


def _which(arms: Sequence[Arm], of: int, words: Words) -> str:
    if len(arms) == of:
        return "no model is"
    return f"{listed([words.arm(arm) for arm in arms])} {'is' if len(arms) == 1 else 'are'} not"
