"""How often do intervals hold the truth? python benchmarks/statistics/simulate.py OUT [--part arms] [--studies 5000].

PLAN.md says what is made up and counted. Each cell is one line of OUT/<part>.csv; the same command goes on. All studies
of a cell are worked out at once (`batched`), and the first of them by medprior's own functions, too: the two have to
agree, or the run stops.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import arms
import counted
import grid
import numpy as np
from batched import Batch
from cohorts import Made
from counted import Counts
from grid import Cell
from measured import Measured, aurocs, dices
from numpy.typing import NDArray

from medprior.evaluation.luck import Sample
from medprior.training.heap import keep_freed

Array = NDArray[Any]
CHUNK = 50_000
"""Scores that are made at a time: few enough to stay in the processor's cache."""
CHECKED = 20
"""Studies of each cell that medprior's own functions work out, too."""
CLOSE = 1e-9


@dataclass(frozen=True)
class Part:
    """`many` counts in all studies at once, `alone` in one; `columns` are what a table holds of it."""

    cells: Callable[[], Iterator[Cell]]
    measure: Callable[[Made], Measured]
    sample: Callable[[Array, Array, Cell], Sample]
    many: Callable[[Cell, Batch], Counts]
    alone: Callable[[Cell, Sequence[Sample]], Counts]
    columns: tuple[str, ...]


TWO = ("covered", "difference covered", "rejected", "width")
PARTS = {
    "many": Part(
        grid.many, aurocs, counted.auroc_sample, counted.many, counted.many_alone,
        ("any rejected (Holm)", "picked leaves out 0"),
    ),
    "dice": Part(grid.dice, dices, counted.dice_sample, counted.two_arms, counted.two_arms_alone, TWO),
    "saved": Part(
        grid.saved, aurocs, counted.auroc_sample, counted.saved, counted.saved_alone,
        ("covered", "open below", "open above"),
    ),
    "arms": Part(grid.arms, aurocs, counted.auroc_sample, counted.two_arms, counted.two_arms_alone, TWO),
}  # fmt: skip


def make(cell: Cell, rng: np.random.Generator, studies: int) -> Made:
    cohort, seeds, luck = grid.cohort_of(cell), cell["seeds"], cell["luck"]
    if "dice" in cell:
        return arms.outlined(rng, studies, cohort, cell["dice"], seeds, luck)
    return arms.classified(rng, studies, cohort, grid.truths(cell), seeds, luck)


def seeds_of(name: str, cell: Cell, studies: int) -> Iterator[tuple[list[int], int]]:
    """The seed of each chunk of a cell, a hash of its name and the chunk's number, and how many studies it makes."""
    points = 2 if "dice" in cell else len(grid.truths(cell))
    each = max(1, int(CHUNK / (points * cell["seeds"] * grid.cohort_of(cell).typical)))
    hashed = zlib.crc32(f"{name} {sorted(cell.items())}".encode())
    for number, first in enumerate(range(0, studies, each)):
        yield [hashed, number], min(each, studies - first)


def work(job: tuple[str, Cell, int]) -> tuple[Cell, Counts]:
    """All studies of a cell. Raises AssertionError where medprior's own functions say something else of a study."""
    name, cell, studies = job
    part, batches, alone = PARTS[name], [], []
    for seed, count in seeds_of(name, cell, studies):
        made = make(cell, np.random.Generator(np.random.SFC64(seed)), count)
        batches.append(Batch.of(part.measure(made), counted.smallest(cell)))
        for study in range(min(count, CHECKED - len(alone))):
            scores, owner = made.one(study)
            counts = part.alone(cell, [part.sample(of_arm, owner, cell) for of_arm in scores])
            alone.append((f"study {study} of seed {seed}", counts))
    found = part.many(cell, Batch.joined(batches))
    for place, (study, counts) in enumerate(alone):
        agree(f"{name} {dict(cell)}, {study}", {key: value[place] for key, value in found.items()}, counts)
    return cell, found


def agree(where: str, ours: Counts, theirs: Counts) -> None:
    for key, (value,) in theirs.items():
        same = np.allclose(ours[key], value, rtol=CLOSE, atol=CLOSE, equal_nan=True)
        assert same, f"{where}: {key} is {ours[key]} here, and {value} by medprior itself"


def run(name: str, out: Path, studies: int, workers: int, every: int) -> None:
    cells = list(PARTS[name].cells())[::every]
    file = out / f"{name}.csv"
    done = {tuple(row[key] for key in cells[0]) for row in csv.DictReader(file.open())} if file.exists() else set()
    jobs = [(name, cell, studies) for cell in cells if tuple(map(str, cell.values())) not in done]
    with Pool(workers, keep_freed) as pool:
        for number, (cell, counts) in enumerate(pool.imap_unordered(work, jobs), start=1):
            rates = {key: f"{counts[key].mean():.4f}" for key in PARTS[name].columns}
            line = {**cell, "studies": studies, **rates}
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
