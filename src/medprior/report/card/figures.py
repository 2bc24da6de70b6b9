"""The figures of a data card as inline SVG."""

from __future__ import annotations

import math

from markupsafe import Markup

from medprior.data.card.content import Intensity
from medprior.report.axes import Scale, element, line, linear_ticks, picture, text
from medprior.report.wording import number

WIDTH, HEIGHT = 420.0, 162.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 4.0, 416.0, 26.0, 138.0


def histogram(values: Intensity) -> Markup:
    """How values are spread, and between which of them the plan cuts: outside is black or white.

    Heights are square roots of shares, so that background does not hide tissue.
    """
    x = Scale(values.edges[0], values.edges[-1], _LEFT, _RIGHT)
    black, white = (0.0, 1.0) if values.relative else values.window
    unit = f" {values.unit}" if values.unit else ""
    names = ("black", "white") if values.relative else (f"black {number(black)}", f"white {number(white)}")
    where = "each scan between its own black and white" if values.relative else f"{names[0]}{unit}, {names[1]}{unit}"
    ticks = [] if values.relative else _ticks(x, unit)
    drawn = [*_window(x, black, white, names), _bars(values, x), line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis"), *ticks]
    height = HEIGHT - 20 if values.relative else HEIGHT
    return picture(WIDTH, height, f"Histogram of physical values: {where}", drawn, "histogram")


def _bars(values: Intensity, x: Scale) -> Markup:
    most = max(values.shares) or 1.0
    corners = [f"{_LEFT:.1f},{_BOTTOM:.1f}"]
    for i, share in enumerate(values.shares):
        top = _BOTTOM - math.sqrt(share / most) * (_BOTTOM - _TOP - 4)
        corners += [f"{x(values.edges[i]):.1f},{top:.1f}", f"{x(values.edges[i + 1]):.1f},{top:.1f}"]
    return element("polygon", points=" ".join([*corners, f"{_RIGHT:.1f},{_BOTTOM:.1f}"]), class_="bars")


def _window(x: Scale, black: float, white: float, names: tuple[str, str]) -> list[Markup]:
    """The range that is kept, its edges named above."""
    low, high = (min(max(x(edge), _LEFT), _RIGHT) for edge in (black, white))
    area = element("rect", x=low, y=_TOP, width=max(high - low, 1.0), height=_BOTTOM - _TOP, class_="kept")
    drawn = [area, line(low, _TOP - 6, low, _BOTTOM, "edge"), line(high, _TOP - 6, high, _BOTTOM, "edge")]
    if high - low > 150:
        return [*drawn, text(low, 14, names[0], "value"), text(high, 14, names[1], "value", "end")]
    anchor = "start" if low < WIDTH / 2 else "end"
    return [*drawn, text(low if anchor == "start" else high, 14, ", ".join(names), "value", anchor)]


def _ticks(x: Scale, unit: str) -> list[Markup]:
    """Round values below the axis, the unit behind the last."""
    values = linear_ticks(x.low, x.high, 5)
    drawn = []
    for value in values:
        spot = x(value)
        anchor = "start" if spot < 20 else "end" if spot > WIDTH - 24 else "middle"
        said = number(value) + (unit if value == values[-1] else "")
        drawn += [line(spot, _BOTTOM, spot, _BOTTOM + 4, "axis"), text(spot, _BOTTOM + 17, said, "tick", anchor)]
    return drawn
