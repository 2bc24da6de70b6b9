"""Outlines of label maps as vectors: rings along the edges of pixels, exactly where one class ends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from medprior.report.axes import element
from medprior.report.content import Labels

Corner = tuple[int, int]
"""(x, y), counted in pixels from the upper left corner of the map."""
MOST_STEPS = 6_000
"""Edges of pixels along the rings of one map: what is more frayed is drawn from every second pixel."""
STYLES = 8
"""Line styles of the page that tell classes apart; the ninth class looks like the first."""


def rings(mask: NDArray[np.bool_]) -> list[list[Corner]]:
    """The closed rings around the pixels of a mask (H, W): their corners, clockwise around pixels, counter-clockwise
    around holes. Pixels that touch only at a corner have rings of their own."""
    steps = _steps(mask)
    found = []
    for start in list(steps):
        while start in steps:
            found.append(_straightened(_ring(steps, start)))
    return found


def path(mask: NDArray[np.bool_]) -> str:
    """The rings of a mask as the data of an SVG path, in pixels; "" where there is none."""
    return "".join(_drawn(ring) for ring in rings(mask))


def outlines(labels: Labels, shape: tuple[int, int], class_: str) -> Markup | None:
    """The rings of every class of a map (H, W), stretched to (height, width); None where there is no class.

    Each path has the style of its class: p1 for class 1, again from p1 after the eighth.
    """
    while changes(labels) > MOST_STEPS:
        labels = labels[::2, ::2]
    classes = [int(label) for label in np.unique(labels) if label > 0]
    if not classes:
        return None
    across, down = (new / old for new, old in zip(shape[::-1], labels.shape[::-1], strict=True))
    paths = [element("path", d=path(labels == label), class_=style(label)) for label in classes]
    return element("g", *paths, class_=class_, transform=f"scale({across:.5g} {down:.5g})")


def style(label: int) -> str:
    """The class in the style sheet for the line of a class from 1."""
    return f"p{(label - 1) % STYLES + 1}"


def changes(labels: Labels) -> int:
    """Neighbours in a map (H, W) that differ: the length of its outlines in edges of pixels."""
    return int(np.count_nonzero(np.diff(labels, axis=0)) + np.count_nonzero(np.diff(labels, axis=1)))


def _steps(mask: NDArray[np.bool_]) -> dict[Corner, list[Corner]]:
    """From each corner to the next, with the mask on the right."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # above
        (padded[1:-1, 2:], (1, 0), (1, 1)),  # right
        (padded[2:, 1:-1], (1, 1), (0, 1)),  # below
        (padded[1:-1, :-2], (0, 1), (0, 0)),  # left
    )
    steps: dict[Corner, list[Corner]] = {}
    for beside, (x0, y0), (x1, y1) in sides:
        for y, x in np.argwhere(inner & ~beside).tolist():
            steps.setdefault((x + x0, y + y0), []).append((x + x1, y + y1))
    return steps


def _ring(steps: dict[Corner, list[Corner]], start: Corner) -> list[Corner]:
    """One ring, taken out of `steps`, its first corner at its end again."""
    ring = [start]
    while len(ring) == 1 or ring[-1] != ring[0]:
        ring.append(_next(steps, ring))
    return ring


def _next(steps: dict[Corner, list[Corner]], ring: list[Corner]) -> Corner:
    """Where two ways lead on, the one to the right, which stays at the same pixel."""
    here = ring[-1]
    ways = steps[here]
    if len(ways) == 1:
        return steps.pop(here)[0]
    before = ring[-2] if len(ring) > 1 else here
    return ways.pop(max(range(2), key=lambda way: _turn(before, here, ways[way])))


def _turn(before: Corner, here: Corner, after: Corner) -> int:
    """Greater than 0 to the right (y runs downwards)."""
    return (here[0] - before[0]) * (after[1] - here[1]) - (here[1] - before[1]) * (after[0] - here[0])


def _straightened(ring: list[Corner]) -> list[Corner]:
    """The corners at which a ring turns, each once."""
    around = [ring[-2], *ring]
    return [b for (a, b), (_, c) in pairwise(pairwise(around)) if _turn(a, b, c)]


def _drawn(ring: list[Corner]) -> str:
    (x, y), *rest = ring
    return f"M{x} {y}{''.join(_lines((x, y), rest))}z"


def _lines(start: Corner, corners: list[Corner]) -> Iterator[str]:
    """Every line is level or upright."""
    for (x0, y0), (x, y) in pairwise([start, *corners]):
        yield f"h{x - x0}" if y == y0 else f"v{y - y0}"
