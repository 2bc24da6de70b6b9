"""What every executor does, and how a thread count is kept to while one works on cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from medprior.progress import Bar
from medprior.study.arms import Cell
from medprior.study.cells import Bench
from medprior.training.device import settle, threads
from medprior.training.interrupt import Stop


class Executor(Protocol):
    """A way to work on cells. Each is saved when it is finished, so that one that was stopped leaves what it has."""

    def places(self) -> int:
        """How many cells are worked on side by side.

        Raises:
            RunError: the machines cannot be reached, or not be used.
        """

    def work_off(self, bench: Bench, cells: Sequence[Cell], bar: Bar, stop: Stop) -> None:
        """Run `cells` and save each; `bar` advances by training steps.

        Raises:
            Interrupted: a stop was asked for; what is finished is saved.
            RunError: a process died, or a machine was lost.
        """


@contextmanager
def narrow(count: int) -> Iterator[None]:
    """Compute on `count` threads inside, linear algebra included: sums of another number of threads round otherwise."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threads(count), threadpool_limits(count, user_api="blas"):
        yield


def stay_narrow(count: int) -> None:
    """The same to the end of this process, which does nothing else than to work on cells."""
    from threadpoolctl import threadpool_limits

    settle(count)
    threadpool_limits(count, user_api="blas")
