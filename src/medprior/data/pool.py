"""A pool: unlabelled scans in a folder of their own, which join a catalog and are only ever pre-trained on.

Their rows follow the others, so that those keep their numbers. Their paths lead from the root of the catalog to where
they lie; nothing that opens a file has to know of two folders.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medprior.data.catalog import PATIENTS_UNKNOWN, Catalog, problems_table
from medprior.data.duplicates.copies import copies_of
from medprior.data.indexing.assembling import objects
from medprior.data.scan import Note
from medprior.errors import DataError
from medprior.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd

MARK = "pool"
"""The column that says of every row whether it is of the pool; a catalog without one has no pool."""

COPIED = "a copy of a labelled image, or of another image of its patient: left out of the pool"
"""Why an image is not in the pool, among the problems of a catalog."""


def in_pool(table: pd.DataFrame) -> NDArray[np.bool_]:
    """(N,) which rows of a catalog's table are of its pool."""
    return table[MARK].to_numpy(dtype=bool) if MARK in table else np.zeros(len(table), np.bool_)


def left_pool(catalog: Catalog) -> int:
    """How many images are not in the pool, for they copy labelled ones."""
    return int((catalog.problems["reason"] == COPIED).sum())


def check_apart(scans: Path, pool: Path) -> None:
    """Refuse a pool within the folder of scans, or around it: scans would count twice.

    Raises:
        DataError: with what to do.
    """
    inner, outer = pool.expanduser().resolve(), scans.expanduser().resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        do = "Leave it out: scans without a row in the table of labels are unlabelled already. Or part the two folders"
        raise DataError("the unlabelled scans and the others lie in one folder", where=str(pool), do=do)


def renamed(pool: Catalog, before: Catalog, after: Catalog) -> Catalog:
    """The pool with the names that a table gave to patients whom the files name otherwise: `before` holds the same
    rows as `after`, without the table."""
    pairs = zip(before.table["patient"], after.table["patient"], strict=True)
    names = {old: new for old, new in pairs if old and new}
    patients = objects(names.get(one, one) for one in pool.table["patient"])
    return replace(pool, table=pool.table.assign(patient=patients.to_numpy()))


def join_pool(catalog: Catalog, pool: Catalog) -> Catalog:
    """The rows of `catalog`, then those of `pool` without label, split, mask, box and report.

    What a pool's files carry of these has no meaning for the study of other scans.
    """
    import pandas as pd

    start = _way(catalog.root, pool.root)
    told = catalog.table.assign(**{MARK: False})
    rows = _bare(pool.table, start).assign(**{MARK: True}).reindex(columns=told.columns)
    problems = pool.problems.assign(path=[start + path for path in pool.problems["path"]])
    said = [f"In the pool: {warning}" for warning in pool.warnings if warning != PATIENTS_UNKNOWN]
    return replace(
        catalog,
        table=pd.concat([told, rows], ignore_index=True),
        problems=pd.concat([catalog.problems, problems], ignore_index=True),
        warnings=[*catalog.warnings, *said, *_strangers(catalog, pool)],
    )


def without_labelled_copies(catalog: Catalog, progress: Progress = silent) -> Catalog:
    """The catalog without those rows of its pool that copy a labelled image, or another image of a labelled patient.

    They are listed among the problems and counted in a warning.
    """
    import pandas as pd

    from medprior.data.duplicates.find import find_duplicates

    pool = in_pool(catalog.table)
    if not pool.any():
        return catalog
    gone = pool & copies_of(_guarded(catalog) & ~pool, find_duplicates(catalog.table, progress).cluster)
    notes = [Note(path, "apart", COPIED) for path in catalog.table["path"][gone]]
    return replace(
        catalog,
        table=catalog.table[~gone].reset_index(drop=True),
        problems=pd.concat([catalog.problems, problems_table(notes)], ignore_index=True),
        warnings=[*catalog.warnings, *_gone_said(int(gone.sum()), int(pool.sum()))],
    )


def _guarded(catalog: Catalog) -> NDArray[np.bool_]:
    """(N,) rows with a label or a published split, and all others of their patients."""
    table, person = catalog.table, catalog.persons()
    chosen = table["labelled"].to_numpy(dtype=bool) | (table["split"] != "").to_numpy()
    return np.isin(person, person[chosen])


def _bare(table: pd.DataFrame, start: str) -> pd.DataFrame:
    """The rows as the catalog that they join calls them, without what belongs to labels."""
    beside = [None if paths is None else [start + path for path in paths] for paths in table["companions"]]
    nothing = {name: objects([None] * len(table)) for name in ("mask", "boxes", "report") if name in table}
    paths = [start + path for path in table["path"]]
    return table.assign(path=paths, companions=objects(beside), split="", labelled=False, **nothing)


def _way(root: Path, other: Path) -> str:
    """What leads from `root` to `other`, with a slash at its end; the whole path where they lie on two drives."""
    try:
        way = os.path.relpath(other, root)
    except ValueError:
        way = str(other)
    return f"{PurePosixPath(Path(way).as_posix())}/"


def _strangers(catalog: Catalog, pool: Catalog) -> list[str]:
    """A warning where labelled patients are known and those of the pool are not."""
    nameless = int((pool.table["patient"] == "").sum())
    if not catalog.patients_known or not nameless:
        return []
    images = "1 image of the pool names" if nameless == 1 else f"{nameless:,} images of the pool name"
    return [f"{images} no patient: pre-training may meet other images of test patients."]


def _gone_said(gone: int, there: int) -> list[str]:
    if not gone:
        return []
    looks = "looks like a copy" if gone == 1 else "look like copies"
    return [f"{gone:,} of {there:,} images of the pool {looks} of labelled images and left it."]
