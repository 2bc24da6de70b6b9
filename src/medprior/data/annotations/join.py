"""Labels, patients and the published split, joined to a catalog from a table.

Rows are numbered as in a spreadsheet without its header: row 1 is the first under it. What is not clear stops the
join with the row's number, and never becomes a silent guess:
    - more than 10% of rows without their image stop it; fewer are left out with a warning;
    - a row that repeats another is dropped with a warning, two that contradict each other about an image stop it;
    - a patient in two splits is dropped from the earlier one (train, then val): the test set stays as published.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medprior.data.annotations.beside import attach_masks, without_masks
from medprior.data.annotations.label_table import SPLITS, UNKNOWN, Columns, LabelTable, choose_columns, read_label_table
from medprior.data.annotations.matching import Matcher
from medprior.data.annotations.modalities import modality_code
from medprior.data.annotations.targets import LabelSpec, class_targets, finding_targets
from medprior.data.catalog import PATIENTS_UNKNOWN, Catalog, problems_table
from medprior.data.indexing.assembling import objects
from medprior.data.scan import Note
from medprior.progress import Progress, silent

MOST_UNMATCHED = 0.1
_ORDER = ("train", "val", "test")


def join_labels(
    catalog: Catalog,
    csv_path: Path | str,
    *,
    patient: str | None = None,
    label: Sequence[str] | None = None,
    split: str | None = None,
    outlines: bool = False,
    progress: Progress = silent,
) -> Catalog:
    """A new catalog with targets, patients and splits from a table; the one given stays as it is.

    One label column gives binary or multi-class targets, several columns of 0 and 1 give multi-label ones. Labels the
    catalog had are replaced; splits and patients are where the table has such a column. A row about a file of many
    scans holds for all of them.

    Args:
        catalog: the scans.
        csv_path: the table; its columns are told by name (`medprior.data.annotations.label_table`).
        patient: the column of patients, where its name is another.
        label: the column, or columns, of labels, where the names are others.
        split: the column of the published split, where its name is another.
        outlines: masks are the labels: a table of patients, splits or masks needs none, and then gives none.

    Raises:
        LabelError: the table, its columns, its rows or its labels cannot be used; the message says which and why.
    """
    table = read_label_table(Path(csv_path).expanduser())
    columns = choose_columns(table, patient, label, split, outlines=outlines)
    warnings = [warning for warning in catalog.warnings if warning != PATIENTS_UNKNOWN]
    if columns.left_out:
        listed = ", ".join(f'"{name}"' for name in columns.left_out)
        warnings.append(f"Left out, for they hold more than 0, 1 and empty cells: columns {listed} of the labels.")
    table, paths = _matched(catalog, table, columns, warnings, progress)
    table, paths = _without_duplicates(table, paths, columns, warnings)
    table = _with_clean_splits(table, columns, warnings)
    return _filled(catalog, table, paths, columns, warnings)


def _matched(
    catalog: Catalog, table: LabelTable, columns: Columns, warnings: list[str], progress: Progress
) -> tuple[LabelTable, list[str]]:
    """The rows whose image is in the catalog, and its path."""
    readable, unreadable = set(catalog.table["path"]), set(catalog.problems["path"])
    matcher = Matcher(readable | unreadable, catalog.root, table.path.resolve().parent)
    with progress.task("Joining labels", total=len(table), unit="rows") as bar:
        found = []
        for cell in table.columns[columns.path]:
            found.append(matcher.match(cell))
            bar.advance(1)
    lost = [i for i, options in enumerate(found) if len(options) != 1]
    if len(lost) > MOST_UNMATCHED * len(table):
        raise _unmatched(table, columns, found, lost, matcher)
    if lost:
        warnings.append(f"{_rows(table.numbers[i] for i in lost)} of the labels match no image, or several: left out.")
    spoilt = [i for i, options in enumerate(found) if len(options) == 1 and options[0] not in readable]
    if spoilt:
        warnings.append(f"{_rows(table.numbers[i] for i in spoilt)} of the labels name images that cannot be read.")
    kept = sorted(set(range(len(table))) - {*lost, *spoilt})
    return table.take(kept), [found[i][0] for i in kept]


def _unmatched(
    table: LabelTable, columns: Columns, found: list[list[str]], lost: list[int], matcher: Matcher
) -> Exception:
    lines = []
    for i in lost[:5]:
        cell = table.columns[columns.path][i]
        several = f"could be any of {len(found[i])} files, such as {' and '.join(sorted(found[i])[:2])}"
        close = matcher.nearest(cell) if not found[i] else None
        none = f'no such file; nearest: "{close}"' if close else "no such file, and none like it"
        lines.append(f'  row {table.numbers[i]}: "{cell}": {several if found[i] else none}')
    share = f"{len(lost)} of {len(table)} rows ({len(lost) / len(table):.0%}) match no image, or several"
    counted = f'by column "{columns.path}", below {matcher.root}; row 1 is the first under the header'
    return table.error(f"{share} ({counted})", do="\n".join(["The first are:", *lines]))


def _without_duplicates(
    table: LabelTable, paths: list[str], columns: Columns, warnings: list[str]
) -> tuple[LabelTable, list[str]]:
    used = [name for name in (*columns.labels, columns.patient, columns.split) if name is not None]
    said = [tuple(table.columns[name][i] for name in used) for i in range(len(table))]
    first: dict[str, int] = {}
    same: list[tuple[int, int]] = []
    contrary: list[tuple[int, int]] = []
    for i, path in enumerate(paths):
        j = first.setdefault(path, i)
        if j != i:
            (same if said[i] == said[j] else contrary).append((j, i))
    if contrary:
        pairs = "; ".join(f"rows {table.numbers[j]} and {table.numbers[i]}" for j, i in contrary[:5])
        reason = f"{len(contrary)} rows contradict an earlier row about the same image ({pairs})"
        raise table.error(reason, do="Keep one row per image. Row 1 is the first under the header")
    if same:
        warnings.append(f"{_rows(table.numbers[i] for _, i in same)} of the labels repeat an earlier row: dropped.")
    kept = sorted(first.values())
    return table.take(kept), [paths[i] for i in kept]


def _with_clean_splits(table: LabelTable, columns: Columns, warnings: list[str]) -> LabelTable:
    """Splits under their three names, no patient in two of them: rows in the earlier one lose split and label."""
    if columns.split is None:
        return table
    splits = [_split(table, columns.split, i) for i in range(len(table))]
    said = {**table.columns, columns.split: splits}
    cells = dict(said)
    crossing = _crossing(table.columns[columns.patient], splits) if columns.patient else {}
    if crossing:
        dropped = {i for group in crossing.values() for i in group}
        for name in (columns.split, *columns.labels):
            cells[name] = ["" if i in dropped else cell for i, cell in enumerate(cells[name])]
        warnings.append(_crossing_said(table, len(crossing), sorted(dropped)))
        if columns.labels and _learnable(said, columns) and not _learnable(cells, columns):
            reason = f"{_people(len(crossing))} in more than one split and cannot be learned from: no label is left"
            raise table.error(reason, do=f'Give each patient one split in column "{columns.split}"')
    return dataclasses.replace(table, columns=cells)


def _learnable(cells: dict[str, list[str]], columns: Columns) -> bool:
    """Whether a row outside validation and test has a label."""
    splits = cells[columns.split] if columns.split else []
    labels = zip(*(cells[name] for name in columns.labels), strict=True)
    rows = zip(splits, labels, strict=True)
    return any(split in ("", "train") and not UNKNOWN.issuperset(map(str.lower, row)) for split, row in rows)


def _people(count: int) -> str:
    return "1 patient stands" if count == 1 else f"{count} patients stand"


def _split(table: LabelTable, column: str, row: int) -> str:
    cell = table.columns[column][row].lower()
    if cell not in SPLITS and cell not in UNKNOWN:
        reason = f'"{cell}" in column "{column}", row {table.numbers[row]}, is no split'
        raise table.error(reason, do=f"Use one of: {', '.join(filter(None, SPLITS))}, or leave the cell empty")
    return SPLITS.get(cell, "")


def _crossing(patients: Sequence[str], splits: Sequence[str]) -> dict[str, list[int]]:
    """Of each patient who stands in several splits, the rows outside the latest."""
    rows: dict[str, list[int]] = defaultdict(list)
    for i, (person, split) in enumerate(zip(patients, splits, strict=True)):
        if person and split:
            rows[person].append(i)
    latest = {person: max((splits[i] for i in group), key=_ORDER.index) for person, group in rows.items()}
    early = {person: [i for i in group if splits[i] != latest[person]] for person, group in rows.items()}
    return {person: group for person, group in early.items() if group}


def _crossing_said(table: LabelTable, patients: int, rows: list[int]) -> str:
    images = "1 image" if len(rows) == 1 else f"{len(rows)} images"
    return (
        f"{_people(patients)} in more than one split: {images} "
        f"({_rows(table.numbers[i] for i in rows).lower()} of the labels) dropped from the earlier split; "
        "the published test set is unchanged."
    )


def _filled(catalog: Catalog, table: LabelTable, paths: list[str], columns: Columns, warnings: list[str]) -> Catalog:
    """The catalog with what the clean table says; `row_of` is the table's row for each scan, -1 for none."""
    values, spec = _targets(table, columns, warnings)
    index = {path: i for i, path in enumerate(paths)}
    row_of = np.array([index.get(path, -1) for path in catalog.table["path"]])
    scans = catalog.table.drop(columns=list(catalog.labels.columns) if catalog.labels else [])
    values = np.where(row_of[:, None] >= 0, values[row_of], np.nan)
    scans["labelled"] = np.asarray(~np.isnan(values).all(axis=1))
    for target_column, target in zip(spec.columns if spec else (), values.T, strict=True):
        scans[target_column] = target
    if columns.split is not None:
        scans["split"] = _cells(table, columns.split, row_of)
    if columns.patient is not None:
        said = np.array([catalog.keys(cell) for cell in _cells(table, columns.patient, row_of)], dtype=str)
        scans["patient"] = _renamed(scans["patient"].to_numpy(dtype=str), said).astype(object)
    patients_known = _say_patients(scans["patient"].to_numpy(dtype=str), row_of >= 0, warnings)
    scans, notes = _with_company(catalog, scans, table, columns, row_of)
    problems = pd.concat([without_masks(catalog.problems, scans), problems_table(notes)], ignore_index=True)
    return dataclasses.replace(
        catalog, table=scans, problems=problems, labels=spec, patients_known=patients_known, warnings=warnings
    )


