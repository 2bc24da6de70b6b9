"""Groups of scans by what their own headers say where no table does: sex, age, site, scanner and its settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from medprior.data.scan import ORIGIN

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

FACTS = (*ORIGIN, "modality")
"""What an index knows of scans, in the order of their names' importance."""
ALIASES = {
    "sex": ("gender",),
    "site": ("hospital", "centre", "center", "institution", "institutionname"),
    "manufacturer": ("maker", "vendor"),
    "scanner": ("model", "scannermodel", "manufacturermodelname"),
    "field_strength": ("fieldstrength", "magneticfieldstrength", "tesla"),
    "kvp": ("kv", "tubevoltage"),
}
"""Other names of facts, as `plain` leaves them."""
Cells = list[str]


def plain(name: str) -> str:
    """A column's name without case, blanks and a leading "patient"."""
    return re.sub(r"^patient('s)?|[^a-z]", "", name.lower())


def fact_named(name: str) -> str | None:
    """The fact that a column of this name is about, or None."""
    said = plain(name)
    return next((fact for fact in FACTS if said in (plain(fact), *ALIASES.get(fact, ()))), None)


def facts_named(names: Iterable[str]) -> set[str]:
    """The facts that columns of these names are about."""
    return {fact for name in names if (fact := fact_named(name)) is not None}


def said_by_headers(catalog: Catalog, fact: str) -> Cells:
    """(N,) what is known of each scan, "" where nothing; sites by number, as no page may name them."""
    cells = [value or "" for value in catalog.table[fact]]
    return _numbered(cells, "site") if fact == "site" else cells


def _numbered(keys: Sequence[str], word: str) -> Cells:
    """Keys as "site 1", "site 2", ... by the first scan of each: the same for whoever holds another salt."""
    place = {key: number for number, key in enumerate(dict.fromkeys(key for key in keys if key), start=1)}
    return [f"{word} {place[key]}" if key else "" for key in keys]
