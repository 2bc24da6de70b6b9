"""A process that examines files for an index: files come in on standard input, their rows go out on standard output,
some files at once. At the begin of each it leaves a byte on standard error, for which nobody waits: it tells which file
it died over.

It imports no more than the readers need. It ends when its input ends, which the system sees to however the parent
ends, and when one file takes longer than it may, even inside a decoder that never returns.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO

from medprior.data.indexing.examining import Row, examine
from medprior.data.indexing.walk import File
from medprior.data.privacy import PatientKeys

READY = "ready"
START, BEGUN = b"\0", b"\1"
"""Marks on standard error: from here on all are marks; a file was begun."""
_TOGETHER, _KEPT_BACK = 8, 0.05
"""Files that are answered at once at most, and seconds that an answer may wait for others: each wakes the parent."""


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


def serve() -> None:
    """The process's end: answer each file that comes in, in order, with its rows."""
    answers, marks = os.fdopen(os.dup(1), "wb"), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what decoders print must not stand among the answers
        os.dup2(nowhere, stream)
    os.write(marks, START)
    orders: Orders = pickle.load(sys.stdin.buffer)
    _send(READY, answers)
    files: SimpleQueue[File] = SimpleQueue()
    Thread(target=_listen, args=(files,), daemon=True).start()
    try:
        _work(orders, files, marks, answers)
    finally:
        os._exit(1)  # a decoder asks to stop; an orderly end would wait for the input


def _work(orders: Orders, files: SimpleQueue[File], marks: int, answers: BinaryIO) -> None:
    done: list[list[Row]] = []
    since = 0.0
    while True:
        file = files.get()
        os.write(marks, BEGUN)
        since = since if done else time.monotonic()
        _alarm(orders.limit(file))
        done.append(examine(file, orders.root, orders.keys))
        _alarm(0)
        if len(done) == _TOGETHER or files.empty() or time.monotonic() - since > _KEPT_BACK:
            _send(done, answers)
            done = []


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
