"""Patients in strata: who belongs to which class, and orders in which every prefix is stratified."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.errors import LabelError

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Cohort:
    """The patients of some labelled rows.

    Attributes:
        rows: (n,) catalog rows, ascending.
        owner: (n,) position of each row's patient, patients sorted by name.
        stratum: (P,) stratum of each patient: its most frequent class (of those tied, the rarest); where an image may
            have several labels or outlined classes the rarest it has, K when it has none of the K.
        present: (P, K) whether the patient has an image of the class, or with the label.
        absent: (P, K) whether it has an image known not to be of the class, or to be without the label.
    """

    rows: Rows
    owner: Rows
    stratum: Rows
    present: NDArray[np.bool_]
    absent: NDArray[np.bool_]

    @classmethod
    def of(cls, catalog: Catalog, rows: Rows, person: Rows | None = None) -> Cohort:
        """The patients of `rows`; rows without any label are left out.

        Args:
            person: `persons(catalog)`, where it is known already.

        Raises:
            LabelError: the catalog has no labels.
        """
        rows = np.unique(rows)
        has, lacks = _flags(catalog, rows)
        known = (has | lacks).any(axis=1)
        of_row = persons(catalog) if person is None else person
        names, owner = np.unique(of_row[rows[known]], return_inverse=True)
        positive, negative = _sums(has[known], owner, len(names)), _sums(lacks[known], owner, len(names))
        stratum = _rarest(positive) if has_several(catalog) else _majority(positive)
        return cls(rows[known], owner, stratum, positive > 0, negative > 0)

    def __len__(self) -> int:
        return len(self.stratum)

    @property
    def counts(self) -> Rows:
        """(K,) patients that have the class or label."""
        return np.asarray(self.present.sum(axis=0))

    @property
    def both(self) -> Rows:
        """(K,) patients that have the class or label, or that lack it, whichever are fewer."""
        return np.asarray(np.minimum(self.counts, self.absent.sum(axis=0)))

    def rows_of(self, patients: Rows) -> Rows:
        """The rows of some patients, ascending."""
        chosen = np.zeros(len(self), bool)
        chosen[patients] = True
        return np.asarray(self.rows[chosen[self.owner]])


def has_several(catalog: Catalog) -> bool:
    """Whether an image may have several labels or outlined classes, each present or not, instead of one class."""
    return catalog.labels is not None and catalog.labels.several


def is_outlined(catalog: Catalog) -> bool:
    """Whether masks are the labels: each image has pixels without a class, so none need be without it as a whole."""
    return catalog.labels is not None and catalog.labels.kind == "segmentation"


def measuring(catalog: Catalog, cohort: Cohort) -> Rows:
    """(K,) patients that a score of each class or label rests on: those that have it, or that lack it, whichever are
    fewer; where it is outlined, those that have it."""
    return cohort.counts if is_outlined(catalog) else cohort.both


def label_names(catalog: Catalog) -> tuple[str, ...]:
    """The classes, or the labels."""
    return catalog.labels.names if catalog.labels else ()


def counted(catalog: Catalog, counts: Rows) -> str:
    """Numbers by class or label, for a message: "sick 12, well 30"."""
    return ", ".join(f"{name} {count:,}" for name, count in zip(label_names(catalog), counts.tolist(), strict=True))


def persons(catalog: Catalog) -> Rows:
    """(N,) the patient of every row as a number, in the order of their first rows: keys differ between users."""
    return np.asarray(np.unique(catalog.persons(), return_inverse=True)[1])


def _flags(catalog: Catalog, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(n, K) whether each row has the class or label, and whether it is known to lack it."""
    targets = catalog.targets()[rows]
    if targets.ndim == 2:
        return targets == 1, targets == 0
    has = targets[:, None] == np.arange(len(label_names(catalog)))
    return has, ~has & ~np.isnan(targets)[:, None]


def _sums(flags: NDArray[np.bool_], owner: Rows, count: int) -> Rows:
    """(P, K) how many rows of each owner are flagged."""
    columns = [np.bincount(owner, weights=column, minlength=count) for column in flags.T]
    return np.stack(columns, axis=1).astype(np.int64)


def _majority(counts: Rows) -> Rows:
    rarity = np.argsort((counts > 0).sum(axis=0), kind="stable")
    return np.asarray(rarity[counts[:, rarity].argmax(axis=1)])


def _rarest(counts: Rows) -> Rows:
    rarity = np.argsort((counts > 0).sum(axis=0), kind="stable")
    has = counts[:, rarity] > 0
    return np.asarray(np.where(has.any(axis=1), rarity[has.argmax(axis=1)], counts.shape[1]))


def shuffled(strata: NDArray[Any], rng: np.random.Generator) -> Rows:
    """Positions of all items, stratum by stratum, shuffled within each."""
    return np.lexsort((rng.permutation(len(strata)), strata))


def stratified_order(strata: NDArray[Any], rng: np.random.Generator, least: int = 0) -> Rows:
    """Positions of all items in an order of which every prefix is stratified.

    Among the first b of n items, a stratum of m items has floor(b m / n) or ceil(b m / n): the j-th item of a stratum
    may come at place floor(j n / m) at the earliest and must come before place ceil((j + 1) n / m), and the earliest
    deadline goes first, which keeps all of them (Steiner and Yeomans, Management Science 1993).

    Args:
        least: items of every stratum that are moved to the front. A prefix that holds them all is the stratified one
            wherever that has as many of each, and else it has `least` of the rare strata and is stratified in the rest.
    """
    grouped = shuffled(strata, rng)
    _, starts, sizes = np.unique(strata[grouped], return_index=True, return_counts=True)
    turns = np.array(_turns(starts.tolist(), sizes.tolist()), dtype=np.int64)
    within = turns - np.repeat(starts, sizes)[turns]
    return np.asarray(grouped[turns[np.argsort(within >= least, kind="stable")]])


def _turns(starts: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Which item comes when; a stratum's items lie at its start, one behind the other."""
    total = sum(sizes)
    taken = [0] * len(sizes)
    waiting = [(0, s) for s in range(len(sizes))]
    ready: list[tuple[int, int]] = []
    order = []
    for place in range(total):
        while waiting and waiting[0][0] <= place:
            _, s = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-(taken[s] + 1) * total // sizes[s]), s))
        _, s = heapq.heappop(ready)
        order.append(starts[s] + taken[s])
        taken[s] += 1
        if taken[s] < sizes[s]:
            heapq.heappush(waiting, (taken[s] * total // sizes[s], s))
    return order


def grouped_folds(groups: NDArray[Any], strata: NDArray[Any], folds: int, seed: int | Sequence[int]) -> Rows:
    """(n,) fold of each item, 0 to folds - 1; groups never cross, and strata are spread within one group.

    Args:
        groups: (n,) patient of each item.
        strata: (n,) class of each item; a group belongs to its most frequent one, of those tied to the rarest.

    Raises:
        LabelError: fewer groups than folds.
    """
    names, owner = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise LabelError(f"{folds} folds need {folds} patients, there are {len(names)}", do="Add labelled patients")
    kinds, kind = np.unique(strata, return_inverse=True)
    counts = _sums(kind[:, None] == np.arange(len(kinds)), owner, len(names))
    dealt = np.empty(len(names), np.int64)
    dealt[shuffled(_majority(counts), np.random.default_rng(seed))] = np.arange(len(names)) % folds
    return np.asarray(dealt[owner])
