"""How alike two scans look: difference hashes of their thumbs, and the search for all pairs that are near.

A difference hash has one bit per two neighbouring pixels of the thumb along the last axis: whether the second is
clearly brighter. Brightness, contrast and any monotone change of intensity leave it much as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.progress import Progress, silent

LIMITS = ((0.05, 0.97), (0.10, 0.99), (0.20, 0.997))
"""Scans are near when their distance is at most the first and their correlation at least the second of one of these.

Measured in benchmarks/duplicates: copies keep to them, different patients do not.
"""

_WORD = 64
_STEP = 0.05  # of the thumb's standard deviation: smaller steps are noise on flat ground
_FLAT = 1e-3  # of the greatest value: a thumb that varies less shows nothing
_AXES = 32  # fewer give more candidates, more a slower product
_TALL, _WIDE = 1 << 10, 1 << 12  # rows that are multiplied with one another at once
_PIECE = 1 << 16  # pairs that are compared together
_CROWD = 1000  # neighbours of one row, from which copies are taken aside
_SAMPLE = 1000  # rows that are looked at for crowds

Bits = NDArray[np.uint64]
Rows = NDArray[np.int64]
Limits = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows that look alike.

    Attributes:
        first, second: (P,) rows, first < second, sorted; no pair twice.
        distance: (P,) see `distances`.
        correlation: (P,) of their thumbs.
    """

    first: Rows
    second: Rows
    distance: NDArray[np.float64]
    correlation: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, which: NDArray[Any]) -> Pairs:
        return Pairs(self.first[which], self.second[which], self.distance[which], self.correlation[which])


def normalised(thumbs: NDArray[Any]) -> NDArray[np.float32]:
    """(N, *S) to (N, P) of mean zero and length one, so that a product is a correlation; zeros for flat ones."""
    rows = np.asarray(thumbs, np.float64).reshape(len(thumbs), math.prod(thumbs.shape[1:]))
    if not rows.size:
        return rows.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        centred = rows - rows.mean(axis=1, keepdims=True)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        shows = np.ptp(rows, axis=1) > _FLAT * np.abs(rows).max(axis=1)
    flat = ~(shows & np.isfinite(length[:, 0]) & (length[:, 0] > 0))
    length[flat], centred[flat] = 1.0, 0.0
    return np.asarray(centred / length, np.float32)


def difference_hash(unit: NDArray[np.float32], shape: tuple[int, ...]) -> Bits:
    """(N, words) the bits of thumbs (N, P) as `normalised` gives them, of spatial `shape`; 64 bits to a word.

    The last word is filled up with zeros.
    """
    step = _STEP / math.sqrt(math.prod(shape))  # of a length of one: so much is one standard deviation
    brighter = np.diff(unit.reshape(-1, *shape), axis=-1) > step
    flags = brighter.reshape(len(unit), math.prod(brighter.shape[1:]))
    padded = np.pad(flags, ((0, 0), (0, -flags.shape[1] % _WORD)))
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def distances(first: Bits, second: Bits) -> NDArray[np.float64]:
    """(P,) how much the rows of two (P, words) differ: unlike bits as a share of all that are set in either, 0 to 1.

    A share, since a picture with little in it has few bits to differ in; 0 where none is set.
    """
    unlike, present = _ones(first ^ second), _ones(first) + _ones(second)
    return np.asarray(unlike / np.maximum(present, 1), np.float64)


def near(distance: NDArray[Any], correlation: NDArray[Any], limits: Limits = LIMITS) -> NDArray[np.bool_]:
    """(P,) whether a pair keeps to one of the limits."""
    kept = [(distance <= farthest) & (correlation >= least) for farthest, least in limits]
    return np.asarray(np.any(kept, axis=0), np.bool_)


def near_pairs(bits: Bits, unit: NDArray[np.float32], limits: Limits = LIMITS, progress: Progress = silent) -> Pairs:
    """All pairs of rows that are near.

    Found are all there are, with one exception that keeps a crowd of copies from filling the memory: where more than a
    thousand rows lie together, those that are near one of them are paired with that one alone. Flat thumbs (rows of
    zeros in `unit`) are in no pair. All rows are compared with all, block by block: a hundred thousand in some seconds.

    Args:
        bits: (N, words) from `difference_hash`.
        unit: (N, P) from `normalised`.
    """
    alive = np.flatnonzero(unit.any(axis=1)) if len(unit) else np.zeros(0, np.int64)
    if len(alive) < 2:
        return _joined([])
    search = _Search(bits, unit, _projected(unit, alive), limits)
    found, alive = search.crowds(alive)
    with progress.task("Looking for copies", len(alive), "images") as bar:
        for pairs, done in search.pairs(alive):
            found.append(pairs)
            bar.advance(done)
    return _joined(found)


