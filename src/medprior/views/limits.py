"""What the settings of a view may be, and the error that says so."""

from __future__ import annotations

import math

from medprior.errors import SettingsError

Range = tuple[float, float]


def is_range(value: tuple[float, ...], low: float, high: float, *, open_low: bool = False) -> bool:
    """Whether `value` is two finite numbers, the lower first, within [low, high], or (low, high] when asked."""
    ordered = len(value) == 2 and low <= value[0] <= value[1] <= high and value[1] < math.inf
    return ordered and value[0] > -math.inf and not (open_low and value[0] == low)


def require(met: bool, name: str, value: object, allowed: str) -> None:
    """Raise the SettingsError of view setting `name` unless `met`."""
    if not met:
        raise SettingsError(f"{name} = {value} cannot be used", where=f"view.{name}", do=f"Allowed: {allowed}.")
