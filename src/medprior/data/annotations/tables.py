"""Tables that lie beside scans, looked through for patients that a published split tears apart.

They are not joined: which table holds the labels is the user's to say. But a split that leaks is worth a word before
anyone uses it.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from medprior.data.annotations.label_table import PATHS, PATIENTS, SPLITS, LabelTable, read_label_table
from medprior.data.scan import Note
from medprior.errors import LabelError

MOST_BYTES = 64 << 20
_SPLIT = re.compile(r"(^|[ _-])(split|subset|partition|set)$", re.IGNORECASE)
_ENDINGS = (".csv", ".tsv")


def split_columns(table: LabelTable) -> list[str]:
    """Columns that say train, val or test: by their name and by every cell."""
    return [name for name, cells in table.columns.items() if _SPLIT.search(name) and _are_splits(cells)]


def torn_patients(table: LabelTable, patient: str, split: str) -> list[str]:
    """Patients with rows in more than one split, sorted."""
    met: dict[str, set[str]] = defaultdict(set)
    for person, cell in zip(table.columns[patient], table.columns[split], strict=True):
        if person and SPLITS.get(cell.lower()):
            met[person].add(SPLITS[cell.lower()])
    return sorted(person for person, splits in met.items() if len(splits) > 1)


def look_through(root: Path, sidecars: Sequence[str]) -> list[Note]:
    """What is to be said of the tables among `sidecars`, which are relative to `root`."""
    notes = []
    for path in sorted(sidecars):
        if posixpath.splitext(path)[1].lower() not in _ENDINGS or (root / path).stat().st_size > MOST_BYTES:
            continue
        try:
            table = read_label_table(root / path)
        except LabelError:
            continue  # no table of images; said when it is given as one
        patient = table.find(PATIENTS)
        if patient is None or table.find(PATHS) is None:
            continue
        for column in split_columns(table):
            torn = len(torn_patients(table, patient, column))
            if torn:
                said = "1 patient stands" if torn == 1 else f"{torn} patients stand"
                notes.append(Note(path, "doubt", f'{said} in more than one split (column "{column}")'))
    return notes


def _are_splits(cells: Sequence[str]) -> bool:
    said = {cell.lower() for cell in cells}
    return said <= SPLITS.keys() and len({SPLITS[cell] for cell in said} - {""}) > 1
