"""Cells at work: one after the other, or one thread each in as many processes as there are cores.

Training steps of small encoders share two threads badly, and very badly on a machine with other work to do; processes
of one thread each do not wait for each other. A cell computes the same on its own as beside others.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import torch

from medprior.config import Settings
from medprior.data.store.pixels import PixelStore
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import RunError
from medprior.progress import Bar
from medprior.study.arms import Cell
from medprior.study.cells import Bench, run_cell
from medprior.training.device import settle, threads
from medprior.training.interrupt import Stop, check

POLL_SECONDS = 0.5


def worker_count(settings: Settings, device: torch.device) -> int:
    """Processes that work on cells: what was asked for, else one per core; a GPU is not shared."""
    if device.type == "cuda":
        return 1
    return settings.study.workers or os.cpu_count() or 1


def cell_threads(settings: Settings) -> int:
    """Threads of one cell: the same number however many cells run beside it."""
    return settings.study.threads or 1


def work_off(bench: Bench, cells: Sequence[Cell], bar: Bar, stop: Stop) -> None:
    """Run `cells` and save each as it is finished; `bar` advances by training steps.

    Raises:
        Interrupted: a stop was asked for; what is finished is saved.
        RunError: a process died.
    """
    count = min(worker_count(bench.settings, bench.store.device), len(cells))
    if count > 1:
        _in_processes(bench, cells, count, bar, stop)
        return
    with threads(cell_threads(bench.settings)):
        for cell in cells:
            check(stop)
            run_cell(bench, cell, stop=stop, tick=bar.advance).save(bench.cell_path(cell))


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


def _in_processes(bench: Bench, cells: Sequence[Cell], count: int, bar: Bar, stop: Stop) -> None:
    context = mp.get_context("spawn")  # a fork of a process that has computed on threads may hang
    done, asked = context.Value("q", 0), context.Event()
    luggage = replace(bench, store=None, ground=replace(bench.ground, store=None))  # type: ignore[arg-type]
    store = bench.ground.store
    pool = ProcessPoolExecutor(count, context, _arrive, (luggage, type(store), store.folder, done, asked))
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


def _arrive(
    luggage: Bench, kind: type[PixelStore | VolumeStore], folder: Path, done: Synchronized[int], asked: Event
) -> None:
    """Start of a worker: the pixels are opened anew, Ctrl-C is the parent's business."""
    global _here
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settle(cell_threads(luggage.settings))
    store = kind.open(folder)
    bench = replace(luggage, store=store.resident(torch.device("cpu")), ground=replace(luggage.ground, store=store))
    _here = _Here(bench, done, asked)


def _work(cell: Cell) -> None:
    assert _here is not None
    result = run_cell(_here.bench, cell, stop=_here.asked.is_set, tick=_here.tick)
    result.save(_here.bench.cell_path(cell))
