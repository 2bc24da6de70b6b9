"""Files of pixels, read without mapping them: one that is cut short in use gives an error and never kills the process.

The system keeps what was read in its memory, once for all processes.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medprior.data.store import files
from medprior.data.store.plan import StorePlan
from medprior.errors import StoreError

_AT_ONCE = 256  # rows in one call to the system, which takes at most 1,024
_STRIDE = 1 << 20  # bytes read ahead at a time


class PixelFile:
    """The open file of a pixel store; threads may share it.

    Raises:
        StoreError: it is gone, or not as long as it was.
    """

    def __init__(self, folder: Path, plan: StorePlan) -> None:
        self.folder, self.plan = folder, plan
        files.check_length(folder, plan)
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise self._useless(f"cannot be opened ({error.strerror})") from None
        weakref.finalize(self, os.close, self._descriptor)

    @property
    def path(self) -> Path:
        """Where it lies."""
        return files.pixels_file(self.folder, self.plan)

    def read(self, rows: NDArray[np.int64], into: NDArray[np.uint8]) -> None:
        """Put some rows (B,) into a contiguous array (B, C, *A), reading neighbours in the file together.

        Raises:
            StoreError: the file was deleted or cut short meanwhile, or holds no such row.
        """
        self._check(rows)
        flat = memoryview(into.reshape(-1))  # type: ignore[arg-type]
        size = self.plan.row_bytes
        for places in _neighbours(rows):
            views = [flat[place * size : (place + 1) * size] for place in places.tolist()]
            self._fill(views, len(self.plan.header) + int(rows[places[0]]) * size)

    def _check(self, rows: NDArray[np.int64]) -> None:
        files.check_length(self.folder, self.plan)
        there = os.fstat(self._descriptor).st_size
        if there != self.plan.file_bytes:
            raise self._useless(f"was cut from {self.plan.file_bytes:,} to {there:,} bytes while it was read")
        wrong = rows[(rows < 0) | (rows >= self.plan.count)]
        if len(wrong):
            do = f"Rows run from 0 to {self.plan.count - 1}"
            raise StoreError(f"there is no row {wrong[0]} in the pixel store", where=str(self.folder), do=do)

    def _fill(self, views: list[memoryview], offset: int) -> None:
        """Read from `offset` on until every view is full."""
        while views:
            try:
                count = os.preadv(self._descriptor, views, offset)
            except OSError as error:
                raise self._useless(f"cannot be read ({error.strerror})") from None
            if not count:
                raise self._useless("was cut short while it was read")
            offset += count
            views = _unfilled(views, count)

    def _useless(self, why: str) -> StoreError:
        return files.useless(self.folder, f"{self.path.name} {why}")

    def __reduce__(self) -> tuple[type[PixelFile], tuple[Path, StorePlan]]:
        return PixelFile, (self.folder, self.plan)


def read_ahead(paths: Sequence[Path]) -> threading.Thread:
    """Read files once from end to end in a thread, so that the system holds them in memory; says nothing of errors.

    One that cannot be read is named when a row of it is needed.
    """
    thread = threading.Thread(target=_sweep, args=(paths,), daemon=True)
    thread.start()
    return thread


def _sweep(paths: Sequence[Path]) -> None:
    scratch = bytearray(_STRIDE)
    for path in paths:
        try:
            with path.open("rb", buffering=0) as stream:
                while stream.readinto(scratch):
                    pass
        except OSError:
            continue


def _neighbours(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Places in `rows`, in groups whose rows follow each other in the file."""
    order = np.argsort(rows, kind="stable")
    breaks = np.flatnonzero(np.diff(rows[order]) != 1) + 1
    for group in np.split(order, breaks):
        for first in range(0, len(group), _AT_ONCE):
            yield group[first : first + _AT_ONCE]


def _unfilled(views: list[memoryview], count: int) -> list[memoryview]:
    """What is left of the views after `count` bytes."""
    for number, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[number + 1 :]]
        count -= len(view)
    return []
