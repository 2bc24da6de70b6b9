"""Filling a pixel store: every scan decoded, fitted, quantised and written once, by several threads."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.facts import LUMINANCE
from medprior.data.intensity import Mapping, quantise
from medprior.data.readers import read
from medprior.data.scan import Scan
from medprior.data.store.letterbox import content_box, fitted_shape, placed_at, resize
from medprior.data.store.plan import StorePlan
from medprior.data.store.pyramid import pack
from medprior.errors import DataError, OutputError
from medprior.files import replace_file
from medprior.progress import Progress

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

_TOGETHER = 16  # scans one thread takes at once
_SPARE = 1 << 20  # bytes kept free for the small files beside the pixels


@dataclass(frozen=True)
class Fitted:
    """The content of one scan as it is stored: `values` (C, *S), with `scale` and `offset` (C,) per channel."""

    values: NDArray[np.uint8]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """What is known of every stored scan, N rows.

    Attributes:
        content: (N, d, 2) float32 edges of the content box, normalised.
        scale: (N, C) float64, with
        offset: (N, C) float64: physical = offset + scale * stored.
        total: (N, C) float64, sum of the stored values inside the content.
        squares: (N, C) float64, sum of their squares.
        area: (N,) float64, pixels inside the content; 0 for a row that failed.
    """

    content: NDArray[np.float32]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    area: NDArray[np.float64]

    @classmethod
    def empty(cls, plan: StorePlan) -> Rows:
        """Rows that all failed: their content is the whole square, black."""
        content = np.broadcast_to(np.array([-1, 1], np.float32), (plan.count, plan.spatial_dims, 2)).copy()
        offset, total, squares = (np.zeros((plan.count, plan.channels)) for _ in range(3))
        return cls(content, np.ones_like(total), offset, total, squares, np.zeros(plan.count))

    def put(self, row: int, fit: Fitted, size: int) -> None:
        """Note the box, the mapping and the sums of one scan."""
        flat = fit.values.reshape(len(fit.values), -1).astype(np.float64)
        self.content[row] = content_box(fit.values.shape[1:], size)
        self.scale[row], self.offset[row] = fit.scale, fit.offset
        self.total[row], self.squares[row] = flat.sum(axis=1), np.square(flat).sum(axis=1)
        self.area[row] = flat.shape[1]

    def moments(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(C,) mean and standard deviation of the stored values, 0 to 255, inside the content of some rows."""
        area = max(self.area[rows].sum(), 1.0)
        mean = self.total[rows].sum(axis=0) / area
        return mean, np.sqrt((self.squares[rows].sum(axis=0) / area - mean**2).clip(0))


def fill(
    catalog: Catalog, plan: StorePlan, path: Path, workers: int | None, progress: Progress
) -> tuple[Rows, dict[int, str]]:
    """Write the pixels of every scan to `path`, whole or not at all.

    Returns:
        What is known of the rows, and the reason of each that failed.

    Raises:
        OutputError: the disk is full; it says how much is needed.
        DataError: not a single scan can be stored.
    """
    _check_space(path.parent, plan)
    rows = Rows.empty(plan)
    failures: dict[int, str] = {}
    with replace_file(path) as aside, aside.open("wb", buffering=0) as file, _full_disk_said(path.parent, plan):
        file.write(plan.header)
        file.truncate(plan.file_bytes)
        with progress.task("Storing pixels", total=plan.count, unit="images") as bar:
            for done, failed in _spread(catalog, plan, file.fileno(), rows, workers):
                failures |= failed
                bar.advance(done)
        if len(failures) == plan.count:
            raise _none_stored(catalog, failures)
    return rows, dict(sorted(failures.items()))