def _targets(table: LabelTable, columns: Columns, warnings: list[str]) -> tuple[NDArray[np.float64], LabelSpec | None]:
    """(N, K) the labels of every row, and what they are: none where no column holds any."""
    if not columns.labels:
        return np.empty((len(table), 0)), None
    if columns.findings:
        values, spec, more = finding_targets(table, columns.labels)
    else:
        classes, spec, more = class_targets(table, columns.labels[0])
        values = classes[:, None]
    warnings += more
    return values, spec


def _with_company(
    catalog: Catalog, scans: pd.DataFrame, table: LabelTable, columns: Columns, row_of: NDArray[np.int64]
) -> tuple[pd.DataFrame, list[Note]]:
    """Scans with the modality, report and mask that the table gives them."""
    if columns.modality is not None:
        codes = [modality_code(cell) for cell in _cells(table, columns.modality, row_of)]
        scans["modality"] = objects(new or old for new, old in zip(codes, scans["modality"], strict=True))
    if columns.report is not None:
        texts = _cells(table, columns.report, row_of)
        scans["report"] = objects(new or old for new, old in zip(texts, scans["report"], strict=True))
    if columns.mask is None:
        return scans, []
    matcher = Matcher(scans["path"], catalog.root, table.path.resolve().parent)
    cells = zip(scans["path"], _cells(table, columns.mask, row_of), strict=True)
    named = {path: matcher.match(cell) for path, cell in cells if cell}
    return attach_masks(scans, catalog.root, {path: found for path, found in named.items() if len(found) == 1})


