"""Files examined in worker processes, for an index that no single file can stop.

Workers are started as plain programs, so that nothing of the caller runs a second time (an unguarded script, a
notebook), and they end when the caller does. A worker that dies, in a decoder that crashes or for want of memory, costs
the file it was at; that one is tried once more, alone, when all others are done.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain
from pathlib import Path
from queue import Empty, Queue
from threading import Lock, Thread

from medprior.data import readers
from medprior.data.indexing.examining import Row, examine, refused
from medprior.data.indexing.process import Worker
from medprior.data.indexing.walk import File
from medprior.data.indexing.worker import Orders
from medprior.data.privacy import PatientKeys

SMALL = 1.0
"""Seconds of expected work up to which no process is started."""
PATIENCE, PATIENCE_PER_BYTE = 300.0, 1e-6
"""Seconds that one file may take: this, and one more per megabyte."""
_FILE_SECONDS, _BYTE_SECONDS = 1e-3, 1 / 30e6  # what a file takes, by and large
_CHUNK_FILES, _CHUNK_BYTES = 16, 64 << 20  # that a worker is given at once
_AHEAD = 32  # lots of answers that may wait to be taken up


def examined(root: Path, files: Sequence[File], workers: int | None, keys: PatientKeys) -> Generator[list[Row]]:
    """The rows of each file, as they are done: of few files in this process, of many in up to `workers` others.

    Close it (`contextlib.closing`) to stop early: the processes are ended at once.
    """
    count = _worth(files, workers)
    if not count:
        return _here(root, files, workers, keys)
    return _Crew(Orders(root, keys, PATIENCE, PATIENCE_PER_BYTE), files, count).answers()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _worth(files: Sequence[File], workers: int | None) -> int:
    """Processes that are worth their start."""
    seconds = len(files) * _FILE_SECONDS + sum(file.size for file in files) * _BYTE_SECONDS
    return min(workers or cores(), len(files)) if seconds > SMALL else 0


def _here(root: Path, files: Sequence[File], workers: int | None, keys: PatientKeys) -> Generator[list[Row]]:
    """On threads: decoders mostly release the interpreter."""
    pool = ThreadPoolExecutor(workers or cores())
    try:
        for job in as_completed([pool.submit(examine, file, root, keys) for file in files]):
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(files: Sequence[File], count: int) -> Iterator[list[File]]:
    """Neighbours together, as disks like to be read, in pieces small enough that all workers end at about one time."""
    most = max(1, min(_CHUNK_FILES, len(files) // (4 * count)))
    chunk: list[File] = []
    held = 0
    for file in files:
        if chunk and (len(chunk) == most or held + file.size > _CHUNK_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(file)
        held += file.size
    yield chunk


class _Crew:
    """Workers, a thread here to tend each, and the files that wait."""

    def __init__(self, orders: Orders, files: Sequence[File], count: int) -> None:
        self.orders = orders
        self.chunks = deque(_chunks(files, count))
        self.suspects: deque[File] = deque()
        self.done: Queue[list[list[Row]] | None] = Queue(_AHEAD)
        self.lock = Lock()
        self.workers: set[Worker] = set()
        self.over = False
        self.tenders = [Thread(target=self._tend, daemon=True) for _ in range(count)]

    def answers(self) -> Generator[list[Row]]:
        """The rows of each file, as they come."""
        try:
            for thread in self.tenders:
                thread.start()
            self._load()
            running = len(self.tenders)
            while running:
                answers = self.done.get()
                if answers is None:
                    running -= 1
                else:
                    yield from answers
            yield from self._left()
            for file in self.suspects:
                yield self._once_more(file)
        finally:
            self._dismiss()

    def _load(self) -> None:
        """What the caller will need takes some time to load: better while the processes start."""
        import pandas  # noqa: F401

        if any(file.family == "dicom" for chunk in tuple(self.chunks) for file in chunk):
            readers.reader("dicom")

    def _left(self) -> Iterator[list[Row]]:
        """What waits still because no process could be started or kept."""
        for file in chain.from_iterable(self.chunks):
            yield examine(file, self.orders.root, self.orders.keys)

    def _once_more(self, file: File) -> list[Row]:
        """A worker died over this file: whether it was the file's fault is seen when it is alone."""
        worker = self._hire()
        if worker is None:
            return refused(file, "the decoder crashed on this file")
        worker.ask([file])
        answers = worker.answers()
        found = refused(file, worker.death(file)) if answers is None else answers[0]
        self._fire(worker)
        return found

    def _tend(self) -> None:
        """Keep one worker in files, and take its answers; a new one where it dies."""
        given: deque[File] = deque()
        try:
            worker = self._hire()
            while worker and self._feed(worker, given):
                answers = worker.answers()
                if answers is None:
                    self._bury(worker, list(given))
                    given.clear()
                    worker = self._hire()
                else:
                    self.done.put(answers)
                    for _ in answers:
                        given.popleft()
            if worker:
                self._fire(worker)
        finally:
            self.done.put(None)

    def _feed(self, worker: Worker, given: deque[File]) -> bool:
        """More files before it has done the last, so that it never waits; whether there are any to be answered."""
        while len(given) < _CHUNK_FILES and (chunk := self._next()):
            worker.ask(chunk)
            given.extend(chunk)
        return bool(given)

    def _bury(self, worker: Worker, given: list[File]) -> None:
        if self.over:
            return
        file = given.pop(min(worker.died_over(), len(given) - 1))
        if given:
            self.chunks.appendleft(given)
        if worker.late():
            self.done.put([refused(file, worker.death(file))])
        else:
            self.suspects.append(file)
        self._fire(worker)

    def _next(self) -> list[File] | None:
        with self.lock:
            return self.chunks.popleft() if self.chunks and not self.over else None

    def _hire(self) -> Worker | None:
        """A new worker, or None where none can be started."""
        with self.lock:
            if self.over:
                return None
            try:
                worker = Worker(self.orders)
            except OSError:
                return None
            self.workers.add(worker)
        if worker.ready():
            return worker
        self._fire(worker)
        return None

    def _fire(self, worker: Worker) -> None:
        worker.end()
        with self.lock:
            self.workers.discard(worker)

    def _dismiss(self) -> None:
        """End all processes and the threads that tend them, wherever they are."""
        with self.lock:
            self.over = True
            working = list(self.workers)
        for worker in working:
            worker.process.kill()
        while any(thread.is_alive() for thread in self.tenders):
            try:
                self.done.get(timeout=0.01)
            except Empty:
                continue
        for worker in working:
            worker.end()
