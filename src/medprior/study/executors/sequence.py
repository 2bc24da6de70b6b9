"""One cell after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medprior.progress import Bar
from medprior.study.arms import Cell
from medprior.study.cells import Bench, run_cell
from medprior.study.executors.executor import narrow
from medprior.training.interrupt import Stop, check


@dataclass(frozen=True)
class InSequence:
    """Cells of `threads` threads each, on the device and the pixels that this process holds."""

    threads: int

    def places(self) -> int:
        """One."""
        return 1

    def work_off(self, bench: Bench, cells: Sequence[Cell], bar: Bar, stop: Stop) -> None:
        """See `Executor`."""
        with narrow(self.threads):
            for cell in cells:
                check(stop)
                run_cell(bench, cell, stop=stop, tick=bar.advance).save(bench.cell_path(cell))
