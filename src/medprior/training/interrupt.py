"""Stopping between two steps: the first signal asks, the second one insists."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from medprior.errors import Interrupted

Stop = Callable[[], bool]


def never() -> bool:
    """No one asks to stop."""
    return False


def check(stop: Stop) -> None:
    """Raise Interrupted when a stop was asked for."""
    if stop():
        raise Interrupted("stopped", do="The same command resumes")


@contextmanager
def polite_stop() -> Iterator[Stop]:
    """While inside, Ctrl-C and SIGTERM only set a flag that the loops read between two steps.

    A second signal raises KeyboardInterrupt at once. Outside the main thread signals are left alone.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, old in before.items():
            signal.signal(number, old)
