"""How numbers and names are written on a page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from markupsafe import Markup, escape

_METRICS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "auprc": "AUPRC",
    "dice": "Dice",
    "hd95": "95% Hausdorff distance in mm",
    "surface_dice": "surface Dice",
}

_UNBROKEN = re.compile(r"(\[[^\[\]]{1,24}\]|--[\w-]+)")


def prose(sentence: str) -> Markup:
    """A sentence as HTML in which no line breaks inside an interval or an option."""
    return Markup(_UNBROKEN.sub(r'<span class="whole">\1</span>', str(escape(sentence))))


def metric_name(metric: object) -> str:
    """A metric as a reader writes it: auroc is AUROC, balanced_accuracy is balanced accuracy."""
    return _METRICS.get(str(metric).casefold(), str(metric).replace("_", " "))


def fixed(value: float | None, digits: int = 2) -> str:
    """A score with fixed decimals; what is not known is a dash."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


def number(value: float) -> str:
    """A number in as few letters as it needs: 12,000, 0.412, 1.5e−05."""
    if not math.isfinite(value):
        return "–"
    if value == round(value) or abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """[low–high], or nothing where no interval is honest; beside a minus sign the dash is a word."""
    if low is None or high is None:
        return ""
    return f"[{fixed(low, digits)}{' to ' if min(low, high) < 0 else '–'}{fixed(high, digits)}]"


def ratio_text(ratio: float | None, low: float | None, high: float | None) -> str:
    """A label ratio with its bounds; a missing bound is open and is said, never guessed."""
    if ratio is None:
        if low is not None and high is not None:
            return f"{_times(low)} to {_times(high)}"
        return f"at least {_times(low)}" if low is not None else f"at most {_times(high)}" if high else "cannot tell"
    if low is not None and high is not None:
        return f"{_times(ratio)} [{_plain(low)}–{_plain(high)}]"
    if low is not None:
        return f"{_times(ratio)} [at least {_plain(low)}]"
    return f"{_times(ratio)} [at most {_plain(high)}]" if high is not None else f"{_times(ratio)} [open]"


def digits_for(widths: Iterable[float]) -> int:
    """Decimals that the intervals warrant: three only where most of them are narrower than 0.02, one where most are
    wider than 1."""
    ordered = sorted(widths)
    middle = ordered[len(ordered) // 2] if ordered else 0.1
    return 3 if middle < 0.02 else 2 if middle <= 1 else 1


def _plain(value: float | None) -> str:
    if value is None:
        return "open"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"


def _times(value: float | None) -> str:
    return f"{_plain(value)}×"
