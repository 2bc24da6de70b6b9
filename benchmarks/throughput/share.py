"""medprior's whole step beside a bare loop, in turn in one process; alone, or as a part of `ours.py`.

    python benchmarks/throughput/share.py --out benchmarks/throughput/cpu.json --only simclr-64 --pairs 24

A bare loop is the same model with a loop as one writes it by hand, on views that were made once. What is measured
alone takes the place, in the table, of what the runs of the whole comparison say.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as the command line sets it

import numpy as np
import torch
from clock import Clock
from images import write_pngs
from jobs import CPU, Task

from medprior.data.catalog import build_catalog
from medprior.files import write_json
from medprior.training.benchmark import WARM, prepared
from medprior.training.benchtrainer import Asked, build_store, make_trainer
from medprior.training.device import computing, precision
from medprior.training.loop import Trainer
from medprior.training.run import environment

PAIRS = {"cpu": (1, 24), "cuda": (20, 5)}
"""Steps of either side that are timed at a time, and how many pairs. On a CPU single steps: within seconds the speed of
a machine drifts by more than what is measured here. A GPU needs many: at each mark it is waited for."""


@dataclass(frozen=True)
class Beside:
    """Images per second of whole steps and of a bare loop, side by side."""

    whole: tuple[float, ...]
    bare: tuple[float, ...]

    @classmethod
    def of(cls, trainer: Trainer, steps: int, pairs: int) -> Beside:
        """`steps` of each at a time, `pairs` times, in an order that is turned round every time."""
        alone = bare_loop(trainer)
        for work in (trainer.step, alone) * WARM:
            work()
        rates: dict[Callable[[], object], list[float]] = {trainer.step: [], alone: []}
        for pair in range(pairs):
            for work in list(rates) if pair % 2 == 0 else list(rates)[::-1]:
                rates[work].append(rate(work, steps, trainer))
        return cls(tuple(rates[trainer.step]), tuple(rates[alone]))

    def told(self) -> dict[str, Any]:
        """Plain data: the median of the ratios, its 95% interval by bootstrap, and every rate."""
        ratios = np.divide(self.whole, self.bare)
        drawn = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
        share = {"share_of_bare": float(np.median(ratios)), "share_between": interval(np.median(drawn, axis=1))}
        return {**share, "bare": statistics.median(self.bare), "rates": {"whole": self.whole, "bare": self.bare}}


def interval(values: np.ndarray) -> list[float]:
    """The middle 95% of the values."""
    return [float(value) for value in np.percentile(values, (2.5, 97.5))]


def bare_loop(trainer: Trainer) -> Callable[[], object]:
    """A step as one writes it by hand, on the first views of the trainer; it moves no weight."""
    made = prepared(trainer)
    optimizer = torch.optim.AdamW([w for w in trainer.method.parameters() if w.requires_grad], lr=0.0, fused=True)
    loss_of = torch.compile(trainer.method) if trainer.device.type == "cuda" else trainer.method

    def step() -> None:
        with precision(trainer.device):
            loss = loss_of(made.views, made.batch)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def rate(work: Callable[[], object], steps: int, trainer: Trainer) -> float:
    """Images per second of `steps` times the work; more than one after some that do not count: queues drain."""
    clock = Clock(trainer.device.type)
    warm = WARM if steps > 1 else 0
    for number in range(warm + steps):
        if number == warm:
            clock.mark()
        work()
    return trainer.sampler.batch_size * steps / clock.mark()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON of the comparison on CPUs; all else in it is kept"
    )
    parser.add_argument(
        "--only", default="simclr-64", help="tasks, with commas: " + ", ".join(task.name for task in CPU)
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "medprior-throughput")
    parser.add_argument("--pairs", type=int, default=PAIRS["cpu"][1])
    parser.add_argument("--add", action="store_true", help="to the pairs that are there, of the same code")
    asked = parser.parse_args()
    tasks = {task.name: task for task in CPU}
    for name in asked.only.split(","):
        found, results = measured(tasks[name], asked.work, asked.pairs), json.loads(asked.out.read_text())
        shares = results.setdefault("shares", {})
        if asked.add and name in shares:
            before = shares[name]["rates"]
            found = Beside((*before["whole"], *found.whole), (*before["bare"], *found.bare))
        shares[name] = {**found.told(), "environment": environment()}
        print(
            f"{name}: {shares[name]['share_of_bare']:.1%} of a bare loop, {shares[name]['share_between']}", flush=True
        )
        write_json(asked.out, results)


def measured(task: Task, work: Path, pairs: int) -> Beside:
    """One task on the CPU."""
    folder = work / f"{task.dims}d-{task.side}-{task.images}"
    write_pngs(folder, task.images, task.side)
    with computing(), tempfile.TemporaryDirectory(dir=work) as place:
        store = build_store(build_catalog(folder), Path(place) / "store", task.stored, task.dims)
        how = Asked(task.method, task.preset, task.backbone, task.size, task.dims, task.batch, steps=pairs, repeats=2)
        trainer = make_trainer(how, store, torch.device("cpu"))
        try:
            return Beside.of(trainer, 1, pairs)
        finally:
            trainer.close()


if __name__ == "__main__":
    main()
