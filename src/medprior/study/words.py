"""What was found in a folder, in lines for a terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from medprior.data.catalog import Catalog
from medprior.files import write_text

SHOWN = 5


def catalog_lines(catalog: Catalog) -> list[str]:
    """A catalog in a few lines: counts, sizes, labels, what went wrong."""
    table = catalog.table
    readers = ", ".join(f"{count:,} {reader}" for reader, count in Counter(table["reader"]).most_common())
    sizes = Counter("x".join(map(str, shape)) for shape in table["shape"]).most_common()
    shown = ", ".join(f"{size} ({count:,})" for size, count in sizes[:SHOWN]) + (f" and {len(sizes) - SHOWN} more" if len(sizes) > SHOWN else "")
    modalities = ", ".join(sorted({m for m in table["modality"] if m})) or "unknown"
    lines = [f"Found    {len(table):,} scans ({readers}), modality {modalities}", f"Sizes    {shown}"]
    if catalog.labels is not None:
        lines.append(f"Labels   {catalog.labels.kind}: {', '.join(label_counts(catalog))}")
    if catalog.patients_known:
        lines.append(f"Patients {len(set(catalog.patients())):,}")
    lines += [f"Beware   {warning}" for warning in catalog.warnings]
    problems = catalog.problems
    if len(problems):
        lines.append(f"Problems {len(problems):,} files could not be read; all are in problems.csv")
        lines += [f"         {row.path}: {row.reason}" for row in problems.head(SHOWN).itertuples()]
    return lines


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
    """List every file that could not be read, with its reason, in `problems.csv`."""
    write_text(out / "problems.csv", catalog.problems.to_csv(index=False))
