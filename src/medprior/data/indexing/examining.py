"""One look at one file: every scan in it decoded once, its facts noted; what cannot be read becomes a reason.

Each scan is decoded whole when it is met first, so a truncated file is found here and not in the middle of a training
run. Rows are plain values, ready for the cache; `medprior.data.indexing.cache` says which columns there are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medprior.data import readers
from medprior.data.facts import RANKS, THUMB_2D, THUMB_3D, Facts, facts_of
from medprior.data.indexing.walk import File
from medprior.data.privacy import PatientKeys
from medprior.data.readers.guard import refusal
from medprior.data.scan import ORIGIN, Scan, Source
from medprior.errors import DataError

if TYPE_CHECKING:
    from medprior.data.readers.dicom.headers import Head

Row = dict[str, Any]
_OWN = ("sop", "instance", "frames")
"""What every slice of a series says for itself, beside its path."""


def examine(file: File, root: Path, keys: PatientKeys) -> list[Row]:
    """The rows of one file: one per scan, one per frame of a DICOM file, and one per reason why something is none."""
    try:
        return _rows(file, root, keys)
    except Exception as error:  # a reader's own mistake: it costs one file
        return refused(file, refusal(f"its reader failed ({type(error).__name__}: {error})", file.path).what)


def refused(file: File, reason: str) -> list[Row]:
    """The rows of a file that cannot be used."""
    return [_stamp(file) | _refused(reason)]


def _stamp(file: File) -> Row:
    return {"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns, "reader": file.family}


def _rows(file: File, root: Path, keys: PatientKeys) -> list[Row]:
    stamp = _stamp(file)
    try:
        if file.family == "dicom":
            return [stamp | row for row in _dicom_rows(file.path, root, keys)]
        sources = readers.reader(file.family).group([file.path], root)
    except (DataError, OSError) as error:
        return [stamp | _refused(_what(error))]
    rows: list[Row] = []
    bad: dict[tuple[str, str], list[Source]] = {}
    for source in sources:
        try:
            rows.append(stamp | _scan_row(source, root, keys))
        except (DataError, OSError) as error:
            bad.setdefault((source.member, _what(error)), []).append(source)
    return rows + [stamp | _refused(_place(alike) + what) for (_, what), alike in bad.items()]


def stamps_of(companions: Sequence[str], root: Path) -> list[int]:
    """When the further files of a scan were written, in ns; -1 for one that is gone."""
    return [path.stat().st_mtime_ns if (path := root / name).exists() else -1 for name in companions]


def facts_row(facts: Facts) -> Row:
    """The facts of a scan as columns."""
    return {
        "hash": facts.hash,
        "grey": facts.grey,
        "quantiles": facts.quantiles.astype("<f8").tobytes(),
        "thumb": facts.thumb.astype("<f4").tobytes(),
        "values": list(facts.values) or None,
        "voxels": facts.voxels,
    }


def row_facts(row: Row) -> Facts:
    """What `facts_row` wrote."""
    thumb = np.frombuffer(row["thumb"], "<f4")
    shape = THUMB_2D if len(thumb) == math.prod(THUMB_2D) else THUMB_3D
    quantiles = np.frombuffer(row["quantiles"], "<f8").reshape(-1, len(RANKS))
    values = tuple(row["values"]) if row["values"] is not None else ()
    return Facts(row["hash"], bool(row["grey"]), quantiles, thumb.reshape(shape), values, int(row["voxels"]))


def head_row(head: Head, keys: PatientKeys) -> Row:
    """The head of a file as columns, with keys for patient, study and site: its own part, and what the slices of a
    series mostly have in common."""
    said = head.to_json()
    own = [said.pop(name) for name in _OWN]
    del said["path"]
    return {"header": json.dumps(own), "common": _common(tuple(said.items()), keys)}


@lru_cache(maxsize=16)
def _common(said: tuple[tuple[str, Any], ...], keys: PatientKeys) -> str:
    named = dict(said)
    keyed = {"patient": keys(named["patient"]), "study": keys(named["study"])}
    return json.dumps(named | keyed | {"origin": _without_site(named["origin"], keys)})


def _without_site(origin: Sequence[str], keys: PatientKeys) -> list[str]:
    """The same with a key in place of the institution's name."""
    return [keys.site(said) if name == "site" else said for name, said in zip(ORIGIN, origin, strict=False)]


def row_head(row: Row) -> Head:
    """What `head_row` wrote."""
    from medprior.data.readers.dicom.headers import Head, frames_from_json

    own = dict(zip(_OWN, json.loads(row["header"]), strict=True))
    return Head(**_in_common(row["common"]) | own | {"path": row["path"], "frames": frames_from_json(own["frames"])})


@lru_cache(maxsize=16)
def _in_common(said: str) -> dict[str, Any]:
    from medprior.data.readers.dicom.headers import tuples

    return {name: tuples(value) for name, value in json.loads(said).items()}


def _what(error: DataError | OSError) -> str:
    return error.what if isinstance(error, DataError) else str(error)


def _refused(reason: str) -> Row:
    return {"kind": "unreadable", "reason": reason}


def _place(alike: Sequence[Source]) -> str:
    first = alike[0]
    if first.frame < 0:
        return ""
    more = f" and {len(alike) - 1:,} more" if len(alike) > 1 else ""
    return f"{first.member or 'page'} {first.frame + 1}{more}: "


def _scan_row(source: Source, root: Path, keys: PatientKeys) -> Row:
    scan = readers.read(source, root)
    return {
        "companions": list(source.paths[1:]) or None,
        "stamps": stamps_of(source.paths[1:], root) or None,
        "member": source.member,
        "frame": source.frame,
        "frames": list(source.frames) or None,
        "split": source.split,
        "label": source.label,
        **_scan_columns(scan, keys),
        **facts_row(facts_of(scan.pixels)),
    }


def _scan_columns(scan: Scan, keys: PatientKeys) -> Row:
    return {
        "shape": scan.pixels.shape[1:],
        "channels": scan.pixels.shape[0],
        "dtype": scan.pixels.dtype.name,
        "modality": scan.modality,
        "spacing": scan.spacing,
        "affine": None if scan.affine is None else scan.affine[:3].ravel().tolist(),
        "orientation": scan.orientation,
        "window": scan.window,
        "patient": keys(scan.patient or ""),
        "study": keys(scan.study or ""),
        "doubts": list(scan.doubts) or None,
    }


def _dicom_rows(path: str, root: Path, keys: PatientKeys) -> list[Row]:
    """One row per frame; the first carries the header, in which the patient is a key already."""
    from medprior.data.readers import dicom

    found = dicom.examine(path, root)
    if found.note is not None:
        return [{"kind": found.note.kind, "reason": found.note.reason}]
    header = head_row(found.head, keys)
    frames: list[Row] = [{"frame": i, **facts_row(facts)} for i, facts in enumerate(found.facts)]
    return [frames[0] | header, *frames[1:]] if frames else [header]
