"""Where the voxels of a stack of parallel slices lie, and how to turn it to one orientation. Plain numbers only.

Canonical is "SPL": axis D runs towards the head, H towards the back, W towards the patient's left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

Vector = tuple[float, ...]
_CANONICAL = (2, 1, 0)  # the world axis (x, y, z) that D, H and W follow


def normal_of(orientation: Vector) -> Vector:
    """The unit normal of a plane with the six cosines of `orientation`."""
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    found = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.hypot(*found)
    return tuple(n / length for n in found)


def dot(one: Sequence[float], two: Sequence[float]) -> float:
    """Inner product."""
    return sum(a * b for a, b in zip(one, two, strict=True))


def upwards(orientation: Vector) -> Vector:
    """The normal of the plane in the sense of the canonical axis that it follows."""
    normal = normal_of(orientation)
    turn = turn_of((normal, orientation[3:], orientation[:3]))
    return tuple(-n for n in normal) if turn.flips[turn.order.index(0)] else normal


@dataclass(frozen=True)
class Turn:
    """How to make a stack canonical.

    Attributes:
        order: the axis of the stack that becomes D, H and W.
        flips: whether each of the new axes is reversed then.
    """

    order: tuple[int, ...] = (0, 1, 2)
    flips: tuple[bool, ...] = (False, False, False)


def turn_of(axes: Sequence[Vector]) -> Turn:
    """The permutation and flips that bring three directions (of slices, rows, columns) closest to S, P, L."""
    lengths = [math.hypot(*axis) for axis in axes]

    def along(order: tuple[int, ...]) -> float:
        return sum(abs(axes[n][world]) / lengths[n] for n, world in zip(order, _CANONICAL, strict=True))

    order = max(itertools.permutations(range(3)), key=along)
    return Turn(order, tuple(axes[n][world] < 0 for n, world in zip(order, _CANONICAL, strict=True)))


def turned(values: Sequence[float], turn: Turn) -> tuple[float, ...]:
    """One value per stack axis, moved to where that axis goes."""
    return tuple(values[n] for n in turn.order)


def affine_of(origin: Vector, axes: Sequence[Vector], shape: Sequence[int], turn: Turn) -> tuple[float, ...]:
    """The 12 numbers that take an index (d, h, w, 1) of the turned stack to mm (x, y, z).

    Args:
        origin: mm of the first voxel of the stack as stored.
        axes: mm per step along slices, rows and columns of the stack as stored.
        shape: of the stack as stored.
    """
    start = list(origin)
    columns = []
    for axis, flip in zip(turn.order, turn.flips, strict=True):
        step = axes[axis]
        if flip:
            start = [s + (shape[axis] - 1) * n for s, n in zip(start, step, strict=True)]
        columns.append([-n for n in step] if flip else list(step))
    return tuple(value for row in range(3) for value in (*(column[row] for column in columns), start[row]))