def _spread(
    catalog: Catalog, plan: StorePlan, file: int, rows: Rows, workers: int | None
) -> Iterator[tuple[int, dict[int, str]]]:
    """Threads, not processes: decoders release the interpreter. Each writes its rows at their place in the file."""
    parts = [range(at, min(at + _TOGETHER, plan.count)) for at in range(0, plan.count, _TOGETHER)]
    mappings = plan.intensity.mappings(catalog.table, plan.channels)
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        jobs = [pool.submit(_store_part, catalog, plan, file, rows, part, mappings) for part in parts]
        for job in as_completed(jobs):
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _store_part(
    catalog: Catalog, plan: StorePlan, file: int, rows: Rows, part: range, mappings: Mapping
) -> tuple[int, dict[int, str]]:
    failures = {}
    scale, offset = mappings
    for row in part:
        try:
            fit = fit_scan(read(catalog.source(row), catalog.root), plan, scale[row], offset[row])
        except DataError as error:
            failures[row] = error.what
            continue
        rows.put(row, fit, plan.size)
        _write(file, pack(_letterboxed(fit.values, plan.size), plan.levels), len(plan.header) + row * plan.row_bytes)
    return len(part), failures


def can_be_stored(catalog: Catalog, plan: StorePlan, row: int) -> bool:
    """Whether a scan that failed once would go into the store now."""
    try:
        fitted_values(read(catalog.source(row), catalog.root), plan)
    except DataError:
        return False
    return True


def fit_scan(scan: Scan, plan: StorePlan, scale: NDArray[np.float64], offset: NDArray[np.float64]) -> Fitted:
    """One scan reduced to the store's size and quantised by its mapping (C,).

    Raises:
        DataError: its axes or channels do not go into this store.
    """
    return Fitted(quantise(fitted_values(scan, plan), scale, offset), scale, offset)


def fitted_values(scan: Scan, plan: StorePlan) -> NDArray[Any]:
    """(C, *S) physical values of one scan, reduced to the store's size and channels.

    Raises:
        DataError: its axes or channels do not go into this store.
    """
    if scan.spatial_dims != plan.spatial_dims:
        raise DataError(f"the scan has {scan.spatial_dims} axes now, the store {plan.spatial_dims}", where=scan.source)
    shape = fitted_shape(scan.pixels.shape[1:], plan.size, scan.spacing)
    return in_channels(resize(scan.pixels, shape), plan.channels, scan.source)


def in_channels(pixels: NDArray[Any], wanted: int, source: str) -> NDArray[Any]:
    """Values (C, *S) in so many channels: grey is repeated, colour becomes its luminance where one is wanted.

    Raises:
        DataError: neither grey nor three colours to become grey.
    """
    have = len(pixels)
    if have == wanted:
        return pixels
    if have == 1:
        return np.repeat(pixels, wanted, axis=0)
    if wanted == 1 and have == 3:
        return np.tensordot(LUMINANCE, pixels, axes=1)[None]
    raise DataError(f"the scan has {have} channels, the store {wanted}", where=source)


def _letterboxed(values: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(C, S, ..., S), black around the centred content."""
    shape = values.shape[1:]
    whole = np.zeros((len(values), *[size] * len(shape)), np.uint8)
    corner = placed_at(shape, size)
    whole[(slice(None), *(slice(at, at + n) for at, n in zip(corner, shape, strict=True)))] = values
    return whole


def _write(file: int, pixels: NDArray[np.uint8], at: int) -> None:
    """Through the descriptor, not through a map of the file: a full disk is then an error and not a crash."""
    left = memoryview(pixels.tobytes())
    while left:
        done = os.pwrite(file, left, at)
        left, at = left[done:], at + done


@contextmanager
def _full_disk_said(folder: Path, plan: StorePlan) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _no_space(folder, plan) from None


def _check_space(folder: Path, plan: StorePlan) -> None:
    if shutil.disk_usage(folder).free < plan.file_bytes + _SPARE:
        raise _no_space(folder, plan)


def _no_space(folder: Path, plan: StorePlan) -> OutputError:
    needed, free = (plan.file_bytes + _SPARE) / 1e6, shutil.disk_usage(folder).free / 1e6
    what = (
        f"the pixels of {plan.count:,} scans at {plan.size} px need {needed:,.1f} MB, the disk has {free:,.1f} MB left"
    )
    return OutputError(what, where=str(folder), do="Free some space, or choose another --out or a smaller --size")


def _none_stored(catalog: Catalog, failures: dict[int, str]) -> DataError:
    row, reason = min(failures.items())
    what = f"none of the {len(failures):,} scans could be stored; the first: {reason}"
    return DataError(what, where=str(catalog.table["path"].iat[row]), do="Check that the files are there and whole")
