"""From physical values to the 8 bits that are stored, and back: physical = offset + scale * stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

PERCENTILES = (0.5, 99.5)
QUANTA = 255


@dataclass(frozen=True)
class IntensityPlan:
    """How the values of a catalog become 8 bits.

    8-bit scans are kept as they are. Others are cut at two percentiles of each scan and spread over 0 to 255.

    Attributes:
        percentiles: the low and the high one, for scans that are not 8-bit.
        reasons: why, one sentence for each kind of scan that is there.
    """

    percentiles: tuple[float, float]
    reasons: tuple[str, ...]

    def mapping(self, values: NDArray[Any], dtype: np.dtype[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scale and offset (C,) for the values (C, ...) of one scan that was read as `dtype`.

        Colour, three channels of an image, shares one mapping, which keeps its hue; other channels are different
        measurements and get their own.
        """
        count = len(values)
        if dtype == np.uint8:
            return np.ones(count), np.zeros(count)
        together = count == 3 and values.ndim == 3
        flat = values.reshape(1 if together else count, -1)
        low, high = (np.broadcast_to(edge, count) for edge in _range(flat, self.percentiles))
        scale = (high - low) / QUANTA
        return np.where(scale > 0, scale, 1.0), low.copy()


def _range(values: NDArray[Any], percentiles: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) low and high of (n, m); the extremes where the percentiles fall together, as in a nearly empty scan."""
    low, high = np.percentile(values, percentiles, axis=1).astype(np.float64)
    least, most = values.min(axis=1).astype(np.float64), values.max(axis=1).astype(np.float64)
    flat = high <= low
    return np.where(flat, least, low), np.where(flat, most, high)


def plan_intensity(table: pd.DataFrame) -> IntensityPlan:
    """The plan for a catalog's table, from its columns `dtype` and `modality`."""
    eight = (table["dtype"] == "uint8").to_numpy()
    reasons = []
    if eight.any():
        reasons.append(f"8-bit scans are kept as they are (there are {int(eight.sum()):,}).")
    if not eight.all():
        reasons.append(_why_percentiles(table.loc[~eight]))
    return IntensityPlan(PERCENTILES, tuple(reasons))


def _why_percentiles(table: pd.DataFrame) -> str:
    kinds = ", ".join(sorted(set(table["dtype"])))
    low, high = PERCENTILES
    said = (
        f"Scans of type {kinds} (there are {len(table):,}) are spread over 8 bits, each between its {low:g}th and "
        f"{high:g}th percentile, so that a few extreme pixels (metal, burnt-in text) do not darken the rest"
    )
    if set(table["modality"]) == {"CT"}:
        return said + "; Hounsfield units are recovered by each scan's scale and offset."
    return said + ", because their units differ between scanners."


def quantise(values: NDArray[Any], scale: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(C, ...) to the nearest of 256 steps; `dequantise` recovers values inside the range to half a step."""
    one = (-1, *[1] * (values.ndim - 1))
    steps = (values - offset.reshape(one)) / scale.reshape(one)
    return np.rint(steps).clip(0, QUANTA).astype(np.uint8)


def dequantise(
    stored: NDArray[np.uint8], scale: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Physical values (C, ...) of stored ones."""
    one = (-1, *[1] * (stored.ndim - 1))
    return offset.reshape(one) + scale.reshape(one) * stored
