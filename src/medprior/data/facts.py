"""What one look at the pixels of a scan leaves: enough to find copies, plan intensities and draw without a second one.

Facts of the slices of a series can be put together into those of the volume (`combine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from medprior.data.store.letterbox import resize

RANKS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0)
"""Percentiles that are kept of every channel."""
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
THUMB_2D = (16, 17)
THUMB_3D = (8, 8, 9)
MOST_VALUES = 16
_SHARES = np.array(RANKS) / 100
_GREY_TOLERANCE = 4  # of 255: what JPEG's colour transform leaves of a grey image
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
    thumb = _grey(resize(_lower(pixels, shape), shape))
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


def _lower(pixels: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Images of small integers with their rows averaged already where they divide evenly: sums of integers take a
    fraction of what a product with a matrix of shares takes."""
    channels, height, *_ = pixels.shape
    block, rest = divmod(height, shape[0])
    if pixels.ndim != 3 or rest or block < 2 or not _is_small(pixels):
        return pixels
    sums = pixels.reshape(channels, shape[0], block, -1).sum(axis=2, dtype=np.int32)
    return np.asarray(sums / np.float32(block), np.float32)


def _grey(pixels: NDArray[Any]) -> NDArray[np.float32]:
    floats = pixels.astype(np.float32, copy=False)
    if len(floats) == 3:
        return np.asarray(np.tensordot(LUMINANCE, floats, axes=1), np.float32)
    return np.asarray(floats.mean(axis=0), np.float32)


def _hash(pixels: NDArray[Any]) -> str:
    """Tells contents apart, and need not withstand anyone who forges them: XXH3 takes a hundredth of BLAKE2's time."""
    digest = xxhash.xxh3_128(_kind(pixels.dtype, pixels.shape))
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


@lru_cache(maxsize=512)
def _kind(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return f"{dtype}{shape}".encode()


def _distribution(pixels: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """(C, ranks) percentiles, and the distinct values where they are few."""
    together = len(pixels) == 3 and pixels.ndim == 3
    rows = pixels.reshape(1 if together else len(pixels), -1)
    found = [_of_channel(row) for row in rows]
    quantiles = np.array([quantile for quantile, _ in found])
    values = sorted({value for _, few in found for value in few})
    few = all(few for _, few in found) and len(values) <= MOST_VALUES
    return np.repeat(quantiles, 3, axis=0) if together else quantiles, tuple(values) if few else ()


def _of_channel(row: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """Percentiles and distinct values: exact up to `_SAMPLE` values; beyond, extremes and few values still are."""
    step = -(-len(row) // _SAMPLE)
    sample = row[:: step | 1]  # an odd step does not keep to some columns of an image of even width
    places = np.ceil(_SHARES * len(sample)).clip(1).astype(np.intp)
    low, high = row.min(), row.max()
    quantiles, few = _counted(sample, places, low) if _is_small(row) else _ordered(sample, places)
    quantiles[0], quantiles[-1] = low, high
    levels = np.unique(row) if few else row[:0]
    return quantiles, tuple(levels.astype(np.float64).tolist()) if 0 < len(levels) <= MOST_VALUES else ()


def _is_small(pixels: NDArray[Any]) -> bool:
    """Whether they are integers of at most 16 bits."""
    return pixels.dtype.kind in "iu" and pixels.itemsize <= 2


def _counted(sample: NDArray[Any], places: NDArray[np.intp], low: np.integer[Any]) -> tuple[NDArray[np.float64], bool]:
    """The values at 1-based places of the sorted sample, and whether it has few values, none below `low`: by counting,
    which takes a fraction of a sort."""
    above = (sample - low).view(f"u{sample.itemsize}")  # wraps around for differences that the signed type cannot hold
    counts = np.bincount(above)
    found = np.searchsorted(counts.cumsum(), places) + int(low)
    return found.astype(np.float64), bool(np.count_nonzero(counts) <= MOST_VALUES)


def _ordered(sample: NDArray[Any], places: NDArray[np.intp]) -> tuple[NDArray[np.float64], bool]:
    """The same of any values."""
    ordered = np.sort(sample)
    few = _few(ordered[:: -(-len(ordered) // 256)]) and _few(ordered)
    return ordered[places - 1].astype(np.float64), few


def _few(ordered: NDArray[Any]) -> bool:
    return bool(np.count_nonzero(ordered[1:] != ordered[:-1]) < MOST_VALUES)


def _mixed(quantiles: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percentiles of a mixture of distributions (n, ranks), each linear between its own percentiles."""
    levels = np.unique(quantiles)
    levels = levels[:: -(-len(levels) // _LEVELS)]
    below = sum(w * np.interp(levels, q, _SHARES, left=0, right=1) for q, w in zip(quantiles, weights, strict=True))
    share = np.maximum.accumulate(np.asarray(below) / weights.sum())
    mixed = np.interp(_SHARES, share, levels)
    mixed[0], mixed[-1] = quantiles[:, 0].min(), quantiles[:, -1].max()
    return mixed
