"""Groups of scans: by a column of the label table (sex, age, site, ...) or by what the index knows of them.

Numbers of more than `MOST_VALUES` values become bands: ages those of `AGES`, others thirds of the labelled scans. Of
text, values of fewer than `FEWEST_PATIENTS` patients stand together as "other", so that no page shows what may be one
person's alone; so do all but the `MOST_GROUPS` most frequent.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medprior.data.annotations.label_table import UNKNOWN, Columns, LabelTable, choose_columns, read_label_table
from medprior.data.annotations.matching import Matcher
from medprior.data.catalog import Catalog
from medprior.data.pool import in_pool
from medprior.data.strata import is_outlined
from medprior.errors import SettingsError, unknown

RECOGNISED = frozenset(
    (
        *("sex", "gender", "age"),
        *("site", "hospital", "centre", "center", "institution"),
        *("scanner", "manufacturer", "model", "modality", "view", "viewposition"),
    )
)
"""Names of columns that make groups unasked, without case, spaces and a leading "patient"."""
FACTS = ("modality",)
"""What the index itself knows of scans."""
NONE = "none"
"""Given alone, it asks for no groups."""
AGES = (40.0, 60.0, 75.0)
MOST_VALUES, MOST_GROUPS, FEWEST_PATIENTS = 6, 12, 3
OTHER = "other"
Cells = list[str]


@dataclass(frozen=True)
class Grouping:
    """A column as groups.

    Attributes:
        name: of the column.
        groups: their names, bands in their order.
        member: (N,) the group of every row of the catalog, -1 where it is unknown.
        banded: whether groups are bands of a number.
    """

    name: str
    groups: tuple[str, ...]
    member: NDArray[np.int64]
    banded: bool = False


def check_groups(names: Sequence[str], labels: Path | None) -> None:
    """Refuse columns that do not exist, before any work.

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
        labels: the table that the catalog was joined with; where there is none, only what the index knows makes groups.
        names: columns; those that are recognised when there are none.
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
    found, left = [], []
    for name in chosen:
        cells = _cells(catalog, table, row_of, name)
        grouping = _grouping(name, cells, catalog)
        if len(grouping.groups) > 1:
            found.append(grouping)
        elif names:
            left.append(f'column "{name}" makes no groups: it is empty, or the same for all')
    return tuple(found), tuple(left)


def groups_lines(groupings: Sequence[Grouping], left: Sequence[str] = ()) -> list[str]:
    """What is compared, for the plan, and what was `left` (`read_groups`)."""
    said = [
        f"{one.name} ({', '.join(one.groups)})" if one.banded else f"{one.name} ({len(one.groups)} groups)"
        for one in groupings
    ]
    line = [f"Groups   {', '.join(said)}   (change with --groups, --groups {NONE} for none)"] if said else []
    return [*line, *(f"         {reason}" for reason in left)]


def _column(table: LabelTable | None, name: str) -> str:
    """The column that is meant, in the spelling of the table."""
    found = table.find([name.strip()]) if table is not None else None
    if found is not None:
        return found
    if name.strip().lower() in FACTS:
        return name.strip().lower()
    raise unknown("group column", name, [*(table.columns if table is not None else ()), *FACTS])


def _recognised(table: LabelTable | None, columns: Columns | None) -> list[str]:
    used = _meaningful(columns)
    found = [name for name in (table.columns if table is not None else ()) if _plain(name) in RECOGNISED - used]
    found = [name for name in found if name not in used]
    known = {_plain(name) for name in found}
    return [*found, *(fact for fact in FACTS if fact not in known and fact not in used)]


def _plain(name: str) -> str:
    return re.sub(r"^patient('s)?|[^a-z]", "", name.lower())


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


def _cells(catalog: Catalog, table: LabelTable | None, row_of: NDArray[np.int64] | None, name: str) -> Cells:
    """(N,) what the column says of each scan, "" where nothing."""
    if table is None or row_of is None or name not in table.columns:
        return [value or "" for value in catalog.table[name]]
    said = [*table.columns[name], ""]
    return ["" if said[row].lower() in UNKNOWN else said[row] for row in row_of]


def _grouping(name: str, cells: Cells, catalog: Catalog) -> Grouping:
    numbers = _numbers(cells, age=_plain(name) == "age")
    if numbers is not None and len(np.unique(numbers[np.isfinite(numbers)])) > MOST_VALUES:
        labelled = catalog.table["labelled"].to_numpy(dtype=bool) & np.isfinite(numbers)
        return _bands(name, numbers, numbers[labelled])
    if numbers is not None:
        cells = ["" if np.isnan(number) else f"{number:g}" for number in numbers]
    else:
        cells = _without_rare(_one_spelling(cells), catalog.persons())
    groups = sorted({*cells} - {""}, key=lambda group: (group == OTHER, group if numbers is None else float(group)))
    return Grouping(name, tuple(groups), _members(cells, groups))


def _members(cells: Cells, groups: Sequence[str]) -> NDArray[np.int64]:
    place = {group: number for number, group in enumerate(groups)}
    return np.array([place.get(cell, -1) for cell in cells], np.int64)


def _numbers(cells: Cells, *, age: bool) -> NDArray[np.float64] | None:
    """(N,) the numbers of a column that holds nothing else, NaN where unknown; of ages also DICOM's 058Y."""
    said = [_years(cell) if age else cell for cell in cells]
    try:
        found = np.array([float(cell) if cell else np.nan for cell in said])
    except ValueError:
        return None
    return np.where(np.isfinite(found), found, np.nan) if np.isfinite(found).any() else None


def _years(cell: str) -> str:
    found = re.fullmatch(r"(\d{3})([YMWD])", cell)
    per_year = {"Y": 1.0, "M": 12.0, "W": 52.2, "D": 365.25}
    return str(float(found[1]) / per_year[found[2]]) if found else cell


def _bands(name: str, numbers: NDArray[np.float64], labelled: NDArray[np.float64]) -> Grouping:
    if _plain(name) == "age":
        edges, groups = np.array(AGES), ["<40", "40-59", "60-74", "75+"]
    else:
        edges = np.unique(np.quantile(labelled, [1 / 3, 2 / 3])) if len(labelled) else np.zeros(0)
        groups = _band_names(edges)
    member = np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right"))
    present = np.unique(member[member >= 0])
    place = np.full(len(groups) + 1, -1)
    place[present] = np.arange(len(present))
    return Grouping(name, tuple(groups[i] for i in present), place[member], banded=True)


def _band_names(edges: NDArray[np.float64]) -> list[str]:
    said = [f"{edge:.4g}" for edge in edges]
    between = [f"{low} to <{high}" for low, high in itertools.pairwise(said)]
    return [f"<{said[0]}", *between, f"{said[-1]}+"] if said else ["all"]


def _one_spelling(cells: Cells) -> Cells:
    """Values that differ in case alone, in their most frequent spelling."""
    usual: dict[str, str] = {}
    for cell, _ in Counter(cells).most_common():
        usual.setdefault(cell.casefold(), cell)
    return [usual[cell.casefold()] for cell in cells]


def _without_rare(cells: Cells, persons: NDArray[np.int64]) -> Cells:
    patients = {cell: len({*persons[np.array(cells) == cell].tolist()}) for cell in {*cells} - {""}}
    often = sorted(patients, key=lambda cell: (-patients[cell], cell))[:MOST_GROUPS]
    kept = {cell for cell in often if patients[cell] >= FEWEST_PATIENTS} | {""}
    return [cell if cell in kept else OTHER for cell in cells]
