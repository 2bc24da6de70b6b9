"""How physical values are spread over scans that are treated alike, and where the plan cuts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.card.content import Intensity
from medprior.data.facts import RANKS
from medprior.data.intensity import IntensityPlan, Rule, plan_intensity
from medprior.data.treatments import first_quantiles, treatments_of

if TYPE_CHECKING:
    import pandas as pd

BINS = 64
OWN_WINDOW = ("percentiles", "from zero")
"""What a plan does when each scan has a window of its own."""
_MOST = 1000  # scans that are pooled
_LEVELS = 2048  # values at which distributions are added up
_OUTER = (RANKS.index(0.1), RANKS.index(99.9))

_RELATIVE = np.linspace(-0.1, 1.1, BINS + 1)

Floats = NDArray[np.float64]


def intensities(table: pd.DataFrame, plan: IntensityPlan) -> tuple[Intensity, ...]:
    """One pooled distribution for each treatment that scans of one kind get, the most frequent first."""
    treatments = treatments_of(table)
    own = plan_intensity(table, plan.ct_window)
    return tuple(_pooled(table[treatments == rule.kind], rule, plan) for rule in own.rules)


def _pooled(table: pd.DataFrame, rule: Rule, plan: IntensityPlan) -> Intensity:
    some = table.iloc[:: -(-len(table) // _MOST)]
    quantiles = first_quantiles(some)
    low, high = (edge[:, 0] for edge in plan.edges(some, 1))
    pooled, relative = _quantiles(quantiles), rule.how in OWN_WINDOW
    edges = _RELATIVE if relative else _edges(pooled, (rule.low, rule.high), rule.how)
    shown = (quantiles - low[:, None]) / np.where(high > low, high - low, 1)[:, None] if relative else quantiles
    return Intensity(
        treatment=rule.kind,
        how=rule.how,
        unit="HU" if rule.how == "range" else "",
        scans=len(table),
        ranks=RANKS,
        quantiles=tuple(pooled.tolist()),
        relative=relative,
        edges=tuple(edges.tolist()),
        shares=tuple(_shares(shown, edges).tolist()),
        window=(float(np.median(low)), float(np.median(high))),
        varies=(_between(low), _between(high)) if np.ptp(low) or np.ptp(high) else None,
        reason=rule.reason,
    )


def _between(values: Floats) -> tuple[float, float]:
    least, most = np.percentile(values, (10, 90))
    return float(least), float(most)


def _below(quantiles: Floats, levels: Floats) -> Floats:
    """Mean share of the pixels of scans (n, ranks) that are not above each level, linear between percentiles."""
    ranks = np.array(RANKS) / 100
    total = sum(np.interp(levels, one, ranks, left=0, right=1) for one in quantiles)
    return np.asarray(total, np.float64) / len(quantiles)


def _quantiles(quantiles: Floats) -> Floats:
    """The percentiles of all scans together, each with equal weight."""
    levels = np.unique(quantiles)
    levels = levels[:: -(-len(levels) // _LEVELS)]
    share = np.maximum.accumulate(_below(quantiles, levels))
    pooled = np.interp(np.array(RANKS) / 100, share, levels)
    pooled[0], pooled[-1] = quantiles[:, 0].min(), quantiles[:, -1].max()
    return np.asarray(np.maximum.accumulate(pooled))


def _edges(pooled: Floats, window: tuple[float, float], how: str) -> Floats:
    """Of bins that hold nearly all values, and the window."""
    if how == "as it is":
        return np.linspace(-0.5, 255.5, BINS + 1)
    low, high = min(float(pooled[_OUTER[0]]), window[0]), max(float(pooled[_OUTER[1]]), window[1])
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


def _shares(quantiles: Floats, edges: Floats) -> NDArray[Any]:
    below = _below(quantiles, edges)
    below[0], below[-1] = 0, 1
    return np.diff(below).clip(0)
