"""The catalog: one row per scan, with what is known of it, and what could not be read.

It is private: paths and folder names are often patients' names. Pages and cards carry row numbers instead.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.annotations.targets import LabelSpec as LabelSpec
from medprior.data.annotations.targets import add_carried_labels
from medprior.data.indexing.walk import Found, find, left_out
from medprior.data.privacy import PatientKeys, patient_keys
from medprior.data.scan import Note, Source
from medprior.errors import DataError, LabelError
from medprior.evaluation.strata import first_rows
from medprior.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from medprior.data.duplicates.find import Duplicates

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
            patient (a key, see `medprior.data.privacy`; "" unknown), study, split ("", train, val or test), hash (of
            the pixels), labelled (bool), and the float64 target columns that `labels` names (NaN: unknown). Further
            companions (other files of the scan), frames, affine, orientation and window (see `ScanInfo`), quantiles,
            thumb and values (see `medprior.data.facts`), mask (see `read_mask`), boxes (list of name and y0, x0, y1, x1
            in pixels), report (text) and burnt (why text is likely to stand in the pixels), each None where there is
            none; so are sex, age, site, manufacturer, scanner, field_strength and kvp (text, see
            `medprior.data.scan.ORIGIN`; the site is a key).
        problems: path, kind (see `medprior.data.scan.NOTES`) and reason of what is to be said of a file.
        labels: what the targets mean, or None without labels.
        patients_known: whether images are grouped by patient.
        warnings: sentences for the user, and for the verdict; they name no file and no person.
        keys: what turns a patient's identifier into a key.
    """

    root: Path
    table: pd.DataFrame
    problems: pd.DataFrame
    labels: LabelSpec | None = None
    patients_known: bool = False
    warnings: list[str] = field(default_factory=list)
    keys: PatientKeys = field(default_factory=PatientKeys)

    def __len__(self) -> int:
        return len(self.table)

    def source(self, row: int) -> Source:
        """Where scan `row` lies."""
        names = ("path", "companions", "reader", "member", "frame", "frames", "split")
        cells: list[Any] = [self.table[name].iat[row] for name in names]
        path, companions, reader, member, frame, frames, split = cells
        paths = (path, *(companions or ()))
        return Source(reader, paths, member, int(frame), tuple(frames or ()), split)

    def mask_source(self, row: int) -> Source | None:
        """Where the mask of scan `row` lies, or None."""
        from medprior.data.annotations.beside import mask_source

        mask: Any = self.table["mask"].iat[row]
        return None if mask is None else mask_source(mask)

    @cached_property
    def mask_classes(self) -> tuple[int, ...]:
        """The value in the files of every class of the masks, in the order of its index; the same for all masks."""
        from medprior.data.annotations.masklabels import class_values

        return class_values(mask["values"] for mask in self.table["mask"] if mask is not None)

    def read_mask(self, row: int) -> NDArray[np.uint8 | np.uint16] | None:
        """(*S) class of every pixel of scan `row`, an index of `mask_classes`, or None where it has no mask.

        Raises:
            DataError: the mask cannot be read any more.
        """
        from medprior.data.annotations.beside import read_mask

        mask: Any = self.table["mask"].iat[row]
        return None if mask is None else read_mask(mask, self.mask_classes, self.source(row), self.root)

    @cached_property
    def duplicates(self) -> Duplicates:
        """Which scans are copies of which."""
        from medprior.data.duplicates.find import find_duplicates

        return find_duplicates(self.table)

    def targets(self) -> NDArray[np.float64]:
        """(N,) class index, or (N, K) zeros and ones for K labels; NaN where unknown.

        Raises:
            LabelError: the catalog has no labels.
        """
        if self.labels is None:
            raise LabelError("these scans have no labels", do="Give a table with --labels")
        return self.labels.targets(self.table)

    def patients(self) -> NDArray[np.str_]:
        """(N,) what images are grouped by: the patient, or "image:<row>" where the patient is unknown."""
        known = self.table["patient"].to_numpy(dtype=str)
        alone = np.char.add("image:", np.arange(len(self)).astype(str))
        return np.where(known == "", alone, known)

    def persons(self) -> NDArray[np.int64]:
        """(N,) the patient of every row as a number: the first row that is theirs, whatever their key."""
        return first_rows(self.patients())

    def fingerprint(self) -> str:
        """A hash of contents, targets, patients and splits; the same wherever the files lie and however named."""
        digest = hashlib.blake2b(digest_size=16)
        for column in ("hash", "split"):
            digest.update("\n".join(self.table[column]).encode())
        digest.update(self.persons().tobytes())
        if self.labels is not None:
            digest.update(repr(self.labels).encode())
            digest.update(np.nan_to_num(self.targets(), nan=-1.0).tobytes())
        return digest.hexdigest()


