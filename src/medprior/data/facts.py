"""What one look at the pixels of a scan leaves: enough to find copies, plan intensities and draw without a second one.

Facts of the slices of a series can be put together into those of the volume (`combine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from medprior.data.store.letterbox import resize

RANKS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0)
"""Percentiles that are kept of every channel."""
THUMB_2D = (16, 17)
THUMB_3D = (8, 8, 9)
MOST_VALUES = 16
_GREY_TOLERANCE = 4  # of 255: what JPEG's colour transform leaves of a grey image
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_LEVELS = 4096
"""Values at which the distributions of slices are added up; more would cost long series more than they tell."""
_SAMPLE = 1 << 15  # values that percentiles are taken from


@dataclass(frozen=True)
class Facts:
    """What is kept of the pixels (C, *S) of one scan.

    Attributes:
        hash: of type, shape and values: two files of one image have the same.
        grey: whether all channels show the same, up to what JPEG leaves; true for one channel.
        quantiles: (C, len(RANKS)) float64, physical values at those percentiles. Colour (three channels of an image)
            has one row, said three times.
        thumb: float32, area averages of the grey image: `THUMB_2D` for images, `THUMB_3D` for volumes.
        values: the distinct values where there are at most `MOST_VALUES`, as in masks, else ().
        voxels: how many pixels one channel has.
    """

    hash: str
    grey: bool
    quantiles: NDArray[np.float64]
    thumb: NDArray[np.float32]
    values: tuple[float, ...]
    voxels: int


def facts_of(pixels: NDArray[Any]) -> Facts:
    """Look at the pixels (C, *S) of one scan once."""
    quantiles, values = _distribution(pixels)
    shape = THUMB_2D if pixels.ndim == 3 else THUMB_3D
    thumb = _grey(resize(pixels, shape))
    return Facts(_hash(pixels), is_grey(pixels), quantiles, thumb, values, pixels[0].size)


def combine(slices: Sequence[Facts]) -> Facts:
    """The facts of a volume from those of its slices, in their order; percentiles are those of the mixture."""
    digest = xxhash.xxh3_128("\n".join(one.hash for one in slices).encode())
    weights = np.array([one.voxels for one in slices], np.float64)
    quantiles = np.stack(
        [
            _mixed(np.stack([one.quantiles[channel] for one in slices]), weights)
            for channel in range(len(slices[0].quantiles))
        ]
    )
    known = all(one.values for one in slices)
    values = tuple(sorted({value for one in slices for value in one.values})) if known else ()
    thumb = resize(np.stack([one.thumb for one in slices])[None], THUMB_3D)[0]
    return Facts(
        digest.hexdigest(),
        all(one.grey for one in slices),
        quantiles,
        np.asarray(thumb, np.float32),
        values if len(values) <= MOST_VALUES else (),
        int(weights.sum()),
    )


def is_grey(pixels: NDArray[Any]) -> bool:
    """Whether all channels of (C, *S) show the same, up to what JPEG leaves; always true for one channel."""
    step = (slice(None), *(slice(None, None, 8),) * (pixels.ndim - 1))
    return len(pixels) == 1 or (_same(pixels[step]) and _same(pixels))


def _same(pixels: NDArray[Any]) -> bool:
    tolerance = _GREY_TOLERANCE if pixels.dtype == np.uint8 else 0
    return bool((pixels.max(axis=0) - pixels.min(axis=0)).max() <= tolerance)


def _grey(pixels: NDArray[Any]) -> NDArray[np.float32]:
    floats = pixels.astype(np.float32, copy=False)
    if len(floats) == 3:
        return np.asarray(np.tensordot(_LUMINANCE, floats, axes=1), np.float32)
    return np.asarray(floats.mean(axis=0), np.float32)


def _hash(pixels: NDArray[Any]) -> str:
    """Tells contents apart, and need not withstand anyone who forges them: XXH3 takes a hundredth of BLAKE2's time."""
    digest = xxhash.xxh3_128(f"{pixels.dtype}{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _distribution(pixels: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """(C, ranks) percentiles, and the distinct values where they are few."""
    together = len(pixels) == 3 and pixels.ndim == 3
    rows = pixels.reshape(1 if together else len(pixels), -1)
    found = [_of_channel(row) for row in rows]
    quantiles = np.stack([quantile for quantile, _ in found])
    values = sorted({value for _, few in found for value in few})
    few = all(few for _, few in found) and len(values) <= MOST_VALUES
    return np.broadcast_to(quantiles, (len(pixels), len(RANKS))).copy(), tuple(values) if few else ()


def _of_channel(row: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """Percentiles and distinct values: exact up to `_SAMPLE` values; beyond, extremes and few values still are."""
    step = -(-len(row) // _SAMPLE)
    sample = np.sort(row[:: step | 1])  # an odd step does not keep to some columns of an image of even width
    places = np.ceil(np.array(RANKS) / 100 * len(sample)).clip(1).astype(np.intp)
    quantiles = sample[places - 1].astype(np.float64)
    quantiles[0], quantiles[-1] = row.min(), row.max()
    few = _few(sample[:: -(-len(sample) // 256)]) and _few(sample)
    levels = np.unique(row) if few else row[:0]
    return quantiles, tuple(levels.astype(np.float64).tolist()) if 0 < len(levels) <= MOST_VALUES else ()


def _few(ordered: NDArray[Any]) -> bool:
    return bool(np.count_nonzero(ordered[1:] != ordered[:-1]) < MOST_VALUES)


def _mixed(quantiles: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percentiles of a mixture of distributions (n, ranks), each linear between its own percentiles."""
    ranks = np.array(RANKS) / 100
    levels = np.unique(quantiles)
    levels = levels[:: -(-len(levels) // _LEVELS)]
    below = sum(w * np.interp(levels, q, ranks, left=0, right=1) for q, w in zip(quantiles, weights, strict=True))
    share = np.maximum.accumulate(np.asarray(below) / weights.sum())
    mixed = np.interp(ranks, share, levels)
    mixed[0], mixed[-1] = quantiles[:, 0].min(), quantiles[:, -1].max()
    return mixed
