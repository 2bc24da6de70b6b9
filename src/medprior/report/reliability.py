"""Reliability diagrams: what was said across, what came true up, and the line on which both are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medprior.report import axes
from medprior.report.axes import Scale, line, text
from medprior.report.content import Point, Series
from medprior.report.marks import group, marker, path
from medprior.report.wording import fixed, interval

SIDE = 260.0
"""Of the square that is drawn in; letters stand around it."""


@dataclass(frozen=True)
class Said:
    """Chances that lie close together: their mean, the share that came true with its bounds, and their patients."""

    chance: float
    share: Point
    patients: int


def diagram(one: Series, bins: Sequence[Said], name: str) -> Markup:
    """One small square panel in the colour and shape of its arm."""
    x, y = Scale(0, 1, 28, 28 + SIDE), Scale(0, 1, SIDE + 26, 26)
    spots = [(x(said.chance), y(said.share.mean)) for said in bins]
    whiskers = [
        line(spot[0], y(said.share.low), spot[0], y(said.share.high), "whisker")
        for spot, said in zip(spots, bins, strict=True)
        if said.share.low is not None and said.share.high is not None
    ]
    marks = [marker(one, *spot, 4.5) for spot in spots]
    drawn = [
        *_axes(x, y),
        line(x(0), y(0), x(1), y(1), "chance"),
        group(one, 0, *whiskers, path(spots), *marks),
    ]
    told = "; ".join(f"{fixed(said.chance)} said, {_share(said)} came true" for said in bins)
    return axes.picture(SIDE + 40, SIDE + 64, f"Reliability of {name}. {told}.", drawn, "spark")


def _axes(x: Scale, y: Scale) -> Iterator[Markup]:
    for value in (0.0, 0.5, 1.0):
        yield line(x(0), y(value), x(1), y(value), "grid")
        yield text(x(0) - 6, y(value) + 4, fixed(value, 1), anchor="end")
        yield text(x(value), y(0) + 17, fixed(value, 1), anchor="middle")
    yield line(x(0), y(0), x(1), y(0), "axis")
    yield text(x(0.5), y(0) + 34, "chance that was said", anchor="middle")
    yield text(0, 12, "share that came true")


def _share(said: Said) -> str:
    bounds = interval(said.share.low, said.share.high)
    return f"{fixed(said.share.mean)} {bounds}".strip()
