"""Parallel slices in the order of their places, and what is odd about these: gaps, copies, uneven steps, a tilt."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from medprior.data.readers.dicom.functional import Frame
from medprior.data.readers.dicom.geometry import Vector, upwards

T = TypeVar("T")
SAME_PLACE = 1e-2
"""Slices nearer than this, in mm, lie at the same place."""
MOST_FILLED = 3
"""Slices that may be missing in a row; at a wider gap a stack is cut in two."""
_EVEN = 0.05
_TILT = 0.5  # degrees


@dataclass(frozen=True)
class Item:
    """One slice: a frame of a file.

    Attributes:
        file: index of the file it is in.
        index: its place in the file.
        hash: of its pixels, or of what stands for them.
        order: what breaks ties: the instance number, then the index.
    """

    file: int
    index: int
    frame: Frame
    hash: str
    order: tuple[int, int]


def sorted_by_place(items: Sequence[Item]) -> list[tuple[float, Item]]:
    """Slices along the canonical sense of their normal, with the place of each."""
    assert items[0].frame.orientation is not None
    a, b, c = upwards(items[0].frame.orientation)
    found = []
    for item in items:
        assert item.frame.position is not None
        x, y, z = item.frame.position
        found.append((a * x + b * y + c * z, item))
    return sorted(found, key=lambda pair: (pair[0], pair[1].order))


def without_copies(items: Sequence[Item]) -> tuple[list[Item], list[tuple[Item, Item]]]:
    """Of slices at one place with the same pixels only the first stays: (kept, pairs of a dropped one and its twin)."""
    kept: list[Item] = []
    dropped: list[tuple[Item, Item]] = []
    for here in _places(items):
        seen: dict[str, Item] = {}
        for item in here:
            if item.hash in seen:
                dropped.append((item, seen[item.hash]))
            else:
                kept.append(item)
                seen[item.hash] = item
    return kept, dropped


def _places(items: Sequence[Item]) -> list[list[Item]]:
    """Slices at one place together, in the order of the places."""
    found: list[list[Item]] = []
    last = -math.inf
    for at, item in sorted_by_place(items):
        if at - last > SAME_PLACE:
            found.append([])
            last = at
        found[-1].append(item)
    return found


def untangled(items: Sequence[Item]) -> tuple[list[list[Item]], bool]:
    """Stacks in which no two slices lie at one place, and whether only their numbering told them apart.

    The first property that parts all slices which share a place is used; where none does, the order of the instance
    numbers.
    """
    if _clear(items):
        return [list(items)], False
    for depth in range(max(len(item.frame.soft) for item in items)):
        parts = parted(items, lambda item, n=depth: item.frame.soft[n] if n < len(item.frame.soft) else "")  # type: ignore[misc]
        if len(parts) > 1 and all(map(_clear, parts)):
            return parts, False
    rows = [sorted(here, key=lambda item: item.order) for here in _places(items)]
    most = max(map(len, rows))
    return [[row[n] for row in rows if len(row) > n] for n in range(most)], True


def _clear(items: Sequence[Item]) -> bool:
    return len(_places(items)) == len(items)


def parted(items: Sequence[T], key: Callable[[T], object]) -> list[list[T]]:
    """Items with the same key together, in the order of first sight."""
    found: dict[object, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())


@dataclass(frozen=True)
class Stack:
    """Slices of one volume in order; a missing one is stood in for by its nearest neighbour.

    Attributes:
        items: one per slice of the volume.
        doubts: what is odd in it.
    """

    items: tuple[Item, ...]
    doubts: tuple[str, ...]


def stacks_of(items: Sequence[Item]) -> list[Stack]:
    """Stacks of slices that all lie at different places: one, or more where a gap is wide."""
    pairs = sorted_by_place(items)
    if len(pairs) == 1:
        return [Stack((pairs[0][1],), ())]
    steps = [b[0] - a[0] for a, b in itertools.pairwise(pairs)]
    step = statistics.median_low(steps)
    cuts = [n + 1 for n, gap in enumerate(steps) if _missing(gap, step) > MOST_FILLED]
    if not cuts:
        return [_stack(pairs, step)]
    ends = zip([0, *cuts], [*cuts, len(pairs)], strict=True)
    said = f"the series has gaps of more than {MOST_FILLED} slices and was cut there into {len(cuts) + 1} parts"
    found = []
    for begin, end in ends:
        one = stacks_of([item for _, item in pairs[begin:end]])
        found += [Stack(part.items, (said, *part.doubts)) for part in one]
    return found


def _missing(gap: float, step: float) -> int:
    """Slices that lack in a gap; 0 where the gap is no multiple of the step."""
    count = round(gap / step)
    return count - 1 if count > 1 and abs(gap / step - count) < 2 * _EVEN else 0


def _stack(pairs: Sequence[tuple[float, Item]], step: float) -> Stack:
    filled: list[Item] = [pairs[0][1]]
    missing = []
    for (before, last), (after, item) in itertools.pairwise(pairs):
        lacking = _missing(after - before, step)
        missing += [len(filled) + n + 1 for n in range(lacking)]
        filled += [last if n < (lacking + 1) // 2 else item for n in range(lacking)]
        filled.append(item)
    one, other = filled[0].frame.position, filled[-1].frame.position
    assert one is not None and other is not None
    count = len(filled) - 1
    shift = tuple((b - a) / count for a, b in zip(one, other, strict=True))
    mean = (pairs[-1][0] - pairs[0][0]) / count
    doubts = (*_said_missing(missing, len(filled)), *_uneven(filled, mean, shift, bool(missing)), *_tilted(shift, mean))
    return Stack(tuple(filled), doubts)


def _said_missing(missing: Sequence[int], count: int) -> tuple[str, ...]:
    if not missing:
        return ()
    numbers = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    verb = "slice is" if len(missing) == 1 else "slices are"
    return (f"{len(missing)} of {count} {verb} missing (number {numbers}); the nearest one stands in",)


def _uneven(items: Sequence[Item], step: float, shift: Vector, filled: bool) -> tuple[str, ...]:
    """How far slices lie from where even steps would put them."""
    first = items[0].frame.position
    assert first is not None
    worst, last = 0.0, None
    for n, item in enumerate(items):
        here = item.frame.position
        assert here is not None
        stands_in = filled and (item is last or (n + 1 < len(items) and items[n + 1] is item))
        if not stands_in:
            worst = max(worst, math.dist(here, [a + n * b for a, b in zip(first, shift, strict=True)]))
        last = item
    if worst <= max(_EVEN * step, SAME_PLACE):
        return ()
    return (f"its slices lie up to {worst:.2f} mm from where even steps of {step:.2f} mm would put them",)


def _tilted(shift: Vector, step: float) -> tuple[str, ...]:
    angle = math.degrees(math.acos(min(1.0, step / max(math.hypot(*shift), 1e-9))))
    if angle < _TILT:
        return ()
    return (f"its slices are shifted against each other by {angle:.1f} degrees, as with a tilted gantry",)
