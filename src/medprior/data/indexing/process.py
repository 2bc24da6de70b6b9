"""The parent's end of a process that examines files; the other end is `medprior.data.indexing.worker`."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, cast

from medprior.data.indexing.examining import Row
from medprior.data.indexing.walk import File
from medprior.data.indexing.worker import READY, START, Orders

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS"), "1")
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
"""For glibc: memory of one slice is kept for the next. To get it anew takes as long as to look at the slice."""
_START = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
sys.path[:] = {path!r}
from medprior.data.indexing.worker import serve
serve()
"""


class Worker:
    """The parent's end of one process.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, orders: Orders) -> None:
        start = _START.format(path=[str(entry) for entry in sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | _ONE_THREAD | _KEPT_MEMORY,
            bufsize=1 << 16,
        )
        self._into, self._out = cast(BinaryIO, self.process.stdin), cast(BinaryIO, self.process.stdout)
        self._marks = cast(BinaryIO, self.process.stderr)
        self._orders = orders

    def ready(self) -> bool:
        """Wait until it has started; False where it has not."""
        self._tell(self._orders)
        while self._marks.read(1) not in (START, b""):  # past what Python may have said
            continue
        return self._heard() == READY

    def ask(self, files: Sequence[File]) -> None:
        """Give it files; that it has died is noticed when answers are taken."""
        self._tell(files)

    def answers(self) -> list[list[Row]] | None:
        """The rows of each of the next files, in order; None when it died over one of them."""
        found = cast("list[list[Row]] | None", self._heard())
        self._marks.read(len(found or ()))  # of files that are done
        return found

    def died_over(self) -> int:
        """Which of the files it has not answered it was at when it died, counted from 0."""
        return max(0, len(self._marks.read()) - 1)

    def late(self) -> bool:
        """Whether it died because a file took too long."""
        return hasattr(signal, "SIGALRM") and self.process.wait() == -signal.SIGALRM

    def death(self, file: File) -> str:
        """Why it died over `file`."""
        if self.late():
            return f"its decoder did not come to an end in {self._orders.limit(file):,.0f} seconds"
        if self.process.wait() == -9:
            return "its decoder was stopped by the system, most often for want of memory"
        return "the decoder crashed on this file"

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        for pipe in (self._into, self._out, self._marks):
            with suppress(OSError):
                pipe.close()
        self.process.wait()

    def _tell(self, what: object) -> None:
        with suppress(OSError):
            pickle.dump(what, self._into, pickle.HIGHEST_PROTOCOL)
            self._into.flush()

    def _heard(self) -> object:
        try:
            return pickle.load(self._out)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            return None
