"""A verdict in words: plain, true, and hedged where the data leave doubt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medprior.evaluation.intervals import POWER, Difference, holm
from medprior.evaluation.yardstick import TITLES
from medprior.study.results import Arm
from medprior.study.verdict.findings import Findings
from medprior.study.verdict.phrases import (
    Words,
    count,
    equivalent,
    gap,
    labels_saved,
    listed,
    roughly,
    short,
    shown,
    verdict_of,
)


def sentences(findings: Findings, words: Words) -> list[str]:
    """The verdict, one sentence or two for each matter, the most important first."""
    measured = [b for arm in findings.arms if not arm.scratch for b in findings.budgets(arm)]
    if not measured:
        return [*_only_scratch(findings, words), _evidence(findings, words)]
    first, last = min(measured), max(measured)
    best, _ = findings.judged(first)
    said = [*_main(findings, words, best, first), *_rivals(findings, words, best, first)]
    said += list(_saved(findings, words, best, first))
    if last > first:
        said += _at_the_end(findings, words, last)
    said += _others(findings, words, best, first)
    said.append(_evidence(findings, words))
    return [*said, *_standing_of(findings, words, best, first, last)]


def _standing_of(findings: Findings, words: Words, best: Arm, first: int, last: int) -> Iterator[str]:
    """Which comparison counts, and what the others are."""
    at = f"at {words.labels(first)}"
    if findings.primary == best:
        yield f"The comparison of {words.title(best)} {at} was named beforehand; all others are exploratory."
    elif last > first or len(findings.pretrained(first)) > 1:
        yield f"The comparison {at} is the main one; the others are exploratory."


def _main(findings: Findings, words: Words, best: Arm, budget: int) -> list[str]:
    reference = Arm("scratch", best.encoder, "scratch")
    ours = findings.at(best, budget)
    start = f"With {words.labels(budget)}{_images(findings, budget)}, {words.arm(best)} reaches"
    title = TITLES[findings.metric]
    if not findings.has(reference, budget):
        alone = (
            f"{start} {title} {shown(ours)}; {best.encoder} was not trained from scratch, so there is no comparison."
        )
        return [alone]
    theirs = findings.at(reference, budget)
    note = "" if ours.reason else " (95% intervals in brackets)"
    first = f"{start} {title} {shown(ours)}; the same encoder from scratch reaches {shown(theirs)}{note}."
    _, arms = findings.judged(budget)
    contrast = findings.compare(best, reference, budget, picked_from=arms)
    rivals = _unbeaten(findings, words, best, budget) if verdict_of(contrast) == "better" else ""
    said = [first, _judged(contrast, rivals, findings.margin) + _widened(contrast, arms)]
    return said if _settled(contrast, findings.margin) else [*said, _wanted(findings, words, best, reference, budget)]


def _settled(contrast: Difference, margin: float) -> bool:
    """Whether more patients would tell nothing that matters: the arms differ, are equivalent, or cannot be judged."""
    return verdict_of(contrast) != "same" or equivalent(contrast, margin)


def _wanted(findings: Findings, words: Words, arm: Arm, other: Arm, budget: int) -> str:
    """How many more test patients would tell a difference that matters."""
    patients = len(np.unique(findings.results.test[0]))
    needed = findings.needed(arm, other, budget, picked_from=findings.judged(budget)[1])
    power, unit = f"with a chance of {POWER:.0%}", words.unit.removesuffix("s")
    aim = f"To tell a difference of {findings.margin:g} {power}"
    if not np.isfinite(needed):
        return f"{aim}, more test {unit}s alone would not do: seeds and pre-training runs vary too much."
    if needed <= patients:
        return f"A difference of {findings.margin:g} would have been told {power}; a smaller one may be there."
    return f"{aim}, about {roughly(needed - patients):,} more test {unit}s would be needed."


def _unbeaten(findings: Findings, words: Words, best: Arm, budget: int) -> str:
    """The other trainings from scratch that the arm is not shown to beat; they belong in the sentence of its gain."""
    longer, strongest = Arm("scratch", best.encoder, "scratch-2x"), findings.best_scratch(budget)
    names = {longer: "scratch trained twice as long"} if findings.has(longer, budget) else {}
    if strongest is not None and strongest.encoder != best.encoder:
        names[strongest] = words.arm(strongest)
    _, arms = findings.judged(budget)
    how = {arm: verdict_of(findings.compare(best, arm, budget, picked_from=arms)) for arm in names}
    ends = {"worse": "is better than it", "same": "cannot be told apart from it", "unknown": "cannot be judged"}
    return " and ".join(f"{names[arm]} {ends[found]}" for arm, found in how.items() if found != "better")


def _judged(contrast: Difference, rivals: str, margin: float) -> str:
    helps = f"Pre-training helps at equal steps, but {rivals}" if rivals else "Pre-training helps here"
    said = {
        "better": f"{helps}: the paired difference{' at equal steps' * bool(rivals)} is {gap(contrast)}",
        "worse": f"Pre-training hurts here: the paired difference is {gap(contrast)}",
        "same": f"The paired difference is {gap(contrast)}, {_alike(contrast, margin)}",
        "unknown": f"The difference is {gap(contrast)}, but {contrast.reason}: nothing can be concluded",
    }
    return said[verdict_of(contrast)]


def _alike(contrast: Difference, margin: float) -> str:
    if equivalent(contrast, margin):
        return f"all of it within {margin:g} of zero: by that margin the two are equivalent"
    return "which includes zero: the two cannot be told apart here"


def _widened(contrast: Difference, arms: int) -> str:
    if arms < 2 or contrast.low is None:
        return "."
    return f" (the interval is widened, because this arm was picked as the best of {arms})."


def _rivals(findings: Findings, words: Words, best: Arm, budget: int) -> Iterator[str]:
    """Scratch of the same encoder at twice the steps, and the best scratch there is."""
    longer = Arm("scratch", best.encoder, "scratch-2x")
    if findings.has(longer, budget):
        yield (
            f"Trained for twice the steps, scratch reaches {shown(findings.at(longer, budget))}; "
            f"{_against(findings, words, best, longer, budget)}."
        )
    strongest = findings.best_scratch(budget)
    if strongest is None or strongest.encoder == best.encoder:
        return
    yield (
        f"The best training from scratch is {words.arm(strongest)} with {shown(findings.at(strongest, budget))}; "
        f"{_against(findings, words, best, strongest, budget)}."
    )


def _against(findings: Findings, words: Words, arm: Arm, other: Arm, budget: int) -> str:
    contrast = findings.compare(arm, other, budget, picked_from=findings.judged(budget)[1])
    said = {
        "better": f"{words.title(arm)} is better by {gap(contrast)}",
        "worse": f"it beats {words.title(arm)} (difference {gap(contrast)})",
        "same": f"it and {words.title(arm)} cannot be told apart (difference {gap(contrast)})",
        "unknown": f"the difference to it is {gap(contrast)}, without an interval",
    }
    return said[verdict_of(contrast)]


def _saved(findings: Findings, words: Words, best: Arm, budget: int) -> Iterator[str]:
    references = [one for one in findings.references(best) if one.scratch]
    if not references:
        return
    saving = findings.saving(best, references[0], budget)
    yield labels_saved(saving, findings.budgets(references[0]), words) + "."
    for longer in references[1:]:
        yield f"Against scratch at twice the steps: {short(findings.saving(best, longer, budget))}."


def _at_the_end(findings: Findings, words: Words, budget: int) -> list[str]:
    best, arms = findings.judged(budget)
    reference = Arm("scratch", best.encoder, "scratch")
    start = f"With {words.labels(budget)}{_images(findings, budget)}, {words.arm(best)} reaches"
    reaches = f"{start} {shown(findings.at(best, budget))}"
    if not findings.has(reference, budget):
        return [f"{reaches}."]
    contrast = findings.compare(best, reference, budget, picked_from=arms)
    said = {
        "better": f"pre-training still helps, by {gap(contrast)}",
        "worse": f"pre-training hurts, by {gap(contrast)}",
        "same": f"the two cannot be told apart (difference {gap(contrast)})",
        "unknown": f"the difference is {gap(contrast)}, without an interval",
    }
    theirs = shown(findings.at(reference, budget))
    return [f"{reaches} and the same encoder from scratch {theirs}: {said[verdict_of(contrast)]}."]


def _others(findings: Findings, words: Words, best: Arm, budget: int) -> list[str]:
    """Every other pre-trained arm against scratch of its encoder, corrected for their number."""
    pairs = [(arm, Arm("scratch", arm.encoder, "scratch")) for arm in findings.pretrained(budget)]
    contrasts = {arm: findings.compare(arm, other, budget) for arm, other in pairs if findings.has(other, budget)}
    adjusted = dict(zip(contrasts, holm(np.array([c.p for c in contrasts.values()])), strict=True))
    groups: dict[str, list[str]] = {"better": [], "worse": [], "same": []}
    for arm, contrast in contrasts.items():
        if arm == best or verdict_of(contrast) == "unknown":
            continue
        groups[verdict_of(contrast) if adjusted[arm] < 0.05 else "same"].append(words.arm(arm))
    ends = {"better": "better than scratch", "worse": "worse than scratch", "same": "not told apart from scratch"}
    parts = [f"{listed(arms)} {'is' if len(arms) == 1 else 'are'} {ends[how]}" for how, arms in groups.items() if arms]
    if not parts:
        return []
    return [
        f"Of the other arms at that budget, {'; '.join(parts)} (Holm's correction over {len(contrasts)} comparisons)."
    ]


def _evidence(findings: Findings, words: Words) -> str:
    patients, _ = findings.results.test
    arms = [key for key in findings.results.runs if not key[0].scratch]
    seeds = len({key[2] for key in findings.results.runs})
    runs = len({key[3] for key in arms})
    folds = len({cell.fold for cell in findings.results.cells})
    rests = f"{count(runs, 'pre-training run')} per method and " if arms else ""
    tested = count(len(np.unique(patients)), f"test {words.unit.removesuffix('s')}")
    if len(np.unique(patients)) != len(patients):
        tested = f"{tested} ({count(len(patients), 'image')})"
    where = f", in {folds} folds of cross-validation" if folds > 1 else ""
    return f"This rests on {rests}{count(seeds, 'adaptation seed')}, and on {tested}{where}."


def _only_scratch(findings: Findings, words: Words) -> Iterator[str]:
    budget = min(b for _, b in findings.points.samples)
    best = findings.best_scratch(budget)
    if best is not None:
        score = f"{TITLES[findings.metric]} {shown(findings.at(best, budget))}"
        yield f"With {words.labels(budget)}, {words.arm(best)} reaches {score}; no pre-trained arm was compared."


def _images(findings: Findings, budget: int) -> str:
    """The images behind a budget, where they are more than the patients."""
    counts = {cell.budget_images for cell in findings.results.cells if cell.budget == budget}
    return f" ({round(np.mean(list(counts))):,} images)" if counts != {budget} else ""
