"""How often do intervals hold the truth? python benchmarks/statistics/simulate.py OUT [--part arms] [--studies 5000].

PLAN.md says what is made up and counted. Each cell is one line of OUT/<part>.csv; the same command goes on.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from cohorts import Cohort, auroc_samples, dice_samples
from numpy.typing import NDArray

from medprior.evaluation.curves import needed_budget, rising
from medprior.evaluation.intervals import FEWEST, Interval, holm
from medprior.evaluation.luck import Sample
from medprior.study.results import Arm, Points
from medprior.study.verdict.findings import Findings

Array = NDArray[Any]
Cell = Mapping[str, Any]
Counts = dict[str, float]
OURS, SCRATCH = Arm("ours", "encoder", "fine-tune"), Arm("scratch", "encoder", "scratch")
BUDGETS = (10, 20, 40, 80, 160)
CURVES = {
    "rising": (0.65, 0.70, 0.75, 0.80, 0.85),
    "saturating": (0.70, 0.78, 0.82, 0.84, 0.845),
    "flat": (0.75,) * 5,
    "late": (0.60, 0.60, 0.65, 0.75, 0.85),
}


def findings_of(samples: Mapping[tuple[Arm, int], Sample], smallest: int) -> Findings:
    """What a verdict asks; too few patients are taken for just enough, so that their intervals can be counted, too."""
    points = Points(dict(samples), max(smallest, FEWEST))
    return Findings(None, points, "auroc")  # type: ignore[arg-type]


def held(found: Interval, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def two_arms(ours: Sample, theirs: Sample, truth: float, smallest: int) -> Counts:
    """What is counted of two arms that are equal in truth."""
    found = findings_of({(OURS, 20): ours, (SCRATCH, 20): theirs}, smallest)
    alone, apart = found.at(OURS, 20), found.compare(OURS, SCRATCH, 20)
    width = (alone.high or np.nan) - (alone.low or np.nan)
    return {
        "covered": held(alone, truth),
        "difference covered": held(apart, 0.0),
        "rejected": apart.p < 0.05,
        "width": width,
    }


def arms_cells() -> Iterator[Cell]:
    images = [(1, 0.0), (4, 0.0), (4, 0.5)]
    grid = itertools.product((0.7, 0.85, 0.95), (0.1, 0.3, 0.5), (30, 100, 300), images, (3, 5, 10), (0, 1))
    for auroc, prevalence, patients, (most, within), seeds, luck in grid:
        yield {"auroc": auroc, "prevalence": prevalence, "patients": patients, "images": most, "within": within,
               "seeds": seeds, "luck": luck}  # fmt: skip


def arms_study(cell: Cell, rng: np.random.Generator) -> Counts:
    cohort = cohort_of(cell)
    truths = np.full(2, cell["auroc"])
    ours, theirs = auroc_samples(rng, cohort, truths, cell["seeds"], cell["luck"])
    return two_arms(ours, theirs, cell["auroc"], cohort.smallest)


def dice_cells() -> Iterator[Cell]:
    for mean, patients, most, seeds, luck in itertools.product(
        (0.6, 0.8, 0.92), (10, 30, 100), (1, 3), (3, 5, 10), (0, 1)
    ):
        yield {"dice": mean, "patients": patients, "images": most, "seeds": seeds, "luck": luck}


def dice_study(cell: Cell, rng: np.random.Generator) -> Counts:
    (ours, theirs), truth = dice_samples(
        rng, cell["patients"], cell["images"], cell["dice"], 2, cell["seeds"], cell["luck"]
    )
    return two_arms(ours, theirs, truth, cell["patients"])


def saved_cells() -> Iterator[Cell]:
    places = ("10", "20", "40", "80", "above", "below")
    for curve, place, patients, seeds, luck in itertools.product(CURVES, places, (100, 300), (3, 10), (0, 1)):
        yield {"curve": curve, "place": place, "patients": patients, "prevalence": 0.3, "seeds": seeds, "luck": luck}


def saved_study(cell: Cell, rng: np.random.Generator) -> Counts:
    """The truth is the set of budgets at which the true curve has the arm's true score."""
    curve, cohort = np.array(CURVES[cell["curve"]]), cohort_of(cell)
    at = {"above": curve[-1] + 0.03, "below": curve[0] - 0.03}
    ours = at.get(cell["place"]) or curve[BUDGETS.index(int(cell["place"]))]
    samples = auroc_samples(rng, cohort, np.array([*curve, ours]), cell["seeds"], cell["luck"])
    table = {(SCRATCH, budget): sample for budget, sample in zip(BUDGETS, samples, strict=False)} | {
        (OURS, 20): samples[-1]
    }
    found = findings_of(table, cohort.smallest).saving(OURS, SCRATCH, 20)
    (least,), (most,) = needed_budget(np.array(BUDGETS), rising(curve[None]), np.array([ours]))
    rounding = 1e-9
    return {
        "covered": found.low * 20 <= least + rounding and found.high * 20 >= most - rounding,
        "open below": found.low == 0,
        "open above": bool(np.isinf(found.high)),
    }


