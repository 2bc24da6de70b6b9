"""Learning curves read backwards: how many labels the reference needs for a given score.

The curve runs over the logarithm of the budget, is made to rise (isotonic regression) and is linear between measured
budgets. A score on a flat stretch belongs to a range of budgets; one outside the measured scores has an open end.
Nothing is extrapolated. `enclosed` gives the labels that an interval of the difference leaves possible.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def rising(scores: Array) -> Array:
    """Least-squares non-decreasing fit of each row of scores (R, B), all budgets weighing the same.

    By the min-max formula: the largest, over starts, of the smallest, over ends, of the mean between them. For a
    handful of budgets this is faster than pooling row by row.
    """
    scores = np.asarray(scores, np.float64)
    total = np.concatenate([np.zeros((len(scores), 1)), np.cumsum(scores, axis=1)], axis=1)
    count = scores.shape[1]
    fitted = np.empty_like(scores)
    for at in range(count):
        starts, ends = np.arange(at + 1), np.arange(at + 1, count + 1)
        span = ends[None, :] - starts[:, None]
        means = (total[:, None, ends] - total[:, starts, None]) / span
        fitted[:, at] = means.min(2).max(1)
    return np.maximum.accumulate(fitted, axis=1)


def needed_budget(budgets: Array, scores: Array, wanted: Array) -> tuple[Array, Array]:
    """Fewest and most labels at which the rising curves `scores` (R, B) over `budgets` (B,) equal `wanted` (R,).

    The two are equal on a slope and the ends of the stretch where it is flat. A score above every measured one gives
    (largest budget, inf), one below gives (0, smallest budget).
    """
    budgets = np.asarray(budgets, np.float64)
    fewest = np.array([_crossing(budgets, row, y, first=True) for row, y in zip(scores, wanted, strict=True)])
    most = np.array([_crossing(budgets, row, y, first=False) for row, y in zip(scores, wanted, strict=True)])
    return fewest, most


def _crossing(budgets: Array, scores: Array, wanted: float, *, first: bool) -> float:
    """The first or last budget where the curve is at `wanted`."""
    if wanted > scores[-1]:
        return float(budgets[-1]) if first else np.inf
    if wanted < scores[0]:
        return 0.0 if first else float(budgets[0])
    after = int(np.searchsorted(scores, wanted, side="left" if first else "right"))
    if first and scores[after] == wanted:
        return float(budgets[after])
    if not first and scores[after - 1] == wanted:
        return float(budgets[after - 1])
    share = (wanted - scores[after - 1]) / (scores[after] - scores[after - 1])
    return float(np.exp(np.log(budgets[after - 1]) + share * np.log(budgets[after] / budgets[after - 1])))


def enclosed(budgets: Array, low: Array, high: Array) -> tuple[float, float]:
    """The labels with which a reference may be as good as an arm, by the 95% intervals of the arm's lead.

    The lead falls as the reference gets labels. From how many on it is no longer certain is the lower end, up to how
    many the arm is not certainly worse the upper one. Each is missed in 2.5% of studies at most, flat curve or steep.

    Args:
        budgets: (B,) of the reference, rising.
        low, high: (B,) bounds of the lead of the arm over the reference there.

    Returns:
        fewest and most; 0 and infinity where the measured budgets leave it open.
    """
    unsure, unbeaten = np.flatnonzero(low <= 0), np.flatnonzero(high >= 0)
    fewest = float(budgets[-1]) if not len(unsure) else _zero(budgets, low, int(unsure[0]) - 1)
    most = float(budgets[0]) if not len(unbeaten) else _zero(budgets, high, int(unbeaten[-1]))
    first, last = len(unsure) and unsure[0] == 0, len(unbeaten) and unbeaten[-1] == len(budgets) - 1
    return 0.0 if first or not len(unbeaten) else fewest, np.inf if last or not len(unsure) else most


def _zero(budgets: Array, bound: Array, at: int) -> float:
    """Where a bound crosses zero between budget `at` and the next; the end where there is no next."""
    if not 0 <= at < len(budgets) - 1:
        return float(budgets[min(max(at, 0), len(budgets) - 1)])
    share = bound[at] / (bound[at] - bound[at + 1])
    return float(np.exp(np.log(budgets[at]) + share * np.log(budgets[at + 1] / budgets[at])))
