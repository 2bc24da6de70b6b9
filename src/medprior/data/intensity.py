"""From physical values to what is stored, and back: physical = offset + scale * stored.

Everything is decided from a catalog's table (`modality`, `dtype`, `shape`, `channels`, `quantiles`), before any store
is built: one rule for each kind of scan, with its reason, and one mapping for each channel of each scan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.facts import RANKS
from medprior.data.treatments import TREATMENTS, Treatment, modalities, treatments_of
from medprior.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

QUANTA = 255
CT_WINDOW = (-1000.0, 1000.0)
"""HU that 8 bits span by default: from air to compact bone, in steps of 7.8 HU, below the noise of a routine CT."""

Mapping = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Rule:
    """How one kind of scan becomes 8 bits.

    Attributes:
        modality: DICOM code, "" where unknown.
        kind: a name in `treatments.TREATMENTS`.
        how: "range", "percentiles", "from zero" or "as it is".
        low: the physical value, or the percentile, that becomes black, with
        high: the one that becomes white.
        quantum: one of the 255 steps in physical units where all scans share it, else None.
        scans: how many there are.
        reason: one sentence.
    """

    modality: str
    kind: str
    how: str
    low: float
    high: float
    quantum: float | None
    scans: int
    reason: str


@dataclass(frozen=True)
class IntensityPlan:
    """How the values of a catalog become 8 bits.

    Attributes:
        ct_window: HU that become black and white.
        rules: one for each kind of scan that is there, the most frequent first.
    """

    ct_window: tuple[float, float]
    rules: tuple[Rule, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentence of each rule."""
        return tuple(rule.reason for rule in self.rules)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> IntensityPlan:
        """The plan that `dataclasses.asdict` took apart."""
        low, high = value["ct_window"]
        return cls((float(low), float(high)), tuple(Rule(**rule) for rule in value["rules"]))

    def edges(self, table: pd.DataFrame, channels: int | None = None) -> Mapping:
        """(N, C) physical values that become black and white, for every channel of every scan of a table.

        Three channels of an image are colour and share theirs, which keeps the hue; other channels are different
        measurements and have their own. A scan of one channel says its edges C times; of one with another number than
        C the first are said.

        Args:
            channels: C; by default the most that any scan has.
        """
        count = channels or int(table["channels"].max())
        quantiles = _quantiles(table, count)
        low, high = np.zeros(quantiles.shape[:2]), np.full(quantiles.shape[:2], float(QUANTA))
        kinds = treatments_of(table)
        for kind in np.unique(kinds):
            here = kinds == kind
            low[here], high[here] = _edges(_treatment(str(kind), self.ct_window), quantiles[here])
        return low, high

    def mappings(self, table: pd.DataFrame, channels: int | None = None) -> Mapping:
        """Scale and offset (N, C) to 8 bits, for every channel of every scan of a table; see `edges`."""
        low, high = self.edges(table, channels)
        scale = (high - low) / QUANTA
        return np.where(scale > 0, scale, 1.0), low


def plan_intensity(table: pd.DataFrame, ct_window: tuple[float, float] = CT_WINDOW) -> IntensityPlan:
    """The plan for a catalog's table.

    Args:
        ct_window: HU that become black and white.

    Raises:
        SettingsError: a window without width.
    """
    low, high = (float(edge) for edge in ct_window)
    if not (np.isfinite([low, high]).all() and low < high):
        do = "Give the lower and the upper edge in Hounsfield units, for instance -1000 1000"
        raise SettingsError(f"a CT window from {low:g} to {high:g} HU holds nothing", where="data.ct_window", do=do)
    found: dict[tuple[str, str], int] = {}
    for both in zip(modalities(table).tolist(), treatments_of(table).tolist(), strict=True):
        found[both] = found.get(both, 0) + 1
    often = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    return IntensityPlan((low, high), tuple(_rule(*both, count, (low, high)) for both, count in often))


def _treatment(kind: str, ct_window: tuple[float, float]) -> Treatment:
    chosen = TREATMENTS[kind]
    return replace(chosen, low=ct_window[0], high=ct_window[1]) if chosen.how == "range" else chosen


def _rule(modality: str, kind: str, scans: int, ct_window: tuple[float, float]) -> Rule:
    t = _treatment(kind, ct_window)
    quantum = {"range": (t.high - t.low) / QUANTA, "as it is": 1.0}.get(t.how)
    done = {
        "as it is": "are kept as they are",
        "range": f"are spread from {t.low:g} to {t.high:g} HU over 8 bits, in steps of {quantum or 0:.3g} HU",
        "percentiles": f"are spread over 8 bits, each between its {t.low:g}th and {t.high:g}th percentile",
        "from zero": f"are spread over 8 bits, each from 0 to its {t.high:g}th percentile",
    }[t.how]
    name = modality or "unnamed modality"
    reason = f"Scans of {name} (there are {scans:,}) {done}: {t.why}."
    return Rule(modality, kind, t.how, float(t.low), float(t.high), quantum, scans, reason)


def _quantiles(table: pd.DataFrame, channels: int) -> NDArray[np.float64]:
    """(N, C, ranks)."""
    filled = np.empty((len(table), channels, len(RANKS)))
    for row, (given, shape) in enumerate(zip(table["quantiles"], table["shape"], strict=True)):
        own = np.array([list(channel) for channel in given], np.float64)
        if len(own) == 3 and len(shape) == 2:
            own = _together(own)
        filled[row] = own[np.arange(channels).clip(max=len(own) - 1)]
    return filled


def _together(colour: NDArray[np.float64]) -> NDArray[np.float64]:
    """One row for all three channels; `facts_of` says the same of each, and then nothing changes."""
    middle = len(RANKS) // 2
    both = np.concatenate([colour[:, :middle].min(axis=0), colour[:, middle:].max(axis=0)])
    return np.repeat(both[None], 3, axis=0)


def _edges(chosen: Treatment, quantiles: NDArray[np.float64]) -> Mapping:
    """(n, C) low and high of (n, C, ranks); the extremes where percentiles fall together, as in a nearly empty scan."""
    least, most = quantiles[..., 0], quantiles[..., -1]
    if chosen.how in ("range", "as it is"):
        return np.full_like(least, chosen.low), np.full_like(least, chosen.high)
    high = quantiles[..., RANKS.index(chosen.high)]
    low = np.zeros_like(least) if chosen.how == "from zero" else quantiles[..., RANKS.index(chosen.low)]
    flat = high <= low
    return np.where(flat & (chosen.how != "from zero"), least, low), np.where(flat, most, high)


def quantise(values: NDArray[Any], scale: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(C, ...) to the nearest of 256 steps; `dequantise` recovers values inside the range to half a step."""
    one = (-1, *[1] * (values.ndim - 1))
    steps = (values - offset.reshape(one)) / scale.reshape(one)
    return np.rint(steps).clip(0, QUANTA).astype(np.uint8)


def dequantise(stored: NDArray[Any], scale: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Physical values (C, ...) of stored ones."""
    one = (-1, *[1] * (stored.ndim - 1))
    return np.asarray(offset.reshape(one) + scale.reshape(one) * stored, np.float64)
