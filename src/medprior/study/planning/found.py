"""What lies in a folder, in lines for the terminal and the report; no torch is needed to say it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from medprior.data.catalog import Catalog
from medprior.files import write_text

SHOWN = 5
KINDS = {
    "unreadable": ("file that cannot be read", "files that cannot be read"),
    "doubt": ("doubt about a file that is used", "doubts about files that are used"),
    "apart": ("image set apart (localiser, screen copy)", "images set apart (localisers, screen copies)"),
    "no image": ("object without an image", "objects without an image"),
}
"""What is to be said of files, by `medprior.data.scan.NOTES`, the worst first."""


def catalog_lines(catalog: Catalog) -> list[str]:
    """A catalog in a few lines: counts, sizes, labels, what went wrong."""
    table = catalog.table
    readers = ", ".join(f"{count:,} {reader}" for reader, count in Counter(table["reader"]).most_common())
    sizes = Counter("x".join(map(str, shape)) for shape in table["shape"]).most_common()
    shown = ", ".join(f"{size} ({count:,})" for size, count in sizes[:SHOWN]) + (
        f" and {len(sizes) - SHOWN} more" if len(sizes) > SHOWN else ""
    )
    modalities = ", ".join(sorted({m for m in table["modality"] if m})) or "unknown"
    lines = [f"Found    {len(table):,} scans ({readers}), modality {modalities}", f"Sizes    {shown}"]
    if catalog.labels is not None:
        lines.append(f"Labels   {catalog.labels.kind}: {', '.join(label_counts(catalog))}")
    lines.append(f"Patients {_patients(catalog)}")
    lines += [f"Beware   {warning}" for warning in catalog.warnings]
    return [*lines, *_problem_lines(catalog)]


def _patients(catalog: Catalog) -> str:
    """As the data card says it: a scan that names no patient is not counted as one."""
    keys = catalog.table["patient"].to_numpy(dtype=str)
    known, nameless = len(set(keys.tolist()) - {""}), int((keys == "").sum())
    if not known:
        return "unknown"
    return f"{known:,}" + (f", {nameless:,} {'scan' if nameless == 1 else 'scans'} of unknown ones" if nameless else "")


def _problem_lines(catalog: Catalog) -> list[str]:
    """What is to be said of files, the worst first."""
    problems = catalog.problems
    if not len(problems):
        return []
    counts = Counter(problems["kind"])
    said = ", ".join(f"{counts[kind]:,} {words[counts[kind] > 1]}" for kind, words in KINDS.items() if counts[kind])
    order = np.argsort([list(KINDS).index(kind) for kind in problems["kind"]], kind="stable")
    shown = problems.iloc[order[:SHOWN]].itertuples()
    return [f"Problems {said}; all are in problems.csv", *(f"         {row.path}: {row.reason}" for row in shown)]


def label_counts(catalog: Catalog) -> list[str]:
    """Images per class, or positive images per label."""
    if catalog.labels is None:
        return []
    targets = catalog.targets()
    if targets.ndim == 2:
        counts = np.nansum(targets == 1, axis=0)
    else:
        counts = np.bincount(targets[~np.isnan(targets)].astype(int), minlength=len(catalog.labels.names))
    return [f"{name} {int(count):,}" for name, count in zip(catalog.labels.names, counts, strict=True)]


def write_problems(catalog: Catalog, out: Path) -> None:
    """List everything that is to be said of files in `problems.csv`."""
    write_text(out / "problems.csv", catalog.problems.to_csv(index=False))


def write_rows(catalog: Catalog, out: Path) -> None:
    """List in `rows.csv` where each row lies, for pages name scans by their row; private, as the catalog is.

    Raises:
        OutputError: it cannot be written.
    """
    places = catalog.table[["path", "frame"]].reset_index(drop=True)
    write_text(out / "rows.csv", places.to_csv(index_label="row"))
