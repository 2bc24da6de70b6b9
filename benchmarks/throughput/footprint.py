"""The memory of a process and its children together, watched from outside; pages that they share count once."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

EVERY = 0.5
"""Seconds between two looks: adding up the pages of a large process takes some milliseconds."""


class Footprint:
    """Watches until the process prints its first line; ends it when its time is up.

    Attributes:
        peak: most bytes at once, as proportional set sizes.
        first_line: when it came (`time.perf_counter`).
        killed: whether its time was up.
    """

    def __init__(self, process: subprocess.Popen[str], seconds: float | None) -> None:
        self.process, self.peak, self.killed = process, 0, False
        self.first_line = 0.0
        self._until = None if seconds is None else time.monotonic() + seconds
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Footprint:
        self._watcher.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self._watcher.join()
        self.first_line = self.first_line or time.perf_counter()

    def seen(self) -> bool:
        """A line came: time and memory are taken up to the first. Always true."""
        self.first_line = self.first_line or time.perf_counter()
        return True

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            if not self.first_line:
                self.peak = max(self.peak, sum(map(_proportional, _family(self.process.pid))))
            if self._until is not None and time.monotonic() > self._until:
                self.killed = True
                for pid in reversed(_family(self.process.pid)):
                    _end(pid)
                return


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = task.read_text().split()
        except OSError:  # it has ended meanwhile
            continue
        found += [one for child in below for one in _family(int(child))]
    return found


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _end(pid: int) -> None:
    import os
    import signal

    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
