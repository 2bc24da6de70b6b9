"""The scores of groups as dots with whiskers: one row per group, the arm beside scratch, a line at the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medprior.report import axes
from medprior.report.axes import Scale, element, line, text
from medprior.report.content import Point, Series
from medprior.report.marks import marker, style_class
from medprior.report.wording import fixed, interval

HEAD, FOOT = 26.0, 44.0


@dataclass(frozen=True)
class Whiskers:
    """A score with its interval, on so many patients; None where there is none."""

    point: Point | None
    patients: int

    @property
    def drawn(self) -> bool:
        return self.point is not None and math.isfinite(self.point.mean)


@dataclass(frozen=True)
class Row:
    """A group of a column, with the scores of the arms that are drawn, in their order."""

    column: str
    group: str
    scores: Sequence[Whiskers]


def forest(rows: Sequence[Row], arms: Sequence[Series], overall: float, metric: str, *, narrow: bool = False) -> Markup:
    """A figure of `rows`, grouped by column, with the first arm's score over all patients as a dashed line.

    Args:
        rows: those of one column stand together.
        arms: whose scores they hold.
        overall: the score of the first arm.
        metric: its name.
        narrow: for a phone: the words stand above each row instead of beside it.
    """
    columns = list(dict.fromkeys(row.column for row in rows))
    pitch, title = (46.0 if narrow else 30.0), 26.0
    bottom = HEAD + title * len(columns) + pitch * len(rows)
    width = 360.0 if narrow else 880.0
    left = 12.0 if narrow else min(260.0, 60 + 7.6 * max(len(row.group) for row in rows))
    x = Scale(*axes.score_domain([overall, *_values(rows)]), left, 348.0 if narrow else 690.0)
    whole = {"x1": x(overall), "x2": x(overall), "y1": HEAD - 6, "y2": bottom}
    drawn = [*_axis(x, bottom, metric), element("line", **whole, class_="one", stroke_dasharray="5 4")]
    drawn.append(text(x(overall), HEAD - 10, f"all {fixed(overall)}", "tick", "middle"))
    top = HEAD
    for column in columns:
        drawn.append(text(0, top + 17, column, "tick strong"))
        top += title
        for row in (row for row in rows if row.column == column):
            drawn += _row(row, arms, x, top, pitch, width, narrow)
            top += pitch
    told = "; ".join(_told(row) for row in rows)
    label = f"Dots with whiskers: {metric} of {arms[0].name} by group. Over all {fixed(overall)}. {told}."
    return axes.picture(width, bottom + FOOT, label, drawn, "chart narrow" if narrow else "chart wide")


def _values(rows: Sequence[Row]) -> Iterator[float]:
    for row in rows:
        for one in row.scores:
            if one.drawn and one.point is not None:
                yield from (v for v in (one.point.mean, one.point.low, one.point.high) if v is not None)


def _axis(x: Scale, bottom: float, metric: str) -> Iterator[Markup]:
    yield line(x.start, bottom, x.end, bottom, "axis")
    for value in axes.linear_ticks(x.low, x.high):
        yield line(x(value), HEAD, x(value), bottom, "grid")
        yield text(x(value), bottom + 18, fixed(value), anchor="middle")
    yield text((x.start + x.end) / 2, bottom + FOOT - 6, metric, "tick", "middle")


def _row(
    row: Row, arms: Sequence[Series], x: Scale, top: float, pitch: float, width: float, narrow: bool
) -> Iterator[Markup]:
    baseline = top + 14 if narrow else top + pitch / 2 + 5
    middle = top + 31 if narrow else top + pitch / 2
    yield text(14, baseline, row.group, "name")
    yield text(width, baseline, _said(row.scores[0]), "value", "end")
    for place, (one, arm) in enumerate(zip(row.scores, arms, strict=True)):
        if one.point is None or not one.drawn:
            continue
        at = middle + 9.0 * (place - (len(arms) - 1) / 2)
        parts = [marker(arm, x(one.point.mean), at, 4.5)]
        if one.point.low is not None and one.point.high is not None:
            parts.insert(0, line(x(one.point.low), at, x(one.point.high), at, "whisker"))
        kind = f"series {style_class(arm.style, grey=arm.role != 'arm')} {arm.role}"
        yield element("g", *parts, class_=kind)


def _said(one: Whiskers) -> str:
    if one.point is None or not one.drawn:
        return f"– n={one.patients:,}"
    bounds = interval(one.point.low, one.point.high)
    return f"{fixed(one.point.mean)} {bounds} n={one.patients:,}".replace("  ", " ")


def _told(row: Row) -> str:
    return f"{row.column} {row.group} {_said(row.scores[0])}"
