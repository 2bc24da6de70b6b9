"""Scales, ticks and the one helper that writes SVG elements."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Scale:
    """Maps the domain [low, high] to the pixels [start, end]; `end` may lie below `start`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        if high == low:
            return (self.start + self.end) / 2
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def inside(self, value: float) -> bool:
        return self.low <= value <= self.high


def score_domain(values: Iterable[float], *, steps: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)) -> tuple[float, float]:
    """The round limits that hold all `values`, never beyond [0, 1] when the values are not."""
    low, high = _span(values)
    step = next((s for s in steps if (high - low) / s <= 10), steps[-1])
    floor, ceiling = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if floor == ceiling:
        floor, ceiling = floor - step, ceiling + step
    if low >= 0 and high <= 1:
        floor, ceiling = max(floor, 0.0), min(ceiling, 1.0)
    return round(floor, 6), round(ceiling, 6)


def linear_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Up to `count` + 1 round numbers within [low, high]."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def ratio_ticks(low: float, high: float) -> list[float]:
    """Powers of two within [low, high], every second or third one where they would crowd."""
    first, last = math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9)
    stride = max(1, math.ceil((last - first) / 7))
    return [2.0**n for n in range(first, last + 1) if n % stride == 0]


def budget_ticks(budgets: Sequence[int], scale: Scale, gap: float) -> list[int]:
    """The measured budgets whose labels stand at least `gap` pixels apart; the largest always stays."""
    kept: list[int] = []
    for budget in sorted(set(budgets), reverse=True):
        if not kept or scale(kept[-1]) - scale(budget) >= gap:
            kept.append(budget)
    return kept[::-1]


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves labels as little as needed so that they stand `gap` apart, in their order, within [low, high].

    Blocks of touching labels are centred on their targets (pool-adjacent-violators).
    """
    order = sorted(range(len(positions)), key=lambda place: positions[place])
    blocks: list[tuple[float, int]] = []
    for rank, place in enumerate(order):
        mean, size = positions[place] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (mean * size + before * count) / (size + count), size + count
        blocks.append((mean, size))
    flat = [mean for mean, size in blocks for _ in range(size)]
    top = high - gap * (len(flat) - 1)
    moved = [max(low, min(mean, top)) + rank * gap for rank, mean in enumerate(flat)]
    return [moved[order.index(place)] for place in range(len(positions))]


def element(tag: str, /, *children: str, **attributes: object) -> Markup:
    """An SVG or HTML element. Children and values are escaped unless they are Markup; None leaves one out.

    `class_` is written as class, and an underscore inside a name as a hyphen.
    """
    pairs = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value is not None)
    opening = "".join(f' {name}="{escape(_attribute(value))}"' for name, value in pairs)
    return Markup(f"<{tag}{opening}>{''.join(escape(child) for child in children)}</{tag}>")


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, label: str, class_: str = "tick", anchor: str = "start") -> Markup:
    return element("text", label, x=x, y=y, class_=class_, text_anchor=anchor)


def picture(width: float, height: float, label: str, children: Iterable[str], class_: str) -> Markup:
    """An SVG that scales with its column; `label` is what a screen reader says instead of it."""
    box = f"0 0 {_attribute(width)} {_attribute(height)}"
    return element("svg", *children, viewBox=box, role="img", aria_label=label, class_=class_)


def _attribute(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _span(values: Iterable[float]) -> tuple[float, float]:
    known = [value for value in values if math.isfinite(value)]
    return (min(known), max(known)) if known else (0.0, 1.0)
