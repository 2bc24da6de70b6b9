"""A column cut into groups: values as they are, bands of numbers, and rare values together.

Numbers of more than `MOST_VALUES` values become bands: ages those of `EDGES`, others thirds of the labelled scans. Of
text, values of fewer than `FEWEST_PATIENTS` patients stand together as "other", so that no page shows what may be one
person's alone; so do all but the `MOST_GROUPS` most frequent.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medprior.data.annotations.headers import plain

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

EDGES = {"age": (40, 60, 75), "kvp": (50, 70, 90, 110, 130)}
"""Where bands of these numbers begin; of others they are thirds."""
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
        by_header: whether headers say it, and not the label table.
    """

    name: str
    groups: tuple[str, ...]
    member: NDArray[np.int64]
    banded: bool = False
    by_header: bool = False

    @property
    def silent(self) -> int:
        """Scans of which it is not known."""
        return int((self.member < 0).sum())


def grouping(name: str, cells: Cells, catalog: Catalog, most_values: int = MOST_VALUES) -> Grouping:
    """The groups of a column that says `cells` (N,) of the scans of a catalog, "" where nothing.

    Args:
        most_values: distinct numbers that are groups by themselves; more of them become bands.
    """
    numbers = _numbers(cells, age=plain(name) == "age")
    if numbers is not None and len(np.unique(numbers[np.isfinite(numbers)])) > most_values:
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
    if plain(name) in EDGES:
        edges = np.array(EDGES[plain(name)], np.float64)
        groups = _whole_bands(EDGES[plain(name)])
    else:
        edges = np.unique(np.quantile(labelled, [1 / 3, 2 / 3])) if len(labelled) else np.zeros(0)
        groups = _band_names(edges)
    member = np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right"))
    present = np.unique(member[member >= 0])
    place = np.full(len(groups) + 1, -1)
    place[present] = np.arange(len(present))
    return Grouping(name, tuple(groups[i] for i in present), place[member], banded=True)


def _whole_bands(edges: Sequence[int]) -> list[str]:
    return [f"<{edges[0]}", *(f"{low}-{high - 1}" for low, high in itertools.pairwise(edges)), f"{edges[-1]}+"]


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
