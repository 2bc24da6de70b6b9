"""Scans with contours as a page shows them: a picture in its shape in millimetres, and outlines over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from medprior.data.store.letterbox import resize
from medprior.report import contours
from medprior.report.axes import element, line
from medprior.report.content import OutlinedScan, Plane, ReportContent, labelled_of, unit_of
from medprior.report.pictures import data_uri
from medprior.report.wording import fixed

MOST_CLASSES = 12
DETAIL = "detail"
"""Name of a plane that shows a part of an image."""


@dataclass(frozen=True)
class Drawing:
    """A plane: the data address of its picture, what a screen reader says instead, and contours of the same shape."""

    address: str
    alt: str
    contours: Markup


def outlines(content: ReportContent, image_side: int) -> dict[str, Any] | None:
    """Scans with their truth and their prediction, by budget and arm."""
    found = content.outlines
    if found is None:
        return None
    flat = all(len(scan.planes) <= 1 for _, arms in found.shown for _, scans in arms for scan in scans)
    unit, labelled = unit_of(content.verdict), labelled_of(content.verdict)
    return {
        "flat": flat,
        "legend": _legend(found.classes),
        "more": len(found.classes) - MOST_CLASSES,
        "budgets": [
            (
                f"{budget:,} {labelled} {unit_of(content.verdict, budget)}",
                [(name, [_shown(scan, name, image_side) for scan in scans]) for name, scans in arms],
            )
            for budget, arms in found.shown
        ],
        "unit": unit,
    }


def draw(plane: Plane, alt: str, side: int) -> Drawing:
    """A plane with its contours, at most `side` pixels wide and high, in its shape in millimetres."""
    height, width = shape = _fitted(plane, side)
    pixels = np.rint(resize(plane.pixels, shape)).clip(0, 255).astype(np.uint8)
    layers = [contours.outlines(plane.truth, shape, "truth"), contours.outlines(plane.predicted, shape, "predicted")]
    drawn = [layer for layer in layers if layer is not None]
    over = element("svg", *drawn, viewBox=f"0 0 {width} {height}", class_="outline", aria_hidden="true")
    return Drawing(data_uri(pixels, side), alt, over)


def _shown(scan: OutlinedScan, arm: str, side: int) -> tuple[str, list[Drawing]]:
    """The caption of a scan, and its planes."""
    part = " (a detail)" if any(plane.name == DETAIL for plane in scan.planes) else ""
    caption = f"{scan.place}: row {scan.row:,}, Dice {fixed(scan.dice)}{part}"
    names = [f", {plane.name}" if plane.name not in ("", DETAIL) else "" for plane in scan.planes]
    drawn = [draw(plane, f"{arm}, {caption}{name}", side) for plane, name in zip(scan.planes, names, strict=True)]
    return caption, drawn


def _fitted(plane: Plane, side: int) -> tuple[int, int]:
    """(H, W) of the picture: its longer side `side`, less where the scan has fewer pixels."""
    extents = [n * step for n, step in zip(plane.truth.shape, plane.spacing, strict=True)]
    scale = min(side / max(extents), 1 / min(plane.spacing))
    height, width = (max(1, round(extent * scale)) for extent in extents)
    return height, width


def _legend(classes: Sequence[str]) -> list[tuple[Markup, str]]:
    """Which line is the truth, which the prediction, and, of several classes, which line is which."""
    named = [(_sample("truth", "p1"), "truth"), (_sample("predicted", "p1"), "prediction")]
    if len(classes) < 2:
        return named
    both = enumerate(classes[:MOST_CLASSES], start=1)
    return named + [(_sample("either", contours.style(label)), name) for label, name in both]


def _sample(layer: str, style: str) -> Markup:
    drawn = element("g", line(1.0, 7.0, 33.0, 7.0, style), class_=layer)
    return element("svg", drawn, viewBox="0 0 34 14", class_="sample", aria_hidden="true")
