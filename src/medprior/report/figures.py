"""The figures of a report as inline SVG: label-efficiency curves, labels saved, training curves.

Each of the first two is drawn for a wide and for a narrow column, so that its letters stay readable on a phone.
Colours come from the page's style sheet by class (s1, s2, …); shapes and direct labels carry the same distinction.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from medprior.report import axes
from medprior.report.axes import Scale, element, line, text
from medprior.report.content import Curve, Point, Saving, Series, labelled_of, scans_of, series_of, trivial_of, unit_of
from medprior.report.marks import arrow, group, marker, path, shape, style_class
from medprior.report.wording import fixed, metric_name, number, ratio_text

CHANCE = {"auroc": 0.5}
Reference = tuple[str, float]
"""What a score is to be held against: its name and its height."""


@dataclass(frozen=True)
class Frame:
    """The drawing area of a figure, in the units of its viewBox."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float


def efficiency(verdict: Mapping[str, Any], images: Mapping[int, int], *, narrow: bool = False) -> Markup:
    """Score against label budget (log scale), one line per arm, whiskers for intervals, scratch as grey reference.

    Args:
        verdict: the verdict, for its arms, metric and unit.
        images: how many images the patients of a budget own, by budget; printed under the budget.
        narrow: for a phone: smaller, the legend alone names the lines.
    """
    series = series_of(verdict)
    points = [point for one in series for point in one.points]
    budgets = sorted({point.budget for point in points})
    room = 0.0 if narrow else max(len(one.name) for one in series) * 7.6 + 30
    frame = Frame(360, 300, 34, 348, 26, 246) if narrow else Frame(880, 430, 44, 866 - min(room, 230), 30, 366)
    x = Scale(budgets[0], budgets[-1], frame.left + 26, frame.right - 22, log=True)
    reference = _reference(verdict)
    extent = [value for point in points for value in _extent(point)]
    if reference is not None and reference[1] > max(extent):  # what no arm reaches must be seen
        extent.append(reference[1])
    low, high = axes.score_domain(extent)
    y = Scale(low, high, frame.bottom - 8, frame.top + 4)
    metric, unit, labelled = metric_name(verdict["metric"]), unit_of(verdict), labelled_of(verdict)
    several = not narrow and any(images[budget] != budget for budget in budgets if budget in images)
    owned = {budget: f"{count:,} {scans_of(verdict)}" for budget, count in images.items()} if several else {}
    drawn = [
        *_score_axis(frame, y, metric, reference),
        *_budget_axis(frame, x, budgets, owned, f"{labelled} {unit} (log scale)"),
        *_lines(series, x, y),
        *(() if narrow else _line_labels(series, frame, y)),
        *_columns(frame, x, budgets),
    ]
    names = ", ".join(one.name for one in series)
    label = f"Line chart: {metric} against {labelled} {unit}, {budgets[0]} to {budgets[-1]}, for {names}. "
    return axes.picture(
        frame.width, frame.height, label + "The table of scores holds every value.", drawn, _shape(narrow)
    )


def labels_saved(rows: Sequence[Saving], unit: str, *, narrow: bool = False) -> Markup:
    """A forest plot of label ratios on a log scale with a line at 1x; an open bound ends in an arrow.

    Args:
        rows: one ratio each, with its bounds.
        unit: what a budget counts, in the plural.
        narrow: for a phone: the words stand above each row instead of beside it.
    """
    pitch, head = (50.0, 8.0) if narrow else (34.0, 8.0)
    bottom = head + pitch * len(rows)
    words = [ratio_text(row.ratio, row.low, row.high) for row in rows]
    left = 10.0 if narrow else 7.2 * max(len(f"{row.name} at {row.budget:,} {unit}") for row in rows) + 16
    right = 350.0 if narrow else 866 - 7.4 * max(len(word) for word in words)
    frame = Frame(360 if narrow else 880, bottom + 50, left, right, head, bottom)
    low, high = _ratio_domain(rows)
    x = Scale(low, high, frame.left, frame.right, log=True)
    drawn = [*_ratio_axis(frame, x), line(x(1), frame.top, x(1), frame.bottom, "one")]
    for place, row in enumerate(rows):
        drawn += _saving(row, unit, frame, x, head + pitch * place, pitch, narrow)
    told = "; ".join(f"{row.name} at {row.budget} {unit}: {word}" for row, word in zip(rows, words, strict=True))
    return axes.picture(frame.width, frame.height, f"Forest plot of labels saved. {told}.", drawn, _shape(narrow))


