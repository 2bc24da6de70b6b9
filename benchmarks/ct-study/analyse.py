"""The answers PLAN.md asks for, from the folders that run.sh fills: python benchmarks/ct-study/analyse.py OUT.

Writes answers.json, and of every part its results.csv and verdict.json, beside this file.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medprior.evaluation.intervals import Difference, difference, holm
from medprior.evaluation.luck import Sample
from medprior.study.results import Arm, CellResult, StudyResults
from medprior.study.verdict.findings import Findings, examine

HERE = Path(__file__).parent
PARTS = ("main", "doubled", "arms", "mr")


def findings_of(folder: Path) -> Findings:
    """AUROC of all finished cells of a study."""
    cells = [CellResult.load(path.with_suffix("")) for path in sorted((folder / "cells").glob("*.json"))]
    classes = max(2, cells[0].scores.reshape(len(cells[0].scores), -1).shape[1])
    results = StudyResults(cells, "binary" if classes == 2 else "multiclass", tuple(map(str, range(classes))))
    return examine(results, "auroc")


def loss(found: Findings, arm: Arm) -> Sample:
    """What an arm loses from the largest to the smallest budget, seed by seed."""
    budgets = found.budgets(arm)
    return found.sample(arm, budgets[-1]).minus(found.sample(arm, budgets[0]))


def said(arm: Arm) -> str:
    return f"{arm.name}@{arm.encoder}, {arm.adaptation}"


def primary(found: Findings, adaptation: str) -> Difference:
    """How much more SimCLR loses than SparK: above zero SparK loses less."""
    spark, simclr = (
        next(arm for arm in found.arms if (arm.name, arm.adaptation) == (name, adaptation))
        for name in ("spark", "simclr")
    )
    return difference(loss(found, simclr), loss(found, spark), found.smallest)


def against_scratch(found: Findings) -> list[dict[str, Any]]:
    """Every pre-trained arm beside its own scratch at equal steps, at the smallest budget, with Holm's correction."""
    rows = []
    for arm in (arm for arm in found.arms if not arm.scratch):
        scratch = next(a for a in found.arms if (a.encoder, a.adaptation) == (arm.encoder, "scratch"))
        budget = found.budgets(arm)[0]
        rows.append({"arm": said(arm), "budget": budget, **asdict(found.compare(arm, scratch, budget))})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(p)
    return rows


def long_enough(found: Findings, doubled: Findings) -> list[dict[str, Any]]:
    """Whether twice the pre-training moves a probe by less than half the width of its interval."""
    rows = []
    for arm in (arm for arm in doubled.arms if arm.adaptation == "probe"):
        for budget in found.budgets(arm):
            once, twice = found.at(arm, budget), doubled.at(arm, budget)
            half = (once.high - once.low) / 2
            moved = twice.value - once.value
            rows.append({"arm": said(arm), "budget": budget, "once": once.value, "twice": twice.value, "moved": moved,
                         "half_width": half, "long_enough": abs(moved) < half})  # fmt: skip
    return rows


def curves(found: Findings) -> list[dict[str, Any]]:
    """Every arm at every budget with its interval."""
    return [
        {"arm": said(arm), "budget": budget, **asdict(found.at(arm, budget))}
        for arm in found.arms
        for budget in found.budgets(arm)
    ]


def answers(out: Path) -> dict[str, Any]:
    """Everything that can be said of the parts that are there."""
    found = {part: findings_of(out / part) for part in PARTS if (out / part / "verdict.json").exists()}
    told: dict[str, Any] = {
        part: {"auroc": curves(one), "against_scratch": against_scratch(one)}
        for part, one in found.items()
        if part != "doubled"
    }
    if "main" in found:
        told["primary"] = {way: asdict(primary(found["main"], way)) for way in ("fine-tune", "probe")}
    if "doubled" in found:
        told["long_enough"] = long_enough(found["main"], found["doubled"])
    for part in found:
        (HERE / part).mkdir(exist_ok=True)
        for name in ("results.csv", "verdict.json"):
            shutil.copy(out / part / name, HERE / part / name)
    return told


if __name__ == "__main__":
    told = answers(Path(sys.argv[1]))
    (HERE / "answers.json").write_text(json.dumps(told, indent=1) + "\n")
    json.dump(told, sys.stdout, indent=1)
