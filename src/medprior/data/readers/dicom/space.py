"""The shape, spacing and affine of a stack of slices, as it is given out: in canonical orientation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.readers.dicom import geometry
from medprior.data.readers.dicom.functional import Frame
from medprior.data.readers.dicom.geometry import Turn
from medprior.errors import DataError


@dataclass(frozen=True)
class Space:
    """Where the voxels of a volume lie.

    Attributes:
        shape: (D, H, W).
        spacing: mm along D, H and W; between slices the distance of their planes.
        affine: 12 numbers from an index (d, h, w, 1) to mm (x, y, z); a tilt of the gantry is in it.
        turn: how the slices as stored were turned.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    affine: tuple[float, ...]
    turn: Turn


def space_of(frames: Sequence[Frame], rows: int, columns: int) -> Space:
    """The space of slices in the canonical sense of their normal, from the places of the first and the last.

    Raises:
        DataError: they have no place in space.
    """
    first, last = frames[0], frames[-1]
    if not (first.position and last.position and first.orientation and first.spacing) or len(frames) < 2:
        raise DataError("its slices have no place in space")
    count = len(frames) - 1
    shift = tuple((b - a) / count for a, b in zip(first.position, last.position, strict=True))
    normal = geometry.upwards(first.orientation)
    down = tuple(n * first.spacing[0] for n in first.orientation[3:])
    right = tuple(n * first.spacing[1] for n in first.orientation[:3])
    turn = geometry.turn_of((normal, down, right))  # the slices stand upwards, also where a tilt leans their shift
    stored = (len(frames), rows, columns)
    spacing = geometry.turned((geometry.dot(shift, normal), *first.spacing), turn)
    affine = geometry.affine_of(first.position, (shift, down, right), stored, turn)
    return Space(tuple(int(n) for n in geometry.turned(stored, turn)), spacing, affine, turn)


def turned(stack: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """(..., n, rows, columns) as stored to (..., D, H, W) in canonical orientation."""
    lead = stack.ndim - 3
    order = (*range(lead), *(n + lead for n in turn.order))
    return np.flip(stack.transpose(order), tuple(n + lead for n in range(3) if turn.flips[n]))