def training_curve(name: str, curve: Curve, *, points: int = 160) -> Markup:
    """One small panel: a quantity over the steps of a run, averaged down to `points` values."""
    steps, values = _averaged(curve, points)
    known = np.isfinite(values)
    if not known.any():
        return Markup("")
    x = Scale(float(steps[0]), float(steps[-1]), 6, 214)
    y = Scale(float(values[known].min()), float(values[known].max()), 84, 10)
    runs = np.split(np.arange(len(values)), np.flatnonzero(np.diff(known.astype(int))) + 1)
    paths = [path([(x(steps[i]), y(values[i])) for i in run]) for run in runs if known[run[0]]]
    last, end = np.flatnonzero(known)[-1], number(float(curve[0][-1]))
    drawn = [
        line(6, 92, 214, 92, "axis"),
        *paths,
        element("circle", cx=x(steps[last]), cy=y(values[last]), r=2.5, class_="mark"),
        text(220, y(values[last]) + 4, number(float(values[last])), "value"),
        text(6, 106, number(float(curve[0][0]))),
        text(214, 106, f"step {end}", anchor="end"),
    ]
    first, final = number(float(values[known][0])), number(float(values[last]))
    told = f"{name}: from {first} to {final}, step {end}"
    return axes.picture(286, 112, told, [element("g", *drawn, class_="series s1")], "spark")


def _extent(point: Point) -> Iterator[float]:
    yield from (value for value in (point.mean, point.low, point.high) if value is not None)


def _shape(narrow: bool) -> str:
    return "chart narrow" if narrow else "chart wide"


def _reference(verdict: Mapping[str, Any]) -> Reference | None:
    """What an answer that was not learnt scores: chance, or marking everything."""
    chance = CHANCE.get(str(verdict["metric"]).casefold())
    return trivial_of(verdict) if chance is None else ("chance", chance)


def _score_axis(frame: Frame, y: Scale, title: str, reference: Reference | None) -> Iterator[Markup]:
    yield text(0, 13, title, "title")
    ticks = axes.linear_ticks(y.low, y.high)
    digits = next(digits for digits in range(5) if digits == 4 or all(round(v, digits) == v for v in ticks))
    for value in ticks:
        yield line(frame.left, y(value), frame.right, y(value), "grid")
        yield text(frame.left - 8, y(value) + 4, fixed(value, digits), anchor="end")
    if reference is not None and y.inside(reference[1]):
        name, height = reference[0], y(reference[1])
        yield line(frame.left, height, frame.right, height, "chance")
        yield text(frame.right, height - 5, name, anchor="end")


def _budget_axis(
    frame: Frame, x: Scale, budgets: Sequence[int], owned: Mapping[int, str], title: str
) -> Iterator[Markup]:
    yield line(frame.left, frame.bottom, frame.right, frame.bottom, "axis")
    for budget in axes.budget_ticks(budgets, x, 62 if owned else 30):
        yield line(x(budget), frame.bottom, x(budget), frame.bottom + 5, "axis")
        yield text(x(budget), frame.bottom + 19, f"{budget:,}", "tick strong", "middle")
        if budget in owned:
            yield text(x(budget), frame.bottom + 33, owned[budget], "tick", "middle")
    yield text((frame.left + frame.right) / 2, frame.height - 4, title, "tick", "middle")


