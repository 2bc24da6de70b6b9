"""The marks of the figures: one colour class, one shape and one line style per series."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from medprior.report.axes import element, line
from medprior.report.content import Series

COLOURS = 6


SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.25), (1.2, 0.95), (-1.2, 0.95)),
    ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
    ((0, 1.25), (1.2, -0.95), (-1.2, -0.95)),
)
"""Corners around (0, 0); the shape without corners is a disc."""


def style_class(style: int, *, grey: bool = False) -> str:
    """The class that colours a series; the colours repeat after six, the markers after five."""
    return "s0" if grey else f"s{(style - 1) % COLOURS + 1}"


def shape(style: int, x: float, y: float, size: float = 5.0, *, hollow: bool = False) -> Markup:
    """The shape of a series around (x, y): one of five, filled for arms and hollow for references."""
    corners = SHAPES[(style - 1) % len(SHAPES)]
    kind, reach = ("ring", size - 1) if hollow else ("mark", size)
    if not corners:
        return element("circle", cx=x, cy=y, r=reach, class_=kind)
    outline = " ".join(f"{x + dx * reach * 0.9:.1f},{y + dy * reach * 0.9:.1f}" for dx, dy in corners)
    return element("polygon", points=outline, class_=kind)


def marker(one: Series, x: float, y: float, size: float = 5.0) -> Markup:
    """The marker of a series at (x, y)."""
    return shape(one.style, x, y, size, hollow=one.role != "arm")


def swatch(series: Series) -> Markup:
    """The sample of a series that stands beside its name in a legend."""
    body = [line(0.0, 7.0, 30.0, 7.0, "path"), marker(series, 15.0, 7.0, 4.5)]
    drawn = element("g", *body, class_=_classes(series))
    return element("svg", drawn, viewBox="0 0 30 14", class_="swatch", aria_hidden="true")


def group(one: Series, place: int, *children: Markup) -> Markup:
    """The marks of one series; `place` is the number its check box switches."""
    return element("g", *children, class_=_classes(one), data_arm=place)


def arrow(x: float, y: float, direction: int) -> Markup:
    """The tip of an open bound at (x, y); `direction` is 1 to the right, -1 to the left."""
    tail = x - 7 * direction
    corners = f"{x:.1f},{y:.1f} {tail:.1f},{y - 4.5:.1f} {tail:.1f},{y + 4.5:.1f}"
    return element("polygon", points=corners, class_="arrow")


def path(spots: Sequence[tuple[float, float]]) -> Markup:
    """The line through `spots`, (x, y) each."""
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in spots), class_="path")


def _classes(one: Series) -> str:
    return f"series {style_class(one.style, grey=one.role != 'arm')} {one.role}"
