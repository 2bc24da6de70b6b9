"""Patients, labels and published splits, counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medprior.data.card.content import Counts, Label, Labels, Part, Patients
from medprior.data.duplicates.leaks import SPLITS

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

_RANGES = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, None))

Flags = NDArray[np.bool_]


def patients(catalog: Catalog) -> Patients:
    """Who the scans are of."""
    keys = catalog.table["patient"].to_numpy(dtype=str)
    studies = catalog.table["study"].to_numpy(dtype=str)
    each = Counter(keys[keys != ""].tolist())
    return Patients(
        known=len(each),
        nameless=int((keys == "").sum()),
        scans_each=_ranges(each),
        most=max(each.values(), default=0),
        studies=len(set(studies.tolist()) - {""}),
    )


def labels(catalog: Catalog) -> Labels:
    """What the labels say."""
    spec = catalog.labels
    if spec is None:
        return Labels("", 0, 0, (), ())
    targets = catalog.targets()
    several = targets.ndim == 2
    has = targets == 1 if several else targets[:, None] == np.arange(len(spec.names))
    known = ~np.isnan(targets).all(axis=1) if several else ~np.isnan(targets)
    persons, split = catalog.persons(), catalog.table["split"].to_numpy(dtype=str)
    together = tuple(map(tuple, (has.T.astype(int) @ has.astype(int)).tolist())) if several else ()
    return Labels(
        kind=spec.kind,
        labelled=int(known.sum()),
        none=int((known & ~has.any(axis=1)).sum()) if several else 0,
        labels=tuple(_label(name, column, persons, split) for name, column in zip(spec.names, has.T, strict=True)),
        together=together,
    )


def parts(catalog: Catalog) -> tuple[Part, ...]:
    """The published splits that are there, in the order train, val, test, none."""
    table = catalog.table
    split, keys = table["split"].to_numpy(dtype=str), table["patient"].to_numpy(dtype=str)
    labelled = table["labelled"].to_numpy(dtype=bool)
    if not (split != "").any():
        return ()
    found = [(name, split == name) for name in (*SPLITS, "")]
    return tuple(
        Part(name, int(here.sum()), int((here & labelled).sum()), len(set(keys[here].tolist()) - {""}))
        for name, here in found
        if here.any()
    )


def _label(name: str, has: Flags, persons: NDArray[np.int64], split: NDArray[np.str_]) -> Label:
    splits = {part: int((has & (split == part)).sum()) for part in (*SPLITS, "") if (split == part).any()}
    splits = {part: count for part, count in splits.items() if part or count}
    return Label(name, int(has.sum()), len(np.unique(persons[has])), splits)


def _ranges(each: Counter[str]) -> Counts:
    found = {}
    for low, high in _RANGES:
        name = f"more than {low - 1}" if high is None else f"{low}" if low == high else f"{low} to {high}"
        found[name] = sum(low <= count and (high is None or count <= high) for count in each.values())
    return {name: count for name, count in found.items() if count}
