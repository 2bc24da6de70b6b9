"""Who works on the cells of a study: this process, several, or a cluster. The results are the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from medprior.config import Settings
from medprior.progress import Bar
from medprior.study.arms import Cell
from medprior.study.cells import Bench
from medprior.study.executors.cluster import OnCluster
from medprior.study.executors.connection import check_installed
from medprior.study.executors.devices import devices_for
from medprior.study.executors.executor import Executor
from medprior.study.executors.processes import InProcesses
from medprior.study.executors.sequence import InSequence
from medprior.training.interrupt import Stop


def check_workers(settings: Settings) -> None:
    """Refuse workers that this installation does not have.

    Raises:
        SettingsError: a cluster was asked for, and Ray is not installed.
    """
    if isinstance(settings.study.workers, str):
        check_installed()


def cell_threads(settings: Settings) -> int:
    """Threads of one cell: the same number however many cells run beside it."""
    return settings.study.threads or 1


def worker_count(settings: Settings, device: torch.device, out: Path) -> int:
    """Cells that are worked on side by side; the machines of a cluster are asked.

    Raises:
        RunError: the cluster cannot be reached, or not be used.
    """
    return _executor(settings, device, out).places()


def work_off(bench: Bench, cells: Sequence[Cell], bar: Bar, stop: Stop) -> None:
    """Run `cells` and save each as it is finished; `bar` advances by training steps.

    Raises:
        Interrupted: a stop was asked for; what is finished is saved.
        RunError: a process died, or the cluster cannot be used.
    """
    _executor(bench.settings, bench.store.device, bench.out, len(cells)).work_off(bench, cells, bar, stop)


def _executor(settings: Settings, device: torch.device, out: Path, most: int | None = None) -> Executor:
    """The one that was asked for, with no more processes than the `most` that have work."""
    asked, count = settings.study.workers, cell_threads(settings)
    if isinstance(asked, str):
        return OnCluster(asked, out, count, device.type == "cuda")
    devices = devices_for(device, torch.cuda.device_count(), os.cpu_count() or 1, asked)[:most]
    return InProcesses(devices, count) if len(devices) > 1 else InSequence(count)