def build_catalog(
    root: Path | str,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    keys: PatientKeys | None = None,
    progress: Progress = silent,
) -> Catalog:
    """Index a folder of scans, or one file.

    Every scan is decoded once; what cannot be read is listed in `problems` and never stops the index. Files unchanged
    since `cache` was written (path, size, time) are not opened again. An .npz in the layout of MedMNIST brings its
    split and labels.

    Args:
        root: the folder, walked without following links, or a single file.
        cache: a Parquet file to reuse and renew.
        workers: processes that decode, by default one per core.
        keys: how patients are named; by default hashed with the user's own salt.

    Raises:
        DataError: nothing there, nothing readable, or nothing that could be read.
        OutputError: the cache cannot be written.
    """
    from medprior.data.indexing import cache as indexing

    root = _resolved(Path(root))
    keys = patient_keys() if keys is None else keys
    folder, found = find(root)
    table, warnings = indexing.index_files(folder, found.files, cache, workers, keys, progress)
    catalog = _assemble(folder, table, found, keys, [*warnings, *left_out(found)])
    if not len(catalog):
        first = "; ".join(f"{path}: {reason}" for path, _, reason in catalog.problems.head(3).itertuples(index=False))
        raise DataError(f"none of the {len(found.files):,} files gives a scan ({first})", where=str(root))
    return catalog


def _resolved(root: Path) -> Path:
    try:
        return root.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        do = "Give the folder itself"
        raise DataError("this path cannot be followed, its links lead in a circle", where=str(root), do=do) from error


def _assemble(root: Path, table: pa.Table, found: Found, keys: PatientKeys, warnings: list[str]) -> Catalog:
    from medprior.data.annotations.beside import lay_beside
    from medprior.data.annotations.tables import look_through
    from medprior.data.indexing.assembling import scans_of

    scans, notes, segmentations = scans_of(table)
    labels = add_carried_labels(scans, scans.pop("label").tolist(), warnings)
    scans, more = lay_beside(scans, root, found.sidecars, segmentations)
    notes += [*more, *look_through(root, found.sidecars)]
    notes += [Note(path, "unreadable", "the file name holds characters that are no text") for path in found.unnameable]
    notes += [Note(path, "unreadable", reason) for path, reason in found.unlisted]
    burnt = int(scans["burnt"].notna().sum())
    if burnt:
        warnings.append(
            f"{burnt:,} scans are likely to have text burnt into their pixels (ultrasound, screen copies, or their "
            "header says so): look at the pictures before you share them."
        )
    known = bool(len(scans)) and bool((scans["patient"] != "").all())
    if labels and not known:
        warnings.append(PATIENTS_UNKNOWN)
    return Catalog(root, scans, problems_table(notes), labels, known, warnings, keys)


def problems_table(notes: list[Note]) -> pd.DataFrame:
    """What is to be said of files, as `Catalog.problems` holds it."""
    import pandas as pd

    return pd.DataFrame([(n.path, n.kind, n.reason) for n in notes], columns=["path", "kind", "reason"])
