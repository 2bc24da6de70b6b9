"""From what each file gave to scans: DICOM files put together into series, one row per scan.

Pure and fast: no file of pixels is opened again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medprior.data.facts import RANKS, THUMB_2D, THUMB_3D
from medprior.data.indexing.cache import SCHEMA
from medprior.data.indexing.examining import Row, facts_row, row_facts, row_head
from medprior.data.scan import ORIGIN, Note, Source

if TYPE_CHECKING:
    import pandas as pd

    from medprior.data.readers.dicom import Assembled, Examined, Segmentation
    from medprior.data.readers.dicom.headers import Head

_LEFT_BEHIND = ("size", "mtime_ns", "stamps", "header", "common", "kind", "reason", "doubts")
_OF_FILES = ["path", "header", "common", "hash", "grey", "quantiles", "thumb", "values", "voxels"]
"""What is needed of DICOM files to put them together."""
_ROWS_AT_ONCE = 1000
OPTIONAL = (
    "companions",
    "frames",
    "shape",
    "spacing",
    "affine",
    "window",
    "modality",
    "orientation",
    "units",
    "values",
    "burnt",
    *ORIGIN,
    "mask",
    "boxes",
    "report",
)
"""Columns that hold None where nothing is known."""


def scans_of(table: pa.Table) -> tuple[pd.DataFrame, list[Note], dict[str, Source]]:
    """The scans of an index, sorted by path; what is to be said of its files; and DICOM segmentations by the first path
    of the scan that they were drawn on."""
    bad = table.filter(table["kind"].is_valid()).select(["path", "kind", "reason"]).to_pylist()
    notes = [Note(**row) for row in bad]
    good = table.filter(table["kind"].is_null())
    dicom = pc.fill_null(pc.equal(good["reader"], "dicom"), False)
    rows, more, segmentations = _series(good.filter(dicom))
    scans = pa.concat_tables([good.filter(pc.invert(dicom)), pa.Table.from_pylist(rows, schema=SCHEMA)])
    scans = scans.take(pc.sort_indices(scans, [("path", "ascending")]))
    doubts = scans.filter(scans["doubts"].is_valid()).select(["path", "doubts"]).to_pylist()
    notes += [Note(row["path"], "doubt", reason) for row in doubts for reason in row["doubts"]]
    return to_pandas(scans.drop_columns(list(_LEFT_BEHIND))), [*notes, *more], segmentations


def _series(table: pa.Table) -> tuple[list[Row], list[Note], dict[str, Source]]:
    """Rows of the scans that DICOM files make together."""
    if not len(table):
        return [], [], {}
    from medprior.data.readers import dicom

    parts = table.select(_OF_FILES).to_batches(_ROWS_AT_ONCE)
    of_one_file = groupby((row for part in parts for row in part.to_pylist()), itemgetter("path"))
    files = [_examined(list(same)) for _, same in of_one_file]
    found = dicom.assemble(files)
    masks, more = _drawn_on(found.segmentations, found.scans, files)
    burnt = {file.head.path: file.head.burnt for file in files}
    rows = [_row(scan) | {"burnt": burnt[scan.source.paths[0]] or None} for scan in found.scans]
    return rows, [*found.notes, *more], masks


def _drawn_on(
    segmentations: Sequence[Segmentation], scans: Sequence[Assembled], files: Sequence[Examined]
) -> tuple[dict[str, Source], list[Note]]:
    """The scan of each segmentation: the one with most of the images, or else of the series, that it refers to; failing
    that the only one of its patient, study and frame of reference."""
    heads = {file.head.path: file.head for file in files}
    owners: dict[object, list[str]] = defaultdict(list)
    for scan in scans:
        for path in scan.source.paths:
            for uid in (heads[path].sop, heads[path].series, _place(heads[path])):
                owners[uid].append(scan.source.paths[0])
    masks: dict[str, Source] = {}
    notes = []
    for one in segmentations:
        scored = Counter(owner for uid in one.instances for owner in owners.get(uid, ()))
        if not scored and len(there := set(owners.get(_place(one), ()))) == 1:
            scored = Counter(there)
        path = one.source.paths[0]
        if not scored:
            notes.append(Note(path, "apart", "a segmentation whose images are not there"))
        elif masks.setdefault(scored.most_common(1)[0][0], one.source) is not one.source:
            notes.append(Note(path, "doubt", "a further segmentation of a scan that has one: not used"))
    return masks, notes


def _place(one: Head | Segmentation) -> tuple[str, str, str]:
    return one.patient, one.study, one.reference_frame


def _examined(rows: Sequence[Row]) -> Examined:
    from medprior.data.readers.dicom import Examined

    return Examined(row_head(rows[0]), tuple(row_facts(row) for row in rows if row["hash"] is not None))


def _row(scan: Assembled) -> Row:
    source, info = scan.source, scan.info
    assert scan.facts is not None, source  # every file was decoded when it was examined
    return {
        "path": source.paths[0],
        "reader": source.reader,
        "companions": list(source.paths[1:]) or None,
        "member": source.member,
        "frame": source.frame,
        "frames": list(source.frames) or None,
        "split": source.split,
        "shape": info.shape,
        "channels": info.channels,
        "dtype": info.dtype,
        "modality": info.modality,
        "spacing": info.spacing,
        "affine": info.affine,
        "orientation": info.orientation,
        "window": info.window,
        "units": info.units or None,
        "patient": info.patient or "",
        "study": info.study or "",
        **{name: said or None for name, said in zip(ORIGIN, info.origin, strict=False)},
        **facts_row(scan.facts),
    }


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """The table with a plain row number; None (not NaN) where nothing is known, arrays in `quantiles` and `thumb`."""
    lists = {name: table[name].to_pylist() for name in (*OPTIONAL, "quantiles", "thumb") if name in table.column_names}
    frame: pd.DataFrame = table.drop_columns(list(lists)).to_pandas()
    for name, values in lists.items():
        frame[name] = objects(values)
    frame["quantiles"] = objects([np.frombuffer(one, "<f8").reshape(-1, len(RANKS)) for one in lists["quantiles"]])
    frame["thumb"] = objects([_thumb(one) for one in lists["thumb"]])
    return frame[[name for name in table.column_names if name in frame]]


def _thumb(packed: bytes) -> NDArray[np.float32]:
    flat = np.frombuffer(packed, "<f4")
    return flat.reshape(THUMB_2D if flat.size == np.prod(THUMB_2D) else THUMB_3D)


def objects(values: Iterable[Any]) -> pd.Series[Any]:
    """A column of any values, one each, as they are: pandas would make text of some and not-a-number of None."""
    import pandas as pd

    held = list(values)
    column = np.empty(len(held), dtype=object)
    for i, value in enumerate(held):
        column[i] = value
    return pd.Series(column, dtype=object)
