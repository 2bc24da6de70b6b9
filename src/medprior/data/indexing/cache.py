"""From files to rows, remembering what has not changed.

The cache is one Parquet file of what every file gave, keyed by (path, size, mtime in ns), and parts beside it while
an index runs, so that one that was killed goes on where it was.
"""

from __future__ import annotations

import io
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medprior.data.indexing.examining import Row, stamps_of
from medprior.data.indexing.pool import examined
from medprior.data.indexing.walk import File
from medprior.data.privacy import PatientKeys
from medprior.data.scan import ORIGIN
from medprior.files import make_folder, replace_file
from medprior.progress import Progress

VERSION = b"9"
_VERSION_KEY = b"medprior.index"
_SALT_KEY = b"medprior.salt"
_BETWEEN_PARTS = 5.0
"""Seconds of work that a killed index may lose."""
_TOGETHER = 500  # rows that are kept as Python's objects at most; a table takes a fraction of their memory

SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
        "reader": pa.string(),
        "companions": pa.list_(pa.string()),
        "stamps": pa.list_(pa.int64()),
        "member": pa.string(),
        "frame": pa.int64(),
        "frames": pa.list_(pa.int64()),
        "split": pa.string(),
        "label": pa.list_(pa.float64()),
        "shape": pa.list_(pa.int64()),
        "channels": pa.int64(),
        "dtype": pa.string(),
        "modality": pa.string(),
        "spacing": pa.list_(pa.float64()),
        "affine": pa.list_(pa.float64()),
        "orientation": pa.string(),
        "window": pa.list_(pa.float64()),
        "units": pa.string(),
        "patient": pa.string(),
        "study": pa.string(),
        "doubts": pa.list_(pa.string()),
        "burnt": pa.string(),
        **dict.fromkeys(ORIGIN, pa.string()),
        "header": pa.string(),
        "common": pa.string(),
        "hash": pa.string(),
        "grey": pa.bool_(),
        "quantiles": pa.binary(),
        "thumb": pa.binary(),
        "values": pa.list_(pa.float64()),
        "voxels": pa.int64(),
        "kind": pa.string(),
        "reason": pa.string(),
    },
)
"""One row per scan, one per frame of a DICOM file (its first has the `header`, and what is
`common` to a series), and one per reason."""


def index_files(
    root: Path,
    files: Sequence[File],
    cache: Path | None,
    workers: int | None,
    keys: PatientKeys,
    progress: Progress,
) -> tuple[pa.Table, list[str]]:
    """The rows of `files` (schema `SCHEMA`, sorted by path) and warnings; unchanged files come from `cache`.

    What is done when the user stops, or when the process is killed, is kept.

    Raises:
        OutputError: the cache cannot be written.
    """
    known, warnings = _load(cache, keys)
    tables = [_unchanged(pa.concat_tables(known), files, root)] if known else []
    if cache is not None and _part_files(cache):
        _settle(tables, cache, keys)
    done = {path for table in tables for path in table["path"].to_pylist()}
    missing = [file for file in files if file.path not in done]
    unsaved, saved = len(tables), time.monotonic()
    try:
        with (
            closing(_examine_all(root, missing, workers, keys, progress)) as fresh,
            closing(_parts(fresh)) as parts,
        ):
            for part in parts:
                tables.append(part)
                if cache is not None and time.monotonic() - saved > _BETWEEN_PARTS:
                    _save(tables[unsaved:], _part_file(cache, len(tables)), keys)
                    unsaved, saved = len(tables), time.monotonic()
    finally:
        if cache is not None and missing:
            _settle(tables, cache, keys)
    table = _whole(tables)
    order = np.argsort(np.array(table["path"].to_pylist(), dtype=object), kind="stable")
    return table.take(pa.array(order)), warnings


