"""The verdict: how much pre-training was worth, with what certainty, and what to beware of."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medprior.evaluation.intervals import FEWEST
from medprior.study.results import Arm, StudyResults
from medprior.study.verdict.findings import Findings, Saving, examine
from medprior.study.verdict.phrases import Words
from medprior.study.verdict.sentences import sentences
from medprior.study.verdict.trivial import trivial_answers, trivial_rows, trivial_warning

SCHEMA = "medprior.verdict/1"
TINY = 50
"""Test patients below which the test set is called small."""
_WIDTH = 100
_EXAMINED = ("primary", "margin")


def make_verdict(results: StudyResults, *, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Judge a study; the same cells and facts give the same verdict.

    `facts`, all optional: `metric` (that of the task), `patients_known` (True), `free_validation` (False), `leaks` and
    `warnings` (sentences passed on), `titles` (what an arm is called), `sizes` (of the truths of outlines, see
    `trivial_answers`), and those of `Findings`: `primary`, `margin`.
    Raises RunError when no run is finished.

    The reference is scratch of the same encoder at the same number of steps; scratch at twice the steps, and the best
    scratch over all encoders, stand beside it. Bounds that are None are open.
    """
    metric = facts.get("metric", results.yardstick.main)
    findings = examine(results, metric, **{name: facts[name] for name in _EXAMINED if name in facts})
    outlined = results.kind == "segmentation"
    unit = "patients" if facts.get("patients_known", True) else "scans" if outlined else "images"
    known = "annotated" if outlined else "labelled"
    words = Words(unit, facts.get("titles", {}), known)
    answers = trivial_answers(results, facts["sizes"]) if "sizes" in facts else []
    patients, _ = results.test
    return {
        "schema": SCHEMA,
        "metric": findings.metric,
        "unit": unit,
        "test_patients": len(np.unique(patients)),
        "arms": [_standing(findings, arm, b) for arm in findings.arms for b in findings.budgets(arm)],
        "labels_saved": [_saving(saving) for saving in findings.savings()],
        **({"trivial": trivial_rows(answers)} if answers else {}),
        "sentences": sentences(findings, words),
        "warnings": [*trivial_warning(findings, answers, words), *_warnings(findings, facts)],
    }


def print_verdict(verdict: Mapping[str, Any]) -> list[str]:
    """The verdict as lines of at most 100 columns for a terminal."""
    lines = _paragraphs("Verdict", verdict["sentences"])
    return lines + _paragraphs("Beware", verdict["warnings"])


def _paragraphs(title: str, texts: list[str]) -> list[str]:
    lines: list[str] = []
    for number, text in enumerate(texts):
        start = f"{title if number == 0 else '':<9}"
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=start,
            subsequent_indent=" " * 9,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _standing(findings: Findings, arm: Arm, budget: int) -> dict[str, Any]:
    score, sample = findings.at(arm, budget), findings.sample(arm, budget)
    return {
        "arm": arm.name,
        "encoder": arm.encoder,
        "adaptation": arm.adaptation,
        "budget": budget,
        "mean": _number(score.value),
        "low": _number(score.low),
        "high": _number(score.high),
        "seeds": len(np.unique(sample.seeds)),
        "pretrain_seeds": None if arm.scratch else len(np.unique(sample.runs)),
    }


def _saving(saving: Saving) -> dict[str, Any]:
    return {
        "arm": saving.arm.name,
        "encoder": saving.arm.encoder,
        "adaptation": saving.arm.adaptation,
        "reference": saving.reference.adaptation if saving.reference.scratch else saving.reference.name,
        "budget": saving.budget,
        "ratio": _number(saving.ratio),
        "low": _number(saving.low) or None,
        "high": _number(saving.high),
    }


def _number(value: float | None) -> float | None:
    """A JSON number; what is not finite is null."""
    return None if value is None or not np.isfinite(value) else round(float(value), 6)


def _warnings(findings: Findings, facts: Mapping[str, Any]) -> Iterator[str]:
    yield from facts.get("leaks", ())
    yield from _about_patients(findings, facts)
    yield from _about_labels(findings)
    if facts.get("free_validation"):
        yield "A validation set beyond the label budget was used: each budget really cost more labels than it says."
    yield from _about_luck(findings)
    yield from facts.get("warnings", ())


def _about_patients(findings: Findings, facts: Mapping[str, Any]) -> Iterator[str]:
    patients = len(np.unique(findings.results.test[0]))
    if not facts.get("patients_known", True):
        yield (
            "Patients are unknown: every image counts as a patient of its own. If patients have several images, the "
            "intervals are too narrow, and one patient may stand on both sides of the split."
        )
    if findings.smallest < FEWEST:
        yield f"Too few patients: {findings.smallest} test patients in the smallest class; intervals need {FEWEST}."
    elif patients < TINY:
        unit = "patients" if facts.get("patients_known", True) else "images"
        yield f"Only {patients} test {unit}: differences that matter may go unseen."


def _about_labels(findings: Findings) -> Iterator[str]:
    results = findings.results
    left_out = [
        f"{name} ({count})"
        for name, count, kept in zip(results.names, results.smallest, results.keep, strict=True)
        if not kept
    ]
    if left_out:
        yield (
            f"Left out of the score for want of test patients with or without the finding (how many in brackets): "
            f"{', '.join(left_out)}."
        )


def _about_luck(findings: Findings) -> Iterator[str]:
    samples = findings.points.samples
    seeds = min(len(np.unique(sample.seeds)) for sample in samples.values())
    if seeds == 1:
        yield "One adaptation seed only: the luck of the seed is not in the intervals."
    elif seeds == 2:
        yield (
            "Two adaptation seeds say little about the luck of the seed: the intervals lean on how much the seeds of "
            "the other arms differ."
        )
    if any(len(np.unique(sample.runs)) < 2 for (arm, _), sample in samples.items() if not arm.scratch):
        yield "One pre-training run per method: the luck of that run is not in the intervals."
    if findings.results.missing:
        yield f"{findings.results.missing} finished results wait for other folds of their run and are not counted yet."
