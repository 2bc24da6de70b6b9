"""How fast a method trains here, and where the time of an image goes: end to end, the bare step, the views."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from medprior.data.store.resident import Stored
from medprior.errors import RunError
from medprior.methods.method import Batch, Clock
from medprior.progress import Progress, silent
from medprior.training.feed import Feed
from medprior.training.flops import matmul_rate, peak_memory, synchronise
from medprior.training.loop import Trainer
from medprior.views.view import View

if TYPE_CHECKING:
    from medprior.views.window import Crops

WARM = 3
"""Steps before every measurement that are not timed: caches fill, queues drain, kernels are chosen and compiled."""
PARTS = ("end_to_end", "step", "views", "matmul")


@dataclass(frozen=True)
class Measured:
    """The values of all repeats, in their order: images per second, per cent, or operations per second."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def told(self) -> dict[str, Any]:
        """Plain data: the median, the range, and every value."""
        return {"median": self.median, "min": min(self.values), "max": max(self.values), "values": list(self.values)}


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        end_to_end: images per second of whole steps: scans fetched, views made, loss, gradients, update.
        step: images per second of the same step on views that were made once.
        views: images per second of making the views alone.
        matmul: operations per second of a large matrix product.
        wait: per cent of the whole steps that was spent waiting for scans.
        flops: operations of the model for one image, forward and backward.
        memory: most bytes at once, or None where no one counts.
    """

    end_to_end: Measured
    step: Measured
    views: Measured
    matmul: Measured
    wait: Measured
    flops: float
    memory: int | None

    @property
    def share_of_step(self) -> float:
        """End to end over the bare step, the median of ratios taken side by side."""
        return statistics.median(a / b for a, b in zip(self.end_to_end.values, self.step.values, strict=True))

    @property
    def limit(self) -> float:
        """Operations per second that the device was seen to reach: the fastest matrix product."""
        return max(self.matmul.values)

    def utilisation(self, part: Measured) -> float:
        """Share of the limit that the model's own operations reach at the rate of `part`."""
        return self.flops * part.median / self.limit

    def told(self) -> dict[str, Any]:
        """Plain data."""
        measured = {name: getattr(self, name).told() for name in (*PARTS, "wait")}
        return {
            **measured,
            "share_of_step": self.share_of_step,
            "flops_per_image": self.flops,
            "limit": self.limit,
            "utilisation": self.utilisation(self.end_to_end),
            "step_utilisation": self.utilisation(self.step),
            "peak_memory_bytes": self.memory,
        }


def measure(trainer: Trainer, flops: float, *, steps: int, repeats: int, progress: Progress = silent) -> Speed:
    """Time whole steps, bare steps, views and matrix products in turn, `steps` of each, in an order that is reversed
    at every repeat, so that other work on the machine falls on all alike.

    Args:
        flops: operations of the model for one image.

    Raises:
        RunError: the memory is too small.
    """
    found: dict[str, list[float]] = {name: [] for name in (*PARTS, "wait")}
    with enough_memory(trainer.plan.batch_size), progress.task("Measuring", repeats * len(PARTS), "parts") as bar:
        ways = _ways(trainer, steps, found["wait"])
        for repeat in range(repeats):
            for name in PARTS if repeat % 2 == 0 else reversed(PARTS):
                bar.note(name.replace("_", " "))
                found[name].append(ways[name]())
                bar.advance()
        bar.note("")
    measured = {name: Measured(tuple(values)) for name, values in found.items()}
    return Speed(**measured, flops=flops, memory=peak_memory(trainer.device))


def steps_needed(steps: int, repeats: int) -> int:
    """Steps that the plan of a trainer must have to be measured so."""
    return (steps + WARM) * (repeats + 1)


def _ways(trainer: Trainer, steps: int, waits: list[float]) -> dict[str, Callable[[], float]]:
    batch = trainer.sampler.batch_size

    def whole() -> float:
        seconds, waited = _timed(trainer.step, steps, trainer.device, lambda: trainer.wait)
        waits.append(100 * waited / seconds)
        return batch * steps / seconds

    made = prepared(trainer)

    def rate(work: Callable[[], object]) -> float:
        return batch * steps / _timed(work, steps, trainer.device)[0]

    return {
        "end_to_end": whole,
        "step": lambda: rate(lambda: trainer.learn(made.views, made.batch)),
        "views": lambda: rate(lambda: trainer.see(made.scans, made.batch.step)),
        "matmul": lambda: matmul_rate(trainer.device),
    }


def _timed(
    work: Callable[[], object], steps: int, device: torch.device, counter: Callable[[], float] = lambda: 0.0
) -> tuple[float, float]:
    """Seconds of `steps` times the work, and by how much the counter grew meanwhile; the warm-up is in neither."""
    for _ in range(WARM):
        work()
    synchronise(device)
    before, began = counter(), time.perf_counter()
    for _ in range(steps):
        work()
    synchronise(device)
    return time.perf_counter() - began, counter() - before


@dataclass(frozen=True)
class Prepared:
    """One batch made once, to repeat parts of a step on: its scans, their views, and what else a method is given."""

    scans: Stored | Crops
    views: Sequence[View]
    batch: Batch


def prepared(trainer: Trainer) -> Prepared:
    """The first batch of a trainer, whose own steps are not moved by it."""
    scans = first_scans(trainer, trainer.sampler.batch_size)
    batch = Batch(index=scans.index, seed=trainer.plan.seed, clock=Clock(0, trainer.plan.steps))
    return Prepared(scans, trainer.see(scans, batch.step)[0], batch)


def first_scans(trainer: Trainer, count: int) -> Stored | Crops:
    """`count` of the scans that a trainer draws from, as it would fetch them."""
    sampler, seed = replace(trainer.sampler, batch_size=count), trainer.plan.seed
    with closing(Feed(trainer.store, sampler, trainer.views, seed, first=0, last=1, threads=1)) as feed:
        return feed.take(0)


@contextmanager
def enough_memory(batch: int) -> Iterator[None]:
    """Say plainly that the memory is too small.

    Raises:
        RunError: it is.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise _too_small(batch) from None
    except RuntimeError as error:
        if "not enough memory" not in str(error) and "allocate memory" not in str(error):
            raise
        raise _too_small(batch) from None


def _too_small(batch: int) -> RunError:
    return RunError(
        f"the memory is too small for {batch} images a step",
        where="--batch",
        do="Measure a smaller batch, a smaller size or a smaller backbone",
    )
