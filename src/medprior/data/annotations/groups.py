"""Groups of scans: by a column of the label table (sex, age, site, ...) or by what their own headers say (`headers`).

How columns are cut is `grouping`'s concern; which are taken, and what is said of the others, is told here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medprior.data.annotations.grouping import MOST_VALUES, grouping
from medprior.data.annotations.grouping import Grouping as Grouping
from medprior.data.annotations.headers import FACTS, fact_named, facts_named, plain, said_by_headers
from medprior.data.annotations.label_table import UNKNOWN, Columns, LabelTable, choose_columns, read_label_table
from medprior.data.annotations.matching import Matcher
from medprior.data.catalog import Catalog
from medprior.data.pool import in_pool
from medprior.data.strata import is_outlined
from medprior.errors import SettingsError, unknown
from medprior.evaluation.intervals import FEWEST

RECOGNISED = frozenset(
    (
        *("sex", "gender", "age"),
        *("site", "hospital", "centre", "center", "institution"),
        *("scanner", "manufacturer", "model", "modality", "view", "viewposition"),
    )
)
"""Names of columns that make groups unasked, as `plain` leaves them."""
NONE = "none"
"""Given alone, it asks for no groups."""


def check_groups(names: Sequence[str], labels: Path | None) -> None:
    """Refuse columns that do not exist, before any work. What headers may say is not known yet: it counts as there.

    Raises:
        SettingsError: with the nearest column there is.
        LabelError: the table cannot be read.
    """
    if not names or names == (NONE,):
        return
    table = read_label_table(labels.expanduser()) if labels is not None else None
    for name in names:
        _column(table, name)


def read_groups(
    catalog: Catalog,
    labels: Path | None,
    names: Sequence[str],
    *,
    patient: str | None = None,
    label: Sequence[str] | None = None,
    split: str | None = None,
) -> tuple[tuple[Grouping, ...], tuple[str, ...]]:
    """The groupings of a catalog, and why columns that were found make none.

    Args:
        labels: the table that the catalog was joined with; where there is none, only what headers say makes groups.
        names: columns; when there are none those that are recognised, and what headers say of enough patients.
        patient: the column of patients; it, `label` and `split` are those of `join_labels`.

    Raises:
        SettingsError: no such column, or one that says who is who or what is learnt.
        LabelError: the table cannot be read.
    """
    if tuple(names) == (NONE,):
        return (), ()
    table = read_label_table(labels.expanduser()) if labels is not None else None
    outlines = is_outlined(catalog)
    columns = choose_columns(table, patient, label, split, outlines=outlines) if table is not None else None
    chosen = [_column(table, name) for name in names] if names else _recognised(table, columns)
    for name in chosen:
        _check_meaning(name, columns)
    row_of = _rows(catalog, table, columns) if table is not None and columns is not None else None
    found = [_read(catalog, table, row_of, name) for name in chosen]
    if names:
        said = [_left_said(one) for one in found]
        return tuple(one for one in found if len(one.groups) > 1), tuple(reason for reason in said if reason)
    return _unasked(found, catalog)


def header_groupings(catalog: Catalog) -> tuple[Grouping, ...]:
    """What headers say of the scans beside their modality, fact by fact; without groups where they say nothing."""
    return tuple(_by_header(catalog, fact) for fact in FACTS if fact != "modality")


def groups_lines(groupings: Sequence[Grouping], left: Sequence[str] = ()) -> list[str]:
    """What is compared, for the plan, and what was `left` (`read_groups`)."""
    said = [f"{one.name} ({', '.join(_parts_said(one))})" for one in groupings]
    line = [f"Groups   {', '.join(said)}   (change with --groups, --groups {NONE} for none)"] if said else []
    return [*line, *(f"         {reason}" for reason in left)]


def _column(table: LabelTable | None, name: str) -> str:
    """The column that is meant, in the spelling of the table."""
    found = table.find([name.strip()]) if table is not None else None
    if found is not None:
        return found
    if (fact := fact_named(name)) is not None:
        return fact
    raise unknown("group column", name, [*(table.columns if table is not None else ()), *FACTS])


def _recognised(table: LabelTable | None, columns: Columns | None) -> list[str]:
    used = _meaningful(columns)
    found = [name for name in (table.columns if table is not None else ()) if plain(name) in RECOGNISED - used]
    found = [name for name in found if name not in used]
    known = facts_named([*found, *used])
    return [*found, *(fact for fact in FACTS if fact not in known)]


def _unasked(found: Sequence[Grouping], catalog: Catalog) -> tuple[tuple[Grouping, ...], tuple[str, ...]]:
    """The groupings that nobody asked for; of what headers say those with patients enough to be scored, each once."""
    kept: list[Grouping] = []
    left: list[str] = []
    for one in found:
        twin = next((other for other in kept if _same(one, other)), None) if one.by_header else None
        if len(one.groups) < 2:
            continue
        if one.by_header and not _enough(one, catalog):
            left.append(f'"{one.name}" of the headers: fewer than two groups have {FEWEST} labelled patients')
        elif twin is not None:
            left.append(f'"{one.name}" of the headers parts the scans as "{twin.name}" does, which stands for both')
        else:
            kept.append(one)
    return tuple(kept), tuple(left)


def _same(one: Grouping, other: Grouping) -> bool:
    """Whether two groupings differ in their names alone."""
    if ((one.member < 0) != (other.member < 0)).any():
        return False
    pairs = {*zip(one.member.tolist(), other.member.tolist(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def _enough(one: Grouping, catalog: Catalog) -> bool:
    labelled = catalog.table["labelled"].to_numpy(dtype=bool)
    persons = catalog.persons()
    patients = [len({*persons[labelled & (one.member == group)].tolist()}) for group in range(len(one.groups))]
    return sum(count >= FEWEST for count in patients) > 1


def _left_said(one: Grouping) -> str:
    """Why a column that was asked for makes no groups, or ""."""
    if len(one.groups) > 1:
        return ""
    if not one.by_header:
        return f'column "{one.name}" makes no groups: it is empty, or the same for all'
    if not one.groups:
        return f'"{one.name}" makes no groups: no header says it, and no column of a label table is called so'
    silent = f", and nothing of {one.silent:,} of {len(one.member):,} scans" if one.silent else ""
    return f'"{one.name}" makes no groups: headers say the same of all{silent}'


def _parts_said(one: Grouping) -> list[str]:
    parts = list(one.groups) if one.banded else [f"{len(one.groups)} groups"]
    if not one.by_header:
        return parts
    silent = f"; {one.silent:,} of {len(one.member):,} scans do not say it" if one.silent else ""
    return [*parts, f"from headers{silent}"]


def _meaningful(columns: Columns | None) -> set[str]:
    """Columns that say which image, who, or what is learnt."""
    if columns is None:
        return set()
    named = (columns.path, columns.patient, columns.split, *columns.labels, columns.mask, columns.report)
    return {name for name in named if name is not None}


def _check_meaning(name: str, columns: Columns | None) -> None:
    if name in _meaningful(columns):
        what = f'column "{name}" says which image it is, who, or what is learnt: it makes no groups'
        raise SettingsError(what, where="setting data.groups", do="Name columns such as sex, age or site")


def _rows(catalog: Catalog, table: LabelTable, columns: Columns) -> NDArray[np.int64]:
    """(N,) the row of the table that is about each scan, -1 for none; the first of several."""
    paths = catalog.table["path"].to_numpy()
    own = ~in_pool(catalog.table)
    matcher = Matcher({*paths[own], *catalog.problems["path"]}, catalog.root, table.path.resolve().parent)
    about: dict[str, int] = {}
    for row, cell in enumerate(table.columns[columns.path]):
        found = matcher.match(cell)
        if len(found) == 1:
            about.setdefault(found[0], row)
    return np.array([about.get(path, -1) if mine else -1 for path, mine in zip(paths, own, strict=True)], np.int64)


def _read(catalog: Catalog, table: LabelTable | None, row_of: NDArray[np.int64] | None, name: str) -> Grouping:
    if table is None or row_of is None or name not in table.columns:
        return _by_header(catalog, name)
    said = [*table.columns[name], ""]
    return grouping(name, ["" if said[row].lower() in UNKNOWN else said[row] for row in row_of], catalog)


def _by_header(catalog: Catalog, fact: str) -> Grouping:
    """What headers say; ages always as bands, for they are years and no codes."""
    found = grouping(fact, said_by_headers(catalog, fact), catalog, most_values=0 if fact == "age" else MOST_VALUES)
    return replace(found, by_header=True)
