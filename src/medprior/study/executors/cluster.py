"""Cells as tasks of a Ray cluster: on as many machines as it has, on one that is left when another dies."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medprior.errors import RunError
from medprior.progress import Bar
from medprior.study.arms import Cell
from medprior.study.cells import Bench
from medprior.study.executors.connection import joined, said_plainly
from medprior.study.executors.errand import Parcel, work
from medprior.study.executors.luggage import Luggage
from medprior.study.executors.machines import Machine, Mark, ask_all, machines_of, marked
from medprior.training.interrupt import Stop, check

POLL_SECONDS = 1.0
GRACE_SECONDS = 10.0
"""How long a stop waits for cells to end."""
RETRIES = 3
"""How often a cell whose machine or process died is begun again."""


@dataclass(frozen=True)
class OnCluster:
    """Tasks of `threads` cores, each with a GPU if `on_gpu`, of the cluster at `address`; `out` is the study's folder.

    The bar advances by whole cells: ticks of single steps would be messages over the network.
    """

    address: str
    out: Path
    threads: int
    on_gpu: bool

    def places(self) -> int:
        """The cells all machines have room for; each of them is asked whether it can be used."""
        with joined(self.address) as ray, said_plainly(ray, self.out), marked(self.out) as mark:
            return sum(machine.places for machine in self._machines(ray, mark))

    def work_off(self, bench: Bench, cells: Sequence[Cell], bar: Bar, stop: Stop) -> None:
        """See `Executor`."""
        with joined(self.address) as ray, said_plainly(ray, self.out), marked(self.out) as mark:
            self._machines(ray, mark)
            parcel = Parcel(ray.put(pickle.dumps(Luggage.of(bench))), mark, self.threads, self.on_gpu)
            task = ray.remote(work).options(
                num_cpus=self.threads, num_gpus=int(self.on_gpu), max_retries=RETRIES, scheduling_strategy="SPREAD"
            )
            waiting = {task.remote(parcel, cell): cell for cell in cells}
            try:
                while waiting:
                    check(stop)
                    for done in self._finished(ray, list(waiting)):
                        bar.advance(bench.cost(waiting.pop(done)))
            finally:
                _end(ray, list(waiting))

    def _machines(self, ray: Any, mark: Mark) -> list[Machine]:
        found = self._alive(ray)
        ask_all(ray, found, mark)
        return found

    def _alive(self, ray: Any) -> list[Machine]:
        found = machines_of(ray.nodes(), self.threads, self.on_gpu)
        if not found:
            needs = f"{self.threads} CPUs{' and a GPU' if self.on_gpu else ''}"
            do = "Add such a machine, then repeat the command; finished cells are kept"
            raise RunError(f"no machine of the cluster has the {needs} of a cell", where=self.address, do=do)
        return found

    def _finished(self, ray: Any, waiting: list[Any]) -> list[Any]:
        """Tasks that ended well by now; it waits a moment for one.

        Raises:
            RunError: no machine is left that could work on the others; or as the cell said.
        """
        finished: list[Any]
        finished, _ = ray.wait(waiting, timeout=POLL_SECONDS)
        ray.get(finished)
        if not finished:
            self._alive(ray)
        return finished


def _end(ray: Any, tasks: list[Any]) -> None:
    """Stop tasks, those at work included; they clear up behind themselves."""
    with suppress(ray.exceptions.RayError, ConnectionError):
        for task in tasks:
            ray.cancel(task)
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=GRACE_SECONDS)