def _whole(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables([SCHEMA.empty_table(), *tables])


def _parts(fresh: Iterable[list[Row]]) -> Generator[pa.Table]:
    """What was examined, in tables of some seconds of work at most; the last one also when the user stops."""
    rows: list[Row] = []
    since = time.monotonic()
    try:
        for some in fresh:
            rows.extend(some)
            if len(rows) >= _TOGETHER or time.monotonic() - since > _BETWEEN_PARTS:
                yield pa.Table.from_pylist(rows, schema=SCHEMA)
                rows, since = [], time.monotonic()
    except GeneratorExit:
        raise
    except BaseException:
        yield pa.Table.from_pylist(rows, schema=SCHEMA)
        raise
    yield pa.Table.from_pylist(rows, schema=SCHEMA)


def _examine_all(
    root: Path, files: Sequence[File], workers: int | None, keys: PatientKeys, progress: Progress
) -> Generator[list[Row]]:
    if not files:
        return
    with (
        progress.task("Indexing", total=len(files), unit="files") as bar,
        closing(examined(root, files, workers, keys)) as fresh,
    ):
        for rows in fresh:
            bar.advance(1)
            yield rows


def _settle(tables: Sequence[pa.Table], cache: Path, keys: PatientKeys) -> None:
    """All that is known in one file, and no parts beside it."""
    _save(tables, cache, keys)
    for part in _part_files(cache):
        part.unlink(missing_ok=True)


def _part_file(cache: Path, number: int) -> Path:
    return cache.with_name(f"{cache.stem}.part{number:04}{cache.suffix}")


def _part_files(cache: Path) -> list[Path]:
    return sorted(cache.parent.glob(f"{cache.stem}.part*{cache.suffix}"))


def _load(cache: Path | None, keys: PatientKeys) -> tuple[list[pa.Table], list[str]]:
    """The cache and the parts of an index that was killed; what is damaged or outdated counts as none, and is said."""
    found: list[pa.Table] = []
    warnings: list[str] = []
    met = set[str]()
    for file in [cache, *_part_files(cache)] if cache is not None else []:
        if not file.exists():
            continue
        table = _read(file, keys)
        if isinstance(table, str):
            warnings.append(table)
            continue
        paths = table["path"].to_pylist()
        found.append(table.filter(pa.array([path not in met for path in paths], pa.bool_())))
        met.update(paths)
    return found, warnings[:1]


def _read(file: Path, keys: PatientKeys) -> pa.Table | str:
    try:
        table = pq.read_table(io.BytesIO(file.read_bytes()))
    except (OSError, pa.ArrowException):
        return "The index cache was damaged; all files were read again."
    about = table.schema.metadata or {}
    if not table.schema.equals(SCHEMA) or about.get(_VERSION_KEY) != VERSION:
        return "The index cache came from another version; all files were read again."
    if about.get(_SALT_KEY) != keys.mark.encode():
        return "The index cache was made with another salt of patient keys; all files were read again."
    return table.replace_schema_metadata(None)


def _unchanged(known: pa.Table, files: Iterable[File], root: Path) -> pa.Table:
    """What still holds. A file that could not be read is always tried again: its permissions leave no trace here."""
    failed = set(known.filter(pc.equal(known["kind"], "unreadable"))["path"].to_pylist())
    headers = known.filter(known["stamps"].is_valid()).select(["path", "companions", "stamps"]).to_pylist()
    failed |= {row["path"] for row in headers if stamps_of(row["companions"], root) != row["stamps"]}
    now = {file.path: (file.size, file.mtime_ns, file.family) for file in files if file.path not in failed}
    columns = (known[name].to_pylist() for name in ("path", "size", "mtime_ns", "reader"))
    return known.filter(pa.array([now.get(p) == (s, m, r) for p, s, m, r in zip(*columns, strict=True)], pa.bool_()))


def _save(tables: Sequence[pa.Table], cache: Path, keys: PatientKeys) -> None:
    """Through memory, so that a full disk is said as such and not in Parquet's words."""
    buffer = io.BytesIO()
    about = {_VERSION_KEY: VERSION, _SALT_KEY: keys.mark.encode()}
    pq.write_table(_whole(tables).replace_schema_metadata(about), buffer)
    make_folder(cache.parent)
    with replace_file(cache) as aside:
        aside.write_bytes(buffer.getbuffer())