def _cells(table: LabelTable, column: str, row_of: NDArray[np.int64]) -> NDArray[np.object_]:
    """(N,) the cell of a column for each scan, "" where the table does not name it."""
    cells = [*table.columns[column], ""]
    return np.array([cells[i] for i in row_of], dtype=object)


def _renamed(known: NDArray[np.str_], said: NDArray[np.str_]) -> NDArray[np.str_]:
    """(N,) patients as the table names them; a scan it does not name follows the others of its patient in the files.

    Tables and files often use different identifiers: were the two mixed, one person would count as two.
    """
    names = {old: new for old, new in zip(known, said, strict=True) if old and new}
    return np.array([new or names.get(old, old) for old, new in zip(known, said, strict=True)], dtype=str)


def _say_patients(patients: NDArray[np.str_], in_table: NDArray[np.bool_], warnings: list[str]) -> bool:
    nameless = patients == ""
    if nameless.all():
        warnings.append(PATIENTS_UNKNOWN)
        return False
    if (nameless & in_table).any():
        warnings.append(f"{(nameless & in_table).sum()} rows name no patient; each counts as a patient of its own.")
    if (nameless & ~in_table).any():
        warnings.append(
            f"{(nameless & ~in_table).sum()} images are not in the label table, so their patients are unknown: "
            "pre-training may meet images of test patients."
        )
    return True


def _rows(numbers: Iterable[int]) -> str:
    listed = list(numbers)
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return f"Row{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed[:5]))}{more}"
