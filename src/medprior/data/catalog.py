"""The catalog: one row per scan, with what is known of it, and what could not be read.

It is private: paths and folder names are often patients' names. Pages and cards carry row numbers instead.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.scan import Source
from medprior.data.targets import LabelSpec as LabelSpec
from medprior.data.targets import add_carried_labels
from medprior.data.walk import Found, find, left_out
from medprior.errors import DataError, LabelError
from medprior.files import make_folder, replace_file
from medprior.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

VERSION = 1
_KEY = b"medprior.catalog"
PATIENTS_UNKNOWN = (
    "Patients are unknown: each image counts as a patient of its own, so images of one person may stand on both sides "
    "of a split, and scores may be too high and intervals too narrow."
)


@dataclass(frozen=True)
class Catalog:
    """One row per scan.

    Attributes:
        root: the folder the paths are relative to.
        table: row i describes scan i: path, reader, member, frame (-1: the whole), shape (list, spatial axes only),
            channels, dtype, grey (all channels show the same; true for one channel), modality, spacing (mm, or None),
            patient ("" unknown), split ("", train, val or test), hash (of the content), labelled (bool), and the
            float64 target columns that `labels` names (NaN: unknown).
        problems: path and reason of what could not be read.
        labels: what the targets mean, or None without labels.
        patients_known: whether images are grouped by patient.
        warnings: sentences for the user, and for the verdict.
    """

    root: Path
    table: pd.DataFrame
    problems: pd.DataFrame
    labels: LabelSpec | None = None
    patients_known: bool = False
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)

    def source(self, row: int) -> Source:
        """Where scan `row` lies."""
        columns: tuple[Any, ...] = tuple(self.table[name] for name in ("path", "reader", "member", "frame", "split"))
        path, reader, member, frame, split = (column.iat[row] for column in columns)
        return Source(reader, (path,), member, int(frame), split)

    def targets(self) -> NDArray[np.float64]:
        """(N,) class index, or (N, K) zeros and ones for K labels; NaN where unknown.

        Raises:
            LabelError: the catalog has no labels.
        """
        if self.labels is None:
            raise LabelError("these scans have no labels", do="Give a table with --labels")
        values = self.table[list(self.labels.columns)].to_numpy(np.float64)
        return values if self.labels.kind == "multilabel" else values[:, 0]

    def patients(self) -> NDArray[np.str_]:
        """(N,) what images are grouped by: the patient, or "image:<row>" where the patient is unknown."""
        known = self.table["patient"].to_numpy(dtype=str)
        alone = np.char.add("image:", np.arange(len(self)).astype(str))
        return np.where(known == "", alone, known)

    def fingerprint(self) -> str:
        """A hash of contents, targets, patients and splits; the same wherever the files lie and however named."""
        digest = hashlib.blake2b(digest_size=16)
        for column in ("hash", "patient", "split"):
            digest.update("\n".join(self.table[column]).encode())
        if self.labels is not None:
            digest.update(repr(self.labels).encode())
            digest.update(np.nan_to_num(self.targets(), nan=-1.0).tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the catalog as one Parquet file, whole or not at all.

        Raises:
            OutputError: the place cannot be written to, or is full.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        about = {
            "version": VERSION,
            "root": str(self.root),
            "problems": self.problems.to_dict("list"),
            "labels": dataclasses.asdict(self.labels) if self.labels else None,
            "patients_known": self.patients_known,
            "warnings": self.warnings,
        }
        table = pa.Table.from_pandas(self.table, preserve_index=False)
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({_KEY: json.dumps(about)}), buffer)
        make_folder(path.parent)
        with replace_file(path) as aside:
            aside.write_bytes(buffer.getbuffer())

    @classmethod
    def load(cls, path: Path) -> Catalog:
        """Read what `save` wrote.

        Raises:
            DataError: absent, damaged, or of another version.
        """
        import pandas as pd
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(io.BytesIO(path.read_bytes()))
            about = json.loads(table.schema.metadata[_KEY])
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise DataError("this is no readable catalog", where=str(path), do="Index the scans again") from error
        if about["version"] != VERSION:
            reason = f"this catalog has version {about['version']}, this medprior reads {VERSION}"
            raise DataError(reason, where=str(path), do="Index the scans again")
        spec = about["labels"]
        labels = spec and LabelSpec(spec["kind"], tuple(spec["names"]), tuple(spec["columns"]))
        problems = pd.DataFrame(about["problems"], columns=["path", "reason"])
        frame = to_pandas(table)
        return cls(Path(about["root"]), frame, problems, labels, about["patients_known"], about["warnings"])


def build_catalog(
    root: Path | str, *, cache: Path | None = None, workers: int | None = None, progress: Progress = silent
) -> Catalog:
    """Index a folder of scans, or one file.

    Every scan is decoded once; what cannot be read is listed in `problems` and never stops the index. Files unchanged
    since `cache` was written (path, size, time) are not opened again. An .npz in the layout of MedMNIST brings its
    split and labels.

    Args:
        root: the folder, walked without following links, or a single file.
        cache: a Parquet file to reuse and renew.
        workers: threads that decode, by default one per core.

    Raises:
        DataError: nothing there, nothing readable, or nothing that could be read.
        OutputError: the cache cannot be written.
    """
    from medprior.data import indexing

    root = _resolved(Path(root))
    folder, found = find(root)
    table, warnings = indexing.index_files(folder, found.files, cache, workers, progress)
    catalog = _assemble(folder, table, found, [*warnings, *left_out(found)])
    if not len(catalog):
        first = "; ".join(f"{p}: {r}" for p, r in catalog.problems.head(3).itertuples(index=False))
        raise DataError(f"none of the {len(catalog.problems)} files can be read ({first})", where=str(root))
    return catalog


def _resolved(root: Path) -> Path:
    try:
        return root.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        do = "Give the folder itself"
        raise DataError("this path cannot be followed, its links lead in a circle", where=str(root), do=do) from error


def _assemble(root: Path, table: pa.Table, found: Found, warnings: list[str]) -> Catalog:
    import pandas as pd

    bad = table["reason"].is_valid()
    problems = table.filter(bad).select(["path", "reason"]).to_pylist()
    problems += [
        {"path": path, "reason": "the file name holds characters that are no text"} for path in found.unnameable
    ]
    good = table.filter(table["reason"].is_null())
    frame = to_pandas(good.drop_columns(["label", "reason", "size", "mtime_ns"]))
    labels = add_carried_labels(frame, good["label"].to_pylist(), warnings)
    frame_problems = pd.DataFrame(problems, columns=["path", "reason"])
    known = bool(len(frame)) and bool((frame["patient"] != "").all())
    if labels and not known:
        warnings.append(PATIENTS_UNKNOWN)
    return Catalog(root, frame, frame_problems, labels, known, warnings)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """The table with a plain row number; lists in `shape` and `spacing`, and None (not NaN) where nothing is known."""
    frame: pd.DataFrame = table.to_pandas()
    for column in ("shape", "spacing", "modality"):
        frame[column] = _objects(table[column].to_pylist())
    return frame


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
