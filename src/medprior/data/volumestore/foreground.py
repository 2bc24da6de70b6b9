"""Where the classes lie in stored masks: a few voxels of each, so that crops can be aimed at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from medprior.data.volumestore.volumes import VolumeStore

MOST = 1000
"""Voxels that are kept of each class of each scan: 4 kB."""


@dataclass(frozen=True)
class Foreground:
    """Voxels of the K classes beside the background, by catalog row; rows that were not asked for have none.

    Attributes:
        voxels: (T,) int32 raster positions, one class of one scan after the other.
        starts: (N, K) int64, where those of a row and class begin, with
        counts: (N, K) int64, how many there are: 0 where the scan lacks the class, or has no mask.
    """

    voxels: NDArray[np.int32]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]


def find_foreground(
    store: VolumeStore, rows: Sequence[int], *, most: int = MOST, classes: int | None = None
) -> Foreground:
    """Look through the masks of `rows`, one at a time.

    Args:
        classes: how many there are, with the background; what stands above them was not judged, and is passed by.
        most: voxels of each class of each scan that are kept, evenly drawn and always the same.

    Raises:
        StoreError: a mask is gone or damaged.
    """
    found: dict[tuple[int, int], NDArray[np.int32]] = {}
    for row in sorted({int(row) for row in rows}):
        for label, voxels in _voxels(store.mask(row), most).items() if store.has_mask(row) else ():
            if classes is None or label < classes:
                found[row, label - 1] = voxels
    # segments of DICOM are numbers of their own, which `classes` does not name
    width = max([len(store.classes) - 1, 0, *(label + 1 for _, label in found)])
    counts = np.zeros((len(store), width), np.int64)
    for place, voxels in found.items():
        counts[place] = len(voxels)
    starts = np.cumsum(counts).reshape(counts.shape) - counts
    return Foreground(np.concatenate([np.zeros(0, np.int32), *found.values()]), starts, counts)


def _voxels(mask: NDArray[np.uint8 | np.uint16], most: int) -> dict[int, NDArray[np.int32]]:
    """Raster positions of each class in a mask (*S), classes rising; stores hold at most 2^30 voxels a scan."""
    flat = mask.reshape(-1)
    where = np.flatnonzero(flat).astype(np.int32)
    labels = flat[where]
    return {int(label): _some(where[labels == label], most) for label in np.unique(labels)}


def _some(voxels: NDArray[np.int32], most: int) -> NDArray[np.int32]:
    if len(voxels) <= most:
        return voxels
    return voxels[np.sort(np.random.default_rng(len(voxels)).choice(len(voxels), most, replace=False))]
