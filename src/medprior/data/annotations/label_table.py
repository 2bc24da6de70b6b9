"""The label table as text: its rows, whatever program wrote it, and which of its columns means what."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medprior.data.annotations.masks import MASKS
from medprior.data.annotations.reports import REPORTS
from medprior.data.readers.guard import shown
from medprior.errors import LabelError, nearest

PATHS = ("path", "file", "filename", "image", "scan")
PATIENTS = ("patient", "patient_id", "patientid", "subject", "subject_id")
LABELS = ("label", "class", "target", "diagnosis", "finding", "y")
SPLIT = "split"
SPLITS = {
    "": "",
    **dict.fromkeys(["train", "training"], "train"),
    **dict.fromkeys(["val", "valid", "validation"], "val"),
    **dict.fromkeys(["test", "testing"], "test"),
}
"""What a cell of a split may say, in lower case."""
UNKNOWN = frozenset({"", "na", "n/a", "nan", "null"})
"""What a cell without a value holds, in lower case."""
FINDING = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
MOST_COLUMNS = 2000
_NEARLY = 0.5  # of the cells of a column that would be a finding but for the others
UNCERTAIN = frozenset({"-1", "-1.0"})
"""The third value of CheXpert-like tables; it counts as unknown."""


@dataclass(frozen=True)
class LabelTable:
    """A table of text.

    Attributes:
        path: the file it came from.
        columns: the cells of each column, stripped, in the order of the file.
        numbers: the number of each row; 1 is the first row under the header.
    """

    path: Path
    columns: dict[str, list[str]]
    numbers: list[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def error(self, what: str, *, do: str | None = None) -> LabelError:
        """A LabelError about this file, whatever its cells and columns hold."""
        advice = "\n".join(map(shown, do.split("\n"))) if do else None
        return LabelError(shown(what), where=str(self.path), do=advice)

    def find(self, names: Sequence[str]) -> str | None:
        """The first of `names` that is a column, in whatever case it is written."""
        lower = {column.lower(): column for column in reversed(self.columns)}
        return next((lower[name.lower()] for name in names if name.lower() in lower), None)

    def need(self, name: str, option: str) -> str:
        """The column the user named.

        Raises:
            LabelError: there is none of that name.
        """
        column = self.find([name.strip()])
        if column is None:
            close = nearest(name, [c.lower() for c in self.columns])
            hint = f'Nearest: "{self.find([close])}". ' if close else ""
            raise self.error(f'there is no column "{name}" ({option})', do=f"{hint}Columns: {self.listed()}")
        return column

    def listed(self) -> str:
        """The names of the columns, for messages."""
        return ", ".join(self.columns)

    def take(self, rows: Sequence[int]) -> LabelTable:
        """The table with these rows only, which keep their numbers."""
        columns = {name: [cells[i] for i in rows] for name, cells in self.columns.items()}
        return LabelTable(self.path, columns, [self.numbers[i] for i in rows])


@dataclass(frozen=True)
class Columns:
    """Which column means what. `labels` is one column of classes, or columns of findings when `findings`; `left_out`
    are columns that are nearly findings."""

    path: str
    patient: str | None
    split: str | None
    labels: tuple[str, ...]
    findings: bool
    mask: str | None = None
    report: str | None = None
    modality: str | None = None
    left_out: tuple[str, ...] = ()


def read_label_table(path: Path) -> LabelTable:
    """Read a table with commas, semicolons or tabs, in UTF-8, UTF-16 or Latin-1.

    Raises:
        LabelError: absent, empty, not text, a header only, columns named twice, or rows of unequal length.
    """
    table = LabelTable(path, {}, [])
    text = _text(table)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise table.error(f"the table cannot be read: {error}") from error
    lines = [[cell.strip() for cell in line] for line in lines]
    while lines and not any(lines[0]):
        lines.pop(0)
    return _checked(table, lines)


def _text(table: LabelTable) -> str:
    if table.path.is_dir():
        held = sorted(p.name for p in table.path.glob("*.csv"))[:5]
        inside = f", such as {', '.join(held)} in it" if held else ""
        raise table.error("this is a folder, not a label table", do=f"Give the file of the table{inside}")
    if table.path.exists() and not table.path.is_file():
        raise table.error("this is a pipe or a device, not a label table", do="Give a CSV file")
    try:
        data = table.path.read_bytes()
    except OSError as error:
        beside = [p.name for p in table.path.parent.glob("*.csv")] if table.path.parent.is_dir() else []
        close = nearest(table.path.name, beside)
        raise table.error(
            f"the label table cannot be opened ({error.strerror})", do=f'Nearest: "{close}"' if close else None
        ) from error
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise table.error("this is a workbook, not a text table", do="Save it as CSV in the spreadsheet program")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        raise table.error("this is no text", do="Give a CSV table with one row per image")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _checked(table: LabelTable, lines: list[list[str]]) -> LabelTable:
    if not lines:
        raise table.error("the label table is empty", do="Give a CSV table with a header and one row per image")
    header, *body = lines
    if len(header) > MOST_COLUMNS:
        reason = f"the table has {len(header):,} columns, more than {MOST_COLUMNS:,}"
        raise table.error(reason, do="Keep the columns of images, patients, splits and labels")
    while header and not header[-1] and not any(any(line[len(header) - 1 :]) for line in body):
        header.pop()
    rows = [(number, line) for number, line in enumerate(body, start=1) if any(line)]
    if not rows:
        raise table.error("the label table has a header and no rows", do="Give one row per image")
    double = sorted({name for name in header if header.count(name) > 1})
    if double:
        raise table.error(f"columns stand twice: {', '.join(double)}", do="Rename or remove one of each")
    for number, line in rows:
        if len(line) < len(header) or any(line[len(header) :]):
            reason = (
                f"row {number} has {len(line)} cells, the header {len(header)} (row 1 is the first under the header)"
            )
            raise table.error(reason, do="Put cells that hold the delimiter into quotes")
    columns = {name: [line[i] for _, line in rows] for i, name in enumerate(header)}
    return LabelTable(table.path, columns, [number for number, _ in rows])


def choose_columns(
    table: LabelTable,
    patient: str | None,
    labels: Sequence[str] | None,
    split: str | None = None,
    *,
    outlines: bool = False,
) -> Columns:
    """Which column means what, by the names in this file and by what the user said.

    Args:
        outlines: masks are the labels: a table that says patients, splits or masks needs no column of labels.

    Raises:
        LabelError: no column for the image or for the label, or none of the name given.
    """
    path = table.find(PATHS)
    if path is None:
        raise table.error(
            f"no column says which image a row is about (columns: {table.listed()})",
            do=f"Name the column with the file names one of: {', '.join(PATHS)}",
        )
    group = table.need(patient, "--patient") if patient else table.find(PATIENTS)
    parted = table.need(split, "--split") if split else table.find([SPLIT])
    more = [table.find(names) for names in (MASKS, REPORTS, ["modality"])]
    useful = outlines and any(name is not None for name in (group, parted, *more))
    chosen, findings = _label_columns(table, labels, {path, group, parted, *more}, needed=not useful)
    mask, report, modality = (None if name in chosen else name for name in more)
    by_content = not labels and table.find(LABELS) is None
    nearly = () if not by_content else _nearly_findings(table, {path, group, parted, *more, *chosen})
    return Columns(path, group, parted, chosen, findings, mask, report, modality, nearly)


def _label_columns(
    table: LabelTable, named: Sequence[str] | None, taken: set[str | None], *, needed: bool
) -> tuple[tuple[str, ...], bool]:
    if named:
        chosen = tuple(dict.fromkeys(table.need(name, "--label") for name in named))
        return chosen, len(chosen) > 1
    single = table.find(LABELS)
    if single is not None:
        return (single,), False
    found = tuple(name for name, cells in table.columns.items() if name not in taken and _is_finding(cells))
    if found or not needed:
        return found, len(found) > 1
    raise table.error(
        f"no column holds labels (columns: {table.listed()})",
        do=f"Name it one of {', '.join(LABELS)}, or say which it is with --label; to learn outlines from masks, whose "
        "patients and splits it tells, add --task segment",
    )


def _nearly_findings(table: LabelTable, taken: set[str | None]) -> tuple[str, ...]:
    """Columns that would be findings but for a few cells."""
    nearly = []
    for name, cells in table.columns.items():
        said = [cell.lower() for cell in cells if cell.lower() not in UNKNOWN]
        share = sum(cell in FINDING for cell in said) / max(1, len(said))
        if name not in taken and not _is_finding(cells) and share >= _NEARLY:
            nearly.append(name)
    return tuple(nearly)


def _is_finding(cells: Sequence[str]) -> bool:
    known = {cell.lower() for cell in cells} - UNKNOWN
    return bool(known & FINDING.keys()) and known <= FINDING.keys() | UNCERTAIN
