"""What stands on two sides of a line that should part it: copies, and patients, in training and in test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medprior.data.duplicates.find import Duplicates, Rows, members

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["split", "pool", "labels", "patient"]
SPLITS = ("train", "val", "test")
_NAMED = 5  # rows that a sentence names

_ONE = {
    "split": "{rows} are {copies} and stand in {splits}",
    "pool": "{rows} are {copies}, some with a label and some without",
    "labels": "{rows} are {copies} with different labels",
    "patient": "{rows} are of one patient and stand in {splits}",
}
_ALL = {
    "split": ("group of copies stands", "groups of copies stand", "in more than one of train, val and test"),
    "pool": ("group of copies has", "groups of copies have", "images with and without a label"),
    "labels": ("group of copies has", "groups of copies have", "labels that contradict each other"),
    "patient": ("patient stands", "patients stand", "in more than one of train, val and test"),
}


@dataclass(frozen=True)
class Leak:
    """One set of rows that crosses a line.

    Attributes:
        kind: "split" (copies in more than one of train, val and test), "pool" (copies with and without a label),
            "labels" (copies whose labels differ), or "patient" (one patient in more than one split).
        rows: of the catalog, ascending.
        splits: the splits they stand in.
        distance: the greatest between linked rows, 0 for the same pixels; None for patients.
    """

    kind: Kind
    rows: tuple[int, ...]
    splits: tuple[str, ...]
    distance: float | None = None

    def said(self) -> str:
        """A sentence that names rows and no file."""
        named = [f"{row:,}" for row in self.rows[:_NAMED]]
        more = len(self.rows) - len(named)
        rows = _listed(named if not more else [*named, f"{more:,} more"])
        near = "copies" if not self.distance else f"near-copies (distance {self.distance:.2f})"
        sentence = _ONE[self.kind].format(rows=f"Rows {rows}", copies=near, splits=_listed(self.splits))
        return f"{sentence}."


def leaks(table: pd.DataFrame, duplicates: Duplicates, targets: NDArray[np.float64] | None = None) -> list[Leak]:
    """Every cluster of copies and every patient that crosses a line, clusters first, each in the order of their rows.

    Copies inside one known patient are no leak of their own: where they cross, their patient does. A labelled row
    without a split counts as train where others have one.

    Args:
        table: of the catalog: the columns patient, split and labelled are looked at.
        targets: (N,) classes or (N, K) findings, NaN unknown, to find labels that contradict each other.
    """
    facts = _Facts.of(table, targets)
    farthest = _farthest(duplicates)
    found = [leak for rows in members(duplicates.cluster) for leak in facts.crossing(rows, farthest[int(rows[0])])]
    return [*found, *facts.patients()]


def summary(found: Sequence[Leak], duplicates: Duplicates) -> list[str]:
    """What a user has to know, in one sentence per kind, with numbers and no names."""
    said = []
    copied = int((duplicates.cluster >= 0).sum())
    if copied:
        groups = len(np.unique(duplicates.cluster[duplicates.cluster >= 0]))
        said.append(
            f"{copied:,} images are copies or near-copies of each other, in {groups:,} group{'s'[: groups > 1]}."
        )
    counts = Counter(leak.kind for leak in found)
    images = Counter[str]()
    for leak in found:
        images[leak.kind] += len(leak.rows)
    for kind, (one, many, where) in _ALL.items():
        if count := counts[kind]:  # type: ignore[index]
            said.append(f"{count:,} {one if count == 1 else many} {where} ({images[kind]:,} images).")
    return said


@dataclass(frozen=True)
class _Facts:
    patient: NDArray[Any]
    split: NDArray[Any]
    labelled: NDArray[np.bool_]
    targets: NDArray[np.float64]

    @classmethod
    def of(cls, table: pd.DataFrame, targets: NDArray[np.float64] | None) -> _Facts:
        labelled = table["labelled"].to_numpy(dtype=bool)
        split = table["split"].to_numpy(dtype=str)
        if (split != "").any():
            split = np.where((split == "") & labelled, "train", split)
        known = np.full((len(table), 0), np.nan) if targets is None else targets.reshape(len(table), -1)
        return cls(table["patient"].to_numpy(dtype=str), split, labelled, known)

    def crossing(self, rows: Rows, distance: float) -> Iterator[Leak]:
        """The lines that a cluster crosses."""
        one = tuple(rows.tolist())
        splits = self._splits(rows)
        same = len(set(self.patient[rows])) == 1 and self.patient[rows[0]] != ""
        if len(splits) > 1 and not same:
            yield Leak("split", one, splits, distance)
        if len(set(self.labelled[rows])) == 2 and not same:
            yield Leak("pool", one, splits, distance)
        if self._contradicting(rows):
            yield Leak("labels", one, splits, distance)

    def patients(self) -> Iterator[Leak]:
        """Patients in more than one split, by their first row."""
        rows = np.flatnonzero((self.patient != "") & (self.split != ""))
        _, first, owner = np.unique(self.patient[rows], return_index=True, return_inverse=True)
        for theirs in members(first[owner]):
            splits = self._splits(rows[theirs])
            if len(splits) > 1:
                yield Leak("patient", tuple(rows[theirs].tolist()), splits)

    def _splits(self, rows: Rows) -> tuple[str, ...]:
        there = set(self.split[rows].tolist())
        return tuple(name for name in SPLITS if name in there)

    def _contradicting(self, rows: Rows) -> bool:
        known = [column[~np.isnan(column)] for column in self.targets[rows].T]
        return any(len(column) > 0 and bool(np.ptp(column) > 0) for column in known)


def _farthest(duplicates: Duplicates) -> dict[int, float]:
    """The greatest distance of a pair in each cluster, by its lowest row."""
    pairs = duplicates.pairs
    clusters = duplicates.cluster[pairs["row_a"].to_numpy(dtype=np.int64)]
    greatest = pairs["distance"].groupby(clusters).max()
    return dict(zip(greatest.index.tolist(), greatest.tolist(), strict=True))


def _listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
