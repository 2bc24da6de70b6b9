"""A process that examines files for an index: files come in on standard input, their rows go out on standard output.

It imports no more than the readers need. It ends when its input ends, which the system sees to however the parent
ends, and when one file takes longer than it may, even inside a decoder that never returns.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO, cast

from medprior.data.indexing.examining import Row, examine
from medprior.data.indexing.walk import File
from medprior.data.privacy import PatientKeys

_READY = "ready"
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


@dataclass(frozen=True)
class Orders:
    """What a worker is told once: where the files lie, how patients are named, and how long one file may take (seconds,
    and seconds more per byte)."""

    root: Path
    keys: PatientKeys
    patience: float
    patience_per_byte: float

    def limit(self, file: File) -> float:
        """Seconds that `file` may take."""
        return self.patience + self.patience_per_byte * file.size


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
            stderr=subprocess.DEVNULL,
            env=os.environ | _ONE_THREAD | _KEPT_MEMORY,
            bufsize=1 << 16,
        )
        self._into, self._out = cast(BinaryIO, self.process.stdin), cast(BinaryIO, self.process.stdout)
        self._orders = orders

    def ready(self) -> bool:
        """Wait until it has started; False where it has not."""
        self._tell(self._orders)
        return self._heard() == _READY

    def ask(self, files: Sequence[File]) -> None:
        """Give it files; that it has died is noticed when answers are taken."""
        self._tell(files)

    def answer(self) -> list[Row] | None:
        """The rows of the next file, in order; None when it died over it."""
        return cast("list[Row] | None", self._heard())

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
        for pipe in (self._into, self._out):
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


def serve() -> None:
    """The process's end: answer each file that comes in, in order, with its rows."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what decoders print must not stand among the answers
    orders: Orders = pickle.load(sys.stdin.buffer)
    _send(_READY, answers)
    files: SimpleQueue[File] = SimpleQueue()
    Thread(target=_listen, args=(files,), daemon=True).start()
    try:
        while True:
            file = files.get()
            _alarm(orders.limit(file))
            rows = examine(file, orders.root, orders.keys)
            _alarm(0)
            _send(rows, answers)
    finally:
        os._exit(1)  # a decoder asks to stop; an orderly end would wait for the input


def _alarm(seconds: float) -> None:
    """End this process in some seconds, whatever it is at; 0 for never. The system does it, where it can."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _listen(files: SimpleQueue[File]) -> None:
    """Take in what comes while files are decoded, and leave at once, whatever is being done, when the input ends."""
    try:
        while True:
            for file in pickle.load(sys.stdin.buffer):
                files.put(file)
    finally:
        os._exit(0)


def _send(answer: object, answers: BinaryIO) -> None:
    try:
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
    except OSError:
        os._exit(0)
