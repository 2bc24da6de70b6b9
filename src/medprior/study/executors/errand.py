"""What a process of the cluster is sent to do. Importing this file is light: Ray's own processes open what passes them,
and need no PyTorch for that."""

from __future__ import annotations

import pickle
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medprior.study.arms import Cell
from medprior.study.executors.machines import Mark, unseen

if TYPE_CHECKING:
    from medprior.study.cells import Bench


@dataclass(frozen=True)
class Parcel:
    """What comes with every cell.

    Attributes:
        luggage: where the cluster keeps the pickled `Luggage`, which a process fetches once.
        mark: in the study's folder.
        threads: CPU threads to compute on.
        on_gpu: whether Ray has set a GPU aside for this process.
    """

    luggage: Any
    mark: Mark
    threads: int
    on_gpu: bool


_here: tuple[Mark, Bench] | None = None
"""What this process keeps between its cells."""


def work(parcel: Parcel, cell: Cell) -> None:
    """Run one cell and save it."""
    from medprior.study.cells import run_cell

    global _here
    if _here is None or _here[0] != parcel.mark:
        _here = parcel.mark, _unpacked(parcel)
    bench = _here[1]
    run_cell(bench, cell).save(bench.cell_path(cell))


def _unpacked(parcel: Parcel) -> Bench:
    """The bench of a process that has just begun, maybe on a machine that came later than the others."""
    import ray
    import torch

    from medprior.study.executors.executor import stay_narrow

    if not parcel.mark.seen():
        raise unseen(parcel.mark.path.parent, [platform.node()])
    stay_narrow(parcel.threads)
    bench: Bench = pickle.loads(ray.get(parcel.luggage)).unpack(torch.device("cuda:0" if parcel.on_gpu else "cpu"))
    return bench