def many_cells() -> Iterator[Cell]:
    for auroc, luck in itertools.product((0.7, 0.85), (0, 1)):
        yield {"auroc": auroc, "prevalence": 0.3, "patients": 100, "seeds": 5, "luck": luck}


def many_study(cell: Cell, rng: np.random.Generator) -> Counts:
    cohort = cohort_of(cell)
    samples = auroc_samples(rng, cohort, np.full(6, cell["auroc"]), cell["seeds"], cell["luck"])
    arms = [Arm(f"arm{k}", "encoder", "fine-tune") for k in range(5)]
    found = findings_of({(arm, 20): s for arm, s in zip([SCRATCH, *arms], samples, strict=True)}, cohort.smallest)
    contrasts = [found.compare(arm, SCRATCH, 20) for arm in arms]
    picked = found.compare(found.pretrained(20)[0], SCRATCH, 20, picked_from=len(arms))
    return {
        "any rejected (Holm)": bool((holm(np.array([one.p for one in contrasts])) < 0.05).any()),
        "picked leaves out 0": not held(picked, 0.0),
    }


def cohort_of(cell: Cell) -> Cohort:
    positives = round(cell["patients"] * cell["prevalence"])
    return Cohort(cell["patients"], positives, cell.get("images", 1), cell.get("within", 0.0))


@dataclass(frozen=True)
class Part:
    cells: Callable[[], Iterator[Cell]]
    study: Callable[[Cell, np.random.Generator], Counts]


PARTS = {
    "arms": Part(arms_cells, arms_study),
    "dice": Part(dice_cells, dice_study),
    "saved": Part(saved_cells, saved_study),
    "many": Part(many_cells, many_study),
}


def work(job: tuple[str, Cell, int]) -> tuple[Cell, Counts]:
    """All studies of a cell; their seed is a hash of its name."""
    name, cell, studies = job
    rng = np.random.default_rng(zlib.crc32(f"{name} {sorted(cell.items())}".encode()))
    rows = [PARTS[name].study(cell, rng) for _ in range(studies)]
    return cell, {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def run(name: str, out: Path, studies: int, workers: int, every: int) -> None:
    cells = list(PARTS[name].cells())[::every]
    file = out / f"{name}.csv"
    done = {tuple(row[key] for key in cells[0]) for row in csv.DictReader(file.open())} if file.exists() else set()
    jobs = [(name, cell, studies) for cell in cells if tuple(map(str, cell.values())) not in done]
    with Pool(workers) as pool:
        for number, (cell, counts) in enumerate(pool.imap_unordered(work, jobs), start=1):
            line = {**cell, "studies": studies, **{key: f"{value:.4f}" for key, value in counts.items()}}
            new = not file.exists()
            with file.open("a", newline="") as stream:
                writer = csv.DictWriter(stream, list(line), lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(line)
            print(f"{name}: {number} of {len(jobs)}", end="\r", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="look at every so many cells alone, for a try")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for part in asked.part or PARTS:
        run(part, asked.out, asked.studies, asked.workers, asked.every)
