"""Results made ahead of their use, by a few threads, in order and never more than a bounded number of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Generic, TypeVar

from medprior.errors import RunError

T = TypeVar("T")


class Prefetch(Generic[T]):
    """`make(step)` for the steps `first` to `last` (exclusive), made ahead by threads and taken in order.

    Args:
        make: called in a thread of its own, for several steps at once.
        threads: how many make at once.
        depth: how many results may at most lie ready or be in the making.

    Attributes:
        waited: seconds that `take` was blocked, all calls together.
    """

    def __init__(self, make: Callable[[int], T], first: int, last: int, *, threads: int, depth: int) -> None:
        self.waited = 0.0
        self._make, self._last, self._depth = make, last, depth
        self._claimed = self._taken = first
        self._made: dict[int, Future[T]] = {}
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max(1, min(threads, depth)))]
        for thread in self._threads:
            thread.start()

    def take(self, step: int) -> T:
        """The result of the next step; waits until it is there.

        Raises:
            RunError: it is not the next one, or this is closed.
            Exception: what `make` raised for this step; the steps after it can still be taken.
        """
        began = time.perf_counter()
        with self._changed:
            if step != self._taken or step >= self._last:
                what = f"step {step} was taken where {self._taken} of {self._last} is next"
                raise RunError(what, do="Take the steps in their order")
            self._changed.wait_for(lambda: self._closed or step in self._made)
            if self._closed:
                raise RunError(f"step {step} was taken from a closed queue", do="Make another one from this step on")
            made = self._made.pop(step)
            self._taken += 1
            self._changed.notify_all()
        self.waited += time.perf_counter() - began
        return made.result()

    def close(self) -> None:
        """Stop after what is in the making, drop what lies ready, and wait for the threads to end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._made.clear()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        while (step := self._claim()) is not None:
            made = _attempt(self._make, step)
            with self._changed:
                self._made[step] = made
                self._changed.notify_all()
            del made  # or one more result would live while the next step is waited for

    def _claim(self) -> int | None:
        """The next step to make once there is room for it; None when all are claimed, or closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended() or self._claimed - self._taken < self._depth)
            if self._ended():
                return None
            self._claimed += 1
            return self._claimed - 1

    def _ended(self) -> bool:
        return self._closed or self._claimed >= self._last


def _attempt(make: Callable[[int], T], step: int) -> Future[T]:
    """What `make` returned or raised."""
    made: Future[T] = Future()
    try:
        made.set_result(make(step))
    except BaseException as error:  # whatever it is, it belongs to the one who takes this step
        made.set_exception(error)
    return made
