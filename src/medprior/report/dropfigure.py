"""What each arm loses under one corruption, by severity: a panel in which curves fall as scores do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medprior.report import axes
from medprior.report.axes import Scale, line, text
from medprior.report.content import Series
from medprior.report.marks import group, marker, path
from medprior.report.wording import fixed, interval

WIDTH, HEIGHT = 250.0, 190.0
"""Of the area that is drawn in; letters stand around it."""
LEFT, TOP = 44.0, 24.0
APART = 5.0
"""Pixels between the marks of neighbouring arms, so that none hides another."""


@dataclass(frozen=True)
class Drop:
    """What is lost of a score; its bounds are None where no interval is honest."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> Iterator[float]:
        """Its mean and bounds as far as they are numbers."""
        return (value for value in (self.mean, self.low, self.high) if value is not None and math.isfinite(value))


def domain(drops: Iterable[Drop]) -> tuple[float, float]:
    """The round limits that hold zero and all drops with their bounds."""
    return axes.score_domain([0.0, *(value for drop in drops for value in drop.known)])


def panel(
    title: str, lines: Sequence[tuple[Series, Sequence[Drop]]], limits: tuple[float, float], metric: str
) -> Markup:
    """One corruption: severities from 1 across, what is lost of the metric down from `limits[0]` to `limits[1]`.

    Args:
        title: of the corruption.
        lines: of every arm its drop at each severity.
        limits: the same for all panels that stand together.
        metric: its name.
    """
    severities = len(lines[0][1])
    x, y = Scale(0.5, severities + 0.5, LEFT, LEFT + WIDTH), Scale(*limits, TOP, TOP + HEIGHT)
    drawn = [*_axes(x, y, severities, metric)]
    for place, (one, drops) in enumerate(lines):
        drawn.append(group(one, place, *_marks(one, drops, x, y, APART * (place - (len(lines) - 1) / 2))))
    told = "; ".join(f"{one.name} {', '.join(map(_told, drops))}" for one, drops in lines)
    label = f"{title}: drop in {metric} at severity 1 to {severities}. {told}."
    return axes.picture(LEFT + WIDTH, TOP + HEIGHT + 38, label, drawn, "spark")


def _axes(x: Scale, y: Scale, severities: int, metric: str) -> Iterator[Markup]:
    for value in axes.linear_ticks(y.low, y.high, 5):
        yield line(x.start, y(value), x.end, y(value), "one" if value == 0 else "grid")
        yield text(x.start - 6, y(value) + 4, fixed(value), anchor="end")
    for severity in range(1, severities + 1):
        yield text(x(severity), y.end + 17, str(severity), anchor="middle")
    yield text((x.start + x.end) / 2, y.end + 34, "severity", anchor="middle")
    yield text(0, 12, f"drop in {metric}")


def _marks(one: Series, drops: Sequence[Drop], x: Scale, y: Scale, aside: float) -> Iterator[Markup]:
    spots = [(x(place) + aside, y(drop.mean)) for place, drop in enumerate(drops, start=1) if math.isfinite(drop.mean)]
    for place, drop in enumerate(drops, start=1):
        if drop.low is not None and drop.high is not None:
            yield line(x(place) + aside, y(drop.low), x(place) + aside, y(drop.high), "whisker")
    yield path(spots)
    yield from (marker(one, *spot, 4.5) for spot in spots)


def _told(drop: Drop) -> str:
    return f"{fixed(drop.mean)} {interval(drop.low, drop.high)}".strip()