def _lines(series: Sequence[Series], x: Scale, y: Scale) -> Iterator[Markup]:
    """The lines side by side: at each budget the series stand a few pixels apart, so that no whisker hides another."""
    budgets = sorted({point.budget for one in series for point in one.points})
    gaps = [x(right) - x(left) for left, right in itertools.pairwise(budgets)]
    step = min(7.0, 0.5 * min(gaps) / len(series)) if gaps else min(28.0, (x.end - x.start) / len(series))
    for place, one in enumerate(series):
        shift = (place - (len(series) - 1) / 2) * step
        spots = [(x(point.budget) + shift, y(point.mean)) for point in one.points]
        whiskers = [
            line(spot[0], y(point.low), spot[0], y(point.high), "whisker")
            for spot, point in zip(spots, one.points, strict=True)
            if point.low is not None and point.high is not None
        ]
        marks = [marker(one, *spot) for spot in spots]
        yield group(one, place, *whiskers, path(spots), *marks)


def _line_labels(series: Sequence[Series], frame: Frame, y: Scale) -> Iterator[Markup]:
    """The name of each line at its right end, moved apart where ends lie close."""
    ends = [y(one.points[-1].mean) for one in series]
    for place, (one, end, at) in enumerate(
        zip(series, ends, axes.spread(ends, 18, frame.top, frame.bottom - 6), strict=True)
    ):
        leader = line(frame.right + 1, end, frame.right + 12, at, "leader")
        label = text(frame.right + 28, at + 4.5, one.name, "name")
        yield group(one, place, leader, marker(one, frame.right + 19, at, 4.0), label)


def _columns(frame: Frame, x: Scale, budgets: Sequence[int]) -> Iterator[Markup]:
    """Invisible strips, one per budget, that answer to the pointer."""
    middles = [(x(left) + x(right)) / 2 for left, right in itertools.pairwise(budgets)]
    edges = [frame.left, *middles, frame.right]
    for place, (left, right) in enumerate(itertools.pairwise(edges)):
        cursor = line(x(budgets[place]), frame.top, x(budgets[place]), frame.bottom, "cursor")
        area = element("rect", x=left, y=frame.top, width=right - left, height=frame.bottom - frame.top)
        yield element("g", cursor, area, class_="column", data_column=place)


def _ratio_domain(rows: Sequence[Saving]) -> tuple[float, float]:
    values = [value for row in rows for value in (row.ratio, row.low, row.high) if value]
    return min([*values, 0.7]) / 1.25, max([*values, 2.0]) * 1.25


def _ratio_axis(frame: Frame, x: Scale) -> Iterator[Markup]:
    yield line(frame.left, frame.bottom, frame.right, frame.bottom, "axis")
    for value in axes.ratio_ticks(x.low, x.high):
        yield line(x(value), frame.bottom, x(value), frame.bottom + 5, "axis")
        yield text(x(value), frame.bottom + 19, f"{number(value)}×", "tick strong", "middle")
    yield text(frame.left, frame.height - 4, "← worth fewer labels", "tick")
    yield text(frame.right, frame.height - 4, "worth more labels →", "tick", "end")


def _saving(row: Saving, unit: str, frame: Frame, x: Scale, top: float, pitch: float, narrow: bool) -> Iterator[Markup]:
    baseline = top + 16 if narrow else top + pitch / 2 + 5
    middle = top + 32 if narrow else top + pitch / 2
    name = element("tspan", row.name, class_="name")
    yield element("text", name, f" at {row.budget:,} {unit}", x=0, y=baseline, class_="tick")
    yield text(frame.width, baseline, ratio_text(row.ratio, row.low, row.high), "value", "end")
    if row.ratio is None and row.low is None and row.high is None:
        return
    left = frame.left if row.low is None else x(row.low)
    right = frame.right if row.high is None else x(row.high)
    parts = [line(left, middle, right, middle, "whisker")]
    parts += [arrow(left, middle, -1)] if row.low is None else []
    parts += [arrow(right, middle, 1)] if row.high is None else []
    parts += [shape(row.style, x(row.ratio), middle)] if row.ratio else []
    yield element("g", *parts, class_=f"series {style_class(row.style)}")


def _averaged(curve: Curve, points: int) -> tuple[Any, Any]:
    """The curve as two float arrays, in `points` equal pieces at most, each replaced by its mean."""
    steps, values = (np.asarray(part, dtype=float) for part in curve)
    if len(steps) <= points:
        return steps, values
    pieces = math.ceil(len(steps) / points)
    starts = np.arange(0, len(steps), pieces)
    counts = np.diff([*starts, len(steps)])
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(values, starts) / counts
