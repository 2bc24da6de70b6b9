"""What is to be labelled next, as a list: one patient a line, the most useful first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medprior.data.catalog import Catalog
from medprior.data.store.pixels import PixelStore
from medprior.files import write_text
from medprior.study.takehome.predicted import as_csv

By = Literal["typical", "uncertain"]
COLUMNS = (
    "rank", "path", "member", "frame", "row", "patient", "images", "why", "group", "group_size", "uncertainty",
    "expected",
)  # fmt: skip


@dataclass(frozen=True)
class Suggested:
    """One patient to label, by the image that was chosen for it.

    Attributes:
        row: of the catalog.
        group: of images that look alike, from 1; `size` images are in it.
        images: of the patient that may be labelled.
        doubt: of the probe, between 0 and 1; None before any label.
        expected: what the probe takes it for, with its chance; "" before any label.
    """

    row: int
    group: int
    size: int
    images: int
    doubt: float | None = None
    expected: str = ""

    @property
    def why(self) -> str:
        """The reason in words."""
        alike = f"{self.size:,} images that look alike (group {self.group})"
        return f"typical of {alike}" if self.doubt is None else f"uncertain ({self.doubt:.2f} of 1), among {alike}"


@dataclass(frozen=True)
class Worklist:
    """What is to be labelled, the most useful first, and what it was chosen from.

    Attributes:
        folder: of the run.
        scans: that may be labelled, of `patients` patients.
        warnings: sentences for the user.
    """

    folder: Path
    by: By
    chosen: tuple[Suggested, ...]
    catalog: Catalog
    store: PixelStore
    scans: int
    patients: int
    warnings: tuple[str, ...]

    @property
    def said(self) -> str:
        """What was chosen, in a sentence without its full stop."""
        what = "the most typical of every part" if self.by == "typical" else "the uncertain, no two alike"
        return f"{len(self.chosen):,} of {self.scans:,} scans ({self.patients:,} patients) that may be labelled: {what}"


def write_worklist(worklist: Worklist, path: Path) -> None:
    """Write the list as CSV. It is private: it holds paths.

    Raises:
        OutputError: it cannot be written.
    """
    lines = []
    for rank, one in enumerate(worklist.chosen, 1):
        found = worklist.catalog.table.iloc[one.row]
        place = [found["path"], found["member"], found["frame"], one.row, found["patient"], one.images]
        doubt = "" if one.doubt is None else f"{one.doubt:.4f}"
        lines.append([rank, *place, one.why, one.group, one.size, doubt, one.expected])
    write_text(path, as_csv(COLUMNS, lines))