@dataclass(frozen=True)
class _Search:
    """Candidates by a product of short vectors, then a look at the whole.

    `axes` (N, K) are the thumbs on their widest axes and, last, the length of what is left of them: the product of two
    rows is never below the correlation, so no pair is missed.
    """

    bits: Bits
    unit: NDArray[np.float32]
    axes: NDArray[np.float32]
    limits: Limits

    @property
    def least(self) -> float:
        """Of the product of a candidate; float32 rounds in the seventh place."""
        return min(correlation for _, correlation in self.limits) - 1e-5

    def crowds(self, alive: Rows) -> tuple[list[Pairs], Rows]:
        """The copies of one row in every crowd, paired with it, and the rows without them.

        A crowd shows as many candidates for some row of an even sample.
        """
        found: list[Pairs] = []
        while len(alive) > _CROWD:
            most, leader = self._most_crowded(alive)
            others = alive[alive != leader]
            copies = self.verified(np.full(len(others), leader), others) if most > _CROWD else _joined([])
            if len(copies) <= _CROWD // 2:
                break
            taken = self._closest(copies)
            found.append(taken)
            alive = np.setdiff1d(alive, np.setdiff1d(np.concatenate([taken.first, taken.second]), leader))
        return found, alive

    def pairs(self, alive: Rows) -> Iterator[tuple[Pairs, int]]:
        """Pairs among the rows, and how many rows have been asked."""
        axes = self.axes[alive]
        for top in range(0, len(alive), _TALL):
            tall = axes[top : top + _TALL]
            for left in range(top, len(alive), _WIDE):
                first, second = np.nonzero(tall @ axes[left : left + _WIDE].T >= self.least)
                once = first + top < second + left
                yield self.verified(alive[first[once] + top], alive[second[once] + left]), 0
            yield _joined([]), len(tall)

    def _most_crowded(self, alive: Rows) -> tuple[int, int]:
        """How many candidates the row of a sample has that has most, and which row it is."""
        sample = alive[:: -(-len(alive) // _SAMPLE)]
        around = np.zeros(len(sample), np.int64)
        for left in range(0, len(alive), _WIDE):
            wide = self.axes[alive[left : left + _WIDE]]
            around += np.count_nonzero(self.axes[sample] @ wide.T >= self.least, axis=1)
        return int(around.max()), int(sample[np.argmax(around)])

    def verified(self, first: Rows, second: Rows) -> Pairs:
        """Those of the pairs that are near, looked at piece by piece."""
        starts = range(0, len(first), _PIECE)
        return _joined([self._verified(first[low : low + _PIECE], second[low : low + _PIECE]) for low in starts])

    def _verified(self, first: Rows, second: Rows) -> Pairs:
        apart = distances(self.bits[first], self.bits[second])
        close = apart <= max(farthest for farthest, _ in self.limits)
        first, second, apart = first[close], second[close], apart[close]
        alike = np.einsum("np,np->n", self.unit[first], self.unit[second], dtype=np.float64).clip(-1, 1)
        keep = near(apart, alike, self.limits)
        low, high = np.minimum(first, second), np.maximum(first, second)
        return Pairs(low[keep], high[keep], apart[keep], alike[keep])

    def _closest(self, copies: Pairs) -> Pairs:
        """Those twice as near as they must be, where they are many; what is as near as may be stays to be compared."""
        halves = tuple((farthest / 2, (1 + least) / 2) for farthest, least in self.limits)
        closest = near(copies.distance, copies.correlation, halves)
        return copies[closest] if closest.sum() > _CROWD // 2 else copies


def _projected(unit: NDArray[np.float32], alive: Rows) -> NDArray[np.float32]:
    """(N, K + 1) on the widest axes of an even sample of the rows, and the length of the rest."""
    sample = unit[alive[:: -(-len(alive) // 20_000)]].astype(np.float64)
    _, axes = np.linalg.eigh(sample.T @ sample)
    short = unit @ axes[:, ::-1][:, :_AXES].astype(np.float32)
    rest = np.einsum("np,np->n", unit, unit, dtype=np.float64) - np.einsum("nk,nk->n", short, short, dtype=np.float64)
    return np.column_stack([short, np.sqrt(rest.clip(0))]).astype(np.float32)


def _joined(found: list[Pairs]) -> Pairs:
    parts = [part for part in found if len(part)]
    if not parts:
        none = np.zeros(0, np.int64)
        return Pairs(none, none, np.zeros(0), np.zeros(0))
    first = np.concatenate([part.first for part in parts])
    second = np.concatenate([part.second for part in parts])
    distance = np.concatenate([part.distance for part in parts])
    correlation = np.concatenate([part.correlation for part in parts])
    return Pairs(first, second, distance, correlation)[np.lexsort((second, first))]


def _ones(words: Bits) -> NDArray[np.int64]:
    """(P,) how many bits are set in each row; NumPy counts them itself from version 2."""
    if hasattr(np, "bitwise_count"):
        counts = np.bitwise_count(words)
    else:
        counts = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1)
    return np.asarray(counts.sum(axis=-1, dtype=np.int64), np.int64)
