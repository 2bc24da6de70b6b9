"""Filling a store of volumes or images: every scan read, put on its grid, quantised and written, one by each thread."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.readers import read
from medprior.data.store.fill import in_channels
from medprior.data.store.letterbox import resize
from medprior.data.store.placement import free_memory
from medprior.data.volumestore.file import is_sound, write_volume
from medprior.data.volumestore.plan import VolumePlan, VolumeRow, stored_bytes
from medprior.data.volumestore.resample import nearest
from medprior.errors import DataError, OutputError
from medprior.progress import Progress

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

LEAST_SHARE = 0.25
"""What remains of the bytes of scans after compression, at the least; CT of the body keeps about half."""
NO_SPACE = "no space left on the disk"
"""What `files.replace_file` says then."""
_HELD = 16  # bytes for each voxel while a scan is read, resampled, quantised and packed
_MEMORY = 0.5  # share of the free memory that all threads together may take


def volume_name(key: str) -> str:
    """The file of a scan or mask."""
    return f"{key}.b2nd"


@dataclass(frozen=True)
class Job:
    """One file to write: the scan or the mask of catalog row `number`, and of all rows `alike`."""

    key: str
    number: int
    alike: tuple[int, ...]
    mask: bool


def fill_volumes(
    catalog: Catalog, plan: VolumePlan, folder: Path, workers: int | None, progress: Progress
) -> tuple[dict[int, str], dict[int, str]]:
    """Write every scan and mask that is not there yet, each whole or not at all.

    Returns:
        The reason of each scan, and of each mask, that could not be stored, by row.

    Raises:
        OutputError: the disk is full; it says how much is needed.
    """
    jobs = _missing(plan, folder)
    if LEAST_SHARE * _bytes(plan, jobs) > shutil.disk_usage(folder).free:
        raise _no_space(folder, plan, jobs)
    failures: dict[bool, dict[int, str]] = {False: {}, True: {}}
    pool = ThreadPoolExecutor(_threads(plan, jobs, workers))
    with (
        _full_disk_said(folder, plan, jobs),
        progress.task(f"Storing {plan.settings.kind}", len(jobs), "files") as bar,
    ):
        try:
            for done in as_completed([pool.submit(_work, catalog, plan, folder, job) for job in jobs]):
                job, reason = done.result()
                if reason is not None:
                    failures[job.mask] |= dict.fromkeys(job.alike, reason)
                bar.advance(1)
        finally:
            pool.shutdown(cancel_futures=True)
    return failures[False], failures[True]


def _missing(plan: VolumePlan, folder: Path) -> list[Job]:
    """Each file once for all rows that hold the same."""
    alike: dict[tuple[str, bool], list[int]] = {}
    for number, row in enumerate(plan.rows):
        for key, mask in ((row.key, False), (row.mask, True)) if row is not None else ():
            if key:
                alike.setdefault((key, mask), []).append(number)
    wanted = (Job(key, rows[0], tuple(rows), mask) for (key, mask), rows in alike.items())
    return [job for job in wanted if not is_sound(folder / volume_name(job.key))]


def _work(catalog: Catalog, plan: VolumePlan, folder: Path, job: Job) -> tuple[Job, str | None]:
    row = plan.rows[job.number]
    assert row is not None
    try:
        if job.mask:
            values = stored_mask(catalog, job.number, row)
            own: dict[str, Sequence[float]] = {"classes": plan.classes}
        else:
            values = stored_values(catalog, job.number, row, plan.settings.dtype)
            own = {"scale": row.scale, "offset": row.offset}
    except DataError as error:
        return job, error.what
    about = {**own, "spacing": row.grid.spacing, "affine": row.grid.affine}
    write_volume(folder / volume_name(job.key), values, {name: value and list(value) for name, value in about.items()})
    return job, None


def stored_values(catalog: Catalog, number: int, row: VolumeRow, dtype: str) -> NDArray[Any]:
    """(C, *S) of one scan as it is stored.

    Raises:
        DataError: it cannot be read, or is not what was indexed.
    """
    scan = read(catalog.source(number), catalog.root)
    channels: Any = catalog.table["channels"].iat[number]
    indexed = (int(channels), *row.source)
    if scan.pixels.shape != indexed:
        what = f"it has shape {scan.pixels.shape} now, {indexed} when it was indexed"
        raise DataError(what, where=scan.source, do="Index the scans again")
    values = in_channels(resize(scan.pixels, row.grid.shape), row.channels, scan.source)
    return to_stored(values, row.scale, row.offset, dtype)


def to_stored(values: NDArray[Any], scale: Sequence[float], offset: Sequence[float], dtype: str) -> NDArray[Any]:
    """Physical values (C, *S) to the nearest stored ones, slice by slice, so that no volume is held as float64."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    stored = np.empty(values.shape, dtype)
    for channel, (step, start) in enumerate(zip(scale, offset, strict=True)):
        planes, into = (both[channel].reshape(-1, *values.shape[-2:]) for both in (values, stored))
        for plane, place in zip(planes, into, strict=True):
            steps = (plane.astype(np.float64) - start) / step
            place[:] = np.rint(steps, out=steps).clip(low, high)
    return stored


def stored_mask(catalog: Catalog, number: int, row: VolumeRow) -> NDArray[Any]:
    """(1, *S) class indices of one scan on its stored grid.

    Raises:
        DataError: the mask cannot be read, or does not fit its scan.
    """
    labels = catalog.read_mask(number)
    if labels is None or labels.shape != row.source:
        has = "is gone" if labels is None else f"has shape {labels.shape}, its scan {row.source}"
        raise DataError(f"its mask {has}", do="Index the scans again")
    return nearest(labels, row.grid.shape)[None]


def _threads(plan: VolumePlan, jobs: Sequence[Job], workers: int | None) -> int:
    """As asked, or one per core as long as that many of the largest scans fit into memory."""
    if workers is not None:
        return max(1, workers)
    import torch

    rows = [row for job in jobs if (row := plan.rows[job.number]) is not None]
    largest = max((row.channels * max(math.prod(row.source), math.prod(row.grid.shape)) for row in rows), default=1)
    fit = int(_MEMORY * free_memory(torch.device("cpu")) / (_HELD * largest))
    return max(1, min(os.cpu_count() or 1, fit))


@contextmanager
def _full_disk_said(folder: Path, plan: VolumePlan, jobs: Sequence[Job]) -> Iterator[None]:
    try:
        yield
    except OutputError as error:
        if error.what != NO_SPACE:
            raise
        rest = [job for job in jobs if not is_sound(folder / volume_name(job.key))]
        raise _no_space(folder, plan, rest) from None


def _bytes(plan: VolumePlan, jobs: Sequence[Job]) -> int:
    """Before compression; masks shrink to nearly nothing."""
    rows = [row for job in jobs if not job.mask and (row := plan.rows[job.number]) is not None]
    return stored_bytes(rows, plan.settings.dtype)


def _no_space(folder: Path, plan: VolumePlan, jobs: Sequence[Job]) -> OutputError:
    most, free = _bytes(plan, jobs) / 1e6, shutil.disk_usage(folder).free / 1e6
    what = (
        f"{len(jobs):,} {plan.settings.kind} and masks are still to be stored and need "
        f"{LEAST_SHARE * most:,.1f} to {most:,.1f} MB, the disk has {free:,.1f} MB left"
    )
    do = "Free some space, choose another --out or a coarser spacing; what is stored so far is kept"
    return OutputError(what, where=str(folder), do=do)
