"""Copies, leaks and problems: what could deceive whoever trains on a folder."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medprior.data.card.content import Copies, Counts, Crossing, Leaks, Pair, Problem
from medprior.data.card.plainly import alike, plainly
from medprior.data.duplicates.leaks import Leak, leaks
from medprior.data.scan import NOTES

if TYPE_CHECKING:
    import pandas as pd

    from medprior.data.catalog import Catalog
    from medprior.data.duplicates.find import Duplicates

MOST_PAIRS = 60
MOST_OF_A_KIND = 20
MOST_ROWS = 10
MOST_NUMBERS = 12
KINDS = ("split", "patient", "labels", "pool")
"""Of leaks, the worst first."""
_OF_PAIRS = ("row_a", "row_b", "kind", "distance", "line")
_STEPS = 10
_STEP = 0.02


def found_leaks(catalog: Catalog) -> list[Leak]:
    """Every leak of a catalog, the worst kind first."""
    targets = catalog.targets() if catalog.labels is not None else None
    found = leaks(catalog.table, catalog.duplicates, targets)
    return sorted(found, key=lambda leak: KINDS.index(leak.kind))


def said_leaks(found: Sequence[Leak], hashes: NDArray[np.str_], repaired: tuple[str, ...] = ()) -> Leaks:
    """Leaks as a card says them; `hashes` (N,) are those of the pixels."""
    by_kind = {kind: [leak for leak in found if leak.kind == kind] for kind in KINDS}
    there = {kind: some for kind, some in by_kind.items() if some}
    return Leaks(
        counts={kind: len(some) for kind, some in there.items()},
        scans={kind: sum(len(leak.rows) for leak in some) for kind, some in there.items()},
        found=tuple(_crossing(leak, hashes) for some in there.values() for leak in some[:MOST_OF_A_KIND]),
        repaired=repaired,
    )


def copies(catalog: Catalog, found: Sequence[Leak]) -> Copies:
    """The copies of a catalog; those in `found` leaks come first among the pairs."""
    known = catalog.duplicates
    inside = known.cluster[known.cluster >= 0]
    sizes = np.unique(inside, return_counts=True)[1]
    near = known.pairs["kind"].to_numpy(dtype=str) == "near"
    return Copies(
        groups=len(sizes),
        scans=len(inside),
        largest=int(sizes.max(initial=0)),
        spare=int((known.original != np.arange(len(catalog))).sum()),
        exact=int((~near).sum()),
        near=int(near.sum()),
        distances=_distances(known.pairs[near]),
        pairs=_pairs(known, found, catalog.table["split"].to_numpy(dtype=str)),
    )


def problems(table: pd.DataFrame) -> tuple[Problem, ...]:
    """What is to be said of files, alike ones together, the worst kind and the most frequent first."""
    groups: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for number, (kind, reason) in enumerate(zip(table["kind"], table["reason"], strict=True), start=1):
        said = plainly(reason)
        groups[kind, alike(said)].append((number, said))
    found = [_problem(kind, general, some) for (kind, general), some in groups.items()]
    return tuple(sorted(found, key=lambda one: (_order(one.kind), -one.count, one.numbers)))


def problem_counts(table: pd.DataFrame) -> Counts:
    """Remarks by kind, the worst first."""
    often = Counter(table["kind"])
    return {kind: often[kind] for kind in sorted(often, key=_order)}


def _order(kind: str) -> int:
    return ("unreadable", "doubt", "apart", "no image").index(kind) if kind in NOTES else len(NOTES)


def _problem(kind: str, general: str, some: Sequence[tuple[int, str]]) -> Problem:
    same = len({said for _, said in some}) == 1
    return Problem(kind, some[0][1] if same else general, len(some), tuple(n for n, _ in some[:MOST_NUMBERS]))


def _crossing(leak: Leak, hashes: NDArray[np.str_]) -> Crossing:
    distance = None if leak.distance is None else float(leak.distance)
    same = len(set(hashes[list(leak.rows)].tolist())) == 1
    return Crossing(leak.kind, leak.rows[:MOST_ROWS], len(leak.rows), leak.splits, distance, same)


def _distances(pairs: pd.DataFrame) -> Counts:
    """Near pairs by distance, in steps of equal width, up to the last that holds any."""
    place = (pairs["distance"].to_numpy(dtype=float) / _STEP).astype(int).clip(max=_STEPS - 1)
    often = np.bincount(place, minlength=1) if len(place) else np.zeros(0, int)
    return {f"{i * _STEP:.2f} to {(i + 1) * _STEP:.2f}": int(count) for i, count in enumerate(often)}


def _pairs(known: Duplicates, found: Sequence[Leak], split: NDArray[np.str_]) -> tuple[Pair, ...]:
    """Across a line first; of every group one pair before any second one: one that crosses splits, or else the
    farthest."""
    worst = np.full(len(split), len(KINDS))
    for leak in found:
        if leak.kind != "patient":
            rows = np.array(leak.rows)
            worst[rows] = np.minimum(worst[rows], KINDS.index(leak.kind))
    first, second = (known.pairs[name].to_numpy(dtype=np.int64) for name in ("row_a", "row_b"))
    frame = known.pairs.assign(line=worst[first], same=split[first] == split[second], group=known.cluster[first])
    frame = frame.sort_values(["same", "distance", "row_a", "row_b"], ascending=[True, False, True, True])
    frame["turn"] = frame.groupby("group").cumcount()
    shown = frame.sort_values(["line", "turn", "distance"], ascending=[True, True, False], kind="stable")
    lines = (*KINDS, "")
    cells = zip(*(shown[name].tolist()[:MOST_PAIRS] for name in _OF_PAIRS), strict=True)
    return tuple(Pair((int(a), int(b)), str(kind), float(d), lines[line]) for a, b, kind, d, line in cells)
