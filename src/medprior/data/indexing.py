"""From files to rows: decode each once, hash it, and remember what has not changed.

The cache is one Parquet file of what every file gave, keyed by (path, size, mtime in ns). Each scan is decoded whole
when it is met first, so a truncated file is found here and not in the middle of a training run.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medprior.data import readers
from medprior.data.scan import Scan, Source
from medprior.data.walk import File
from medprior.errors import DataError
from medprior.files import make_folder, replace_file
from medprior.progress import Progress

VERSION = b"1"
_VERSION_KEY = b"medprior.index"
_GREY_TOLERANCE = 4  # of 255: what JPEG's colour transform leaves of a grey image

SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "reader": pa.string(),
        "member": pa.string(),
        "frame": pa.int64(),
        "shape": pa.list_(pa.int64()),
        "channels": pa.int64(),
        "dtype": pa.string(),
        "grey": pa.bool_(),
        "modality": pa.string(),
        "spacing": pa.list_(pa.float64()),
        "patient": pa.string(),
        "split": pa.string(),
        "hash": pa.string(),
        "label": pa.list_(pa.float64()),
        "reason": pa.string(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
    },
    metadata={_VERSION_KEY: VERSION},
)
"""One row per scan, and one per file that could not be read: that one has a `reason`."""

Row = dict[str, Any]


def index_files(
    root: Path, files: Sequence[File], cache: Path | None, workers: int | None, progress: Progress
) -> tuple[pa.Table, list[str]]:
    """The rows of `files` (schema `SCHEMA`, sorted by path) and warnings; unchanged files come from `cache`.

    What is done when the user stops is kept in the cache.

    Raises:
        OutputError: the cache cannot be written.
    """
    known, warnings = _load(cache)
    known = _unchanged(known, files)
    done = set(known["path"].to_pylist())
    missing = [file for file in files if file.path not in done]
    rows: list[Row] = []
    try:
        for fresh in _examine_all(root, missing, workers, progress):
            rows.extend(fresh)
    finally:
        table = pa.concat_tables([known, pa.Table.from_pylist(rows, schema=SCHEMA)])
        if cache is not None and rows:
            _save(table, cache)
    order = np.argsort(np.array(table["path"].to_pylist(), dtype=object), kind="stable")
    return table.take(pa.array(order)), warnings


def _examine_all(root: Path, files: Sequence[File], workers: int | None, progress: Progress) -> Iterator[list[Row]]:
    """Threads, not processes: decoders release the interpreter, and threads need no start-up."""
    if not files:
        return
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        with progress.task("Indexing", total=len(files), unit="files") as bar:
            for job in as_completed([pool.submit(examine, file, root) for file in files]):
                bar.advance(1)
                yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def examine(file: File, root: Path) -> list[Row]:
    """Decode all scans of one file; what cannot be read becomes a row with a reason, one for all that share it."""
    stamp = {"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns}
    family = readers.format_of(file.path)
    assert family is not None, file.path
    try:
        sources = readers.reader(family).group([file.path], root)
    except DataError as error:
        return [stamp | {"reason": error.what}]
    rows: list[Row] = []
    bad: dict[tuple[str, str], list[Source]] = {}
    for source in sources:
        try:
            rows.append(stamp | _scan_row(source, root))
        except (DataError, OSError) as error:
            what = error.what if isinstance(error, DataError) else str(error)
            bad.setdefault((source.member, what), []).append(source)
    return rows + [stamp | {"reason": _place(alike) + what} for (_, what), alike in bad.items()]


def _place(alike: Sequence[Source]) -> str:
    first = alike[0]
    if first.frame < 0:
        return ""
    more = f" and {len(alike) - 1:,} more" if len(alike) > 1 else ""
    return f"{first.member or 'page'} {first.frame + 1}{more}: "


def _scan_row(source: Source, root: Path) -> Row:
    scan = readers.read(source, root)
    return {
        "reader": source.reader,
        "member": source.member,
        "frame": source.frame,
        "shape": scan.pixels.shape[1:],
        "channels": scan.pixels.shape[0],
        "dtype": scan.pixels.dtype.name,
        "grey": is_grey(scan.pixels),
        "modality": scan.modality,
        "spacing": scan.spacing,
        "patient": scan.patient or "",
        "split": source.split,
        "hash": _digest(source, scan, root),
        "label": source.label,
    }


def _digest(source: Source, scan: Scan, root: Path) -> str:
    """BLAKE2b of the bytes of the file, or of the pixels where a file holds many scans."""
    digest = hashlib.blake2b(digest_size=16)
    if source.frame < 0 and not source.member:
        for path in source.paths:
            digest.update((root / path).read_bytes())
    else:
        digest.update(f"{scan.pixels.dtype}{scan.pixels.shape}".encode())
        digest.update(scan.pixels.tobytes())
    return digest.hexdigest()


def is_grey(pixels: NDArray[Any]) -> bool:
    """Whether all channels of (C, *S) show the same, up to what JPEG leaves; always true for one channel."""
    step = (slice(None), *(slice(None, None, 8),) * (pixels.ndim - 1))
    return len(pixels) == 1 or (_same(pixels[step]) and _same(pixels))


def _same(pixels: NDArray[Any]) -> bool:
    tolerance = _GREY_TOLERANCE if pixels.dtype == np.uint8 else 0
    return bool((pixels.max(axis=0) - pixels.min(axis=0)).max() <= tolerance)


def _load(cache: Path | None) -> tuple[pa.Table, list[str]]:
    """The cache, or an empty table where there is none; a damaged or outdated one counts as none."""
    if cache is None or not cache.exists():
        return SCHEMA.empty_table(), []
    try:
        table = pq.read_table(io.BytesIO(cache.read_bytes()))
    except (OSError, pa.ArrowException):
        return SCHEMA.empty_table(), ["The index cache was damaged; all files were read again."]
    if not table.schema.equals(SCHEMA) or (table.schema.metadata or {}).get(_VERSION_KEY) != VERSION:
        return SCHEMA.empty_table(), ["The index cache came from another version; all files were read again."]
    return table.replace_schema_metadata(SCHEMA.metadata), []


def _unchanged(known: pa.Table, files: Iterable[File]) -> pa.Table:
    """What still holds. A file that could not be read is always tried again: its permissions leave no trace here."""
    failed = set(known.filter(known["reason"].is_valid())["path"].to_pylist())
    now = {file.path: (file.size, file.mtime_ns) for file in files if file.path not in failed}
    columns = (known[name].to_pylist() for name in ("path", "size", "mtime_ns"))
    return known.filter(pa.array([now.get(p) == (s, m) for p, s, m in zip(*columns, strict=True)], pa.bool_()))


def _save(table: pa.Table, cache: Path) -> None:
    """Through memory, so that a full disk is said as such and not in Parquet's words."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    make_folder(cache.parent)
    with replace_file(cache) as aside:
        aside.write_bytes(buffer.getbuffer())
