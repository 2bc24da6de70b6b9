"""Cells side by side in processes of this machine: on its cores, or one on each of its GPUs.

Training steps of small encoders share two threads badly, and very badly on a machine with other work to do; processes
of one thread each do not wait for each other. A cell computes the same on its own as beside others.
"""

from __future__ import annotations

import multiprocessing as mp
import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event

import torch

from medprior.errors import RunError
from medprior.progress import Bar
from medprior.study.arms import Cell
from medprior.study.cells import Bench, run_cell
from medprior.study.executors.executor import stay_narrow
from medprior.study.executors.luggage import Luggage
from medprior.training.interrupt import Stop

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class InProcesses:
    """As many processes as `devices`, each on its own one of them, of `threads` threads."""

    devices: tuple[torch.device, ...]
    threads: int

    def places(self) -> int:
        """One per process."""
        return len(self.devices)

    def work_off(self, bench: Bench, cells: Sequence[Cell], bar: Bar, stop: Stop) -> None:
        """See `Executor`."""
        context = mp.get_context("spawn")  # a fork of a process that has computed on threads may hang
        done, asked, free = context.Value("q", 0), context.Event(), context.SimpleQueue()
        for device in self.devices:
            free.put(str(device))
        start = (Luggage.of(bench), self.threads, free, done, asked)
        pool = ProcessPoolExecutor(len(self.devices), context, _arrive, start)
        told = 0
        try:
            waiting: set[Future[None]] = {pool.submit(_work, cell) for cell in cells}
            while waiting:
                finished, waiting = wait(waiting, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                bar.advance(done.value - told)
                told = done.value
                if stop():
                    asked.set()
                for future in finished:
                    future.result()
        except BrokenProcessPool:
            what = "a process that trained a cell died, most often for want of memory"
            do = "Repeat the command with --set study.workers=1; finished cells are kept"
            raise RunError(what, where=str(bench.out), do=do) from None
        finally:
            asked.set()
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class _Here:
    """What a worker process keeps between its cells."""

    bench: Bench
    done: Synchronized[int]
    asked: Event

    def tick(self) -> None:
        with self.done.get_lock():
            self.done.value += 1


_here: _Here | None = None


def _arrive(luggage: Luggage, threads: int, free: SimpleQueue[str], done: Synchronized[int], asked: Event) -> None:
    """Start of a worker: it takes a device, the pixels are opened anew, Ctrl-C is the parent's business."""
    global _here
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stay_narrow(threads)
    _here = _Here(luggage.unpack(torch.device(free.get())), done, asked)


def _work(cell: Cell) -> None:
    assert _here is not None
    result = run_cell(_here.bench, cell, stop=_here.asked.is_set, tick=_here.tick)
    result.save(_here.bench.cell_path(cell))
