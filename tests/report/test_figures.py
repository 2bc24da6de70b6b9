"""The figures: every point where its numbers say, open bounds as arrows, a panel for any curve."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from medprior.report.content import ReportContent, Saving, savings_of, series_of
from medprior.report.figures import efficiency, labels_saved, training_curve
from medprior.report.marks import SHAPES, shape


def tree(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [node for node in root.iter() if name in node.get("class", "").split()]


@pytest.mark.parametrize("narrow", [False, True])
def test_every_arm_has_its_line_marks_and_whiskers(content: ReportContent, narrow: bool) -> None:
    root = tree(efficiency(content.verdict, {}, narrow=narrow))
    series = series_of(content.verdict)
    for place, one in enumerate(series):
        group = next(node for node in root.iter("g") if node.get("data-arm") == str(place))
        assert len(of_class(group, "whisker")) == len(one.points)
        assert len(of_class(group, "mark") + of_class(group, "ring")) == len(one.points)


def test_points_sit_at_their_scores(content: ReportContent) -> None:
    """Heights are linear in the score, and no whisker of a budget hides another."""
    root = tree(efficiency(content.verdict, {}))
    drawn = [(float(w.get("x1", 0)), float(w.get("y1", 0)), float(w.get("y2", 0))) for w in of_class(root, "whisker")]
    points = [point for one in series_of(content.verdict) for point in one.points]
    lows, heights = np.array([point.low for point in points]), np.array([y for _, y, _ in drawn])
    slope, offset = np.polyfit(lows, heights, 1)
    assert slope < 0
    assert np.abs(slope * lows + offset - heights).max() < 0.11
    assert len({round(x, 1) for x, _, _ in drawn}) == len(drawn)


def test_everything_drawn_stays_inside_the_picture(content: ReportContent) -> None:
    for svg in (efficiency(content.verdict, {}), labels_saved(savings_of(content.verdict), "patients")):
        root = tree(svg)
        width, height = (float(side) for side in root.get("viewBox", "").split()[2:])
        for node in root.iter():
            xs = [float(node.get(name, 0)) for name in ("x", "x1", "x2", "cx")]
            ys = [float(node.get(name, 0)) for name in ("y", "y1", "y2", "cy")]
            assert min(xs) >= 0 and max(xs) <= width and min(ys) >= 0 and max(ys) <= height


def test_points_without_an_honest_interval_have_no_whisker() -> None:
    row = {"arm": "mae", "budget": 8, "mean": 0.6, "low": None, "high": None}
    root = tree(efficiency({"metric": "auroc", "arms": [row]}, {}))
    assert of_class(root, "whisker") == []
    assert len(of_class(root, "mark")) == 2  # the point and its label


@pytest.mark.parametrize(("low", "high", "arrows"), [(1.2, 4.0, 0), (1.2, None, 1), (None, 4.0, 1), (None, None, 2)])
def test_an_open_bound_ends_in_an_arrow(low: float | None, high: float | None, arrows: int) -> None:
    root = tree(labels_saved([Saving("mae", 1, 21, "scratch", 2.0, low, high)], "patients"))
    assert len(of_class(root, "arrow")) == arrows
    (whisker,) = of_class(root, "whisker")
    assert float(whisker.get("x1", 0)) < float(whisker.get("x2", 0))


def test_what_cannot_be_told_is_said_and_not_drawn() -> None:
    root = tree(labels_saved([Saving("mae", 1, 21, "scratch", None, None, None)], "patients"))
    assert of_class(root, "whisker") == of_class(root, "mark") == []
    assert "cannot tell" in "".join(root.itertext())


def test_the_line_at_one_is_left_of_savings_and_right_of_losses() -> None:
    rows = [Saving("mae", 1, 21, "scratch", 2.0, 1.5, 3.0), Saving("dae", 2, 21, "scratch", 0.5, 0.3, 0.8)]
    root = tree(labels_saved(rows, "patients"))
    (one,) = of_class(root, "one")
    saved, lost = of_class(root, "whisker")
    assert float(lost.get("x2", 0)) < float(one.get("x1", 0)) < float(saved.get("x1", 0))


def test_every_figure_says_what_it_shows(content: ReportContent) -> None:
    saved = tree(labels_saved(savings_of(content.verdict), "patients")).get("aria-label", "")
    assert "mae at 425 patients: at least 0.7×" in saved
    curves = tree(efficiency(content.verdict, {})).get("aria-label", "")
    assert "AUROC against labelled patients, 21 to 425" in curves


def test_a_curve_keeps_its_ends_and_its_gaps() -> None:
    values = np.linspace(5, 1, 1000)
    values[500:600] = np.nan
    root = tree(training_curve("loss", (np.arange(1000), values)))
    assert len(of_class(root, "path")) == 2
    assert "step 999" in "".join(root.itertext())
    spots = [spot for line in of_class(root, "path") for spot in line.get("points", "").split()]
    assert len(spots) <= 160


def test_a_curve_that_never_was_finite_is_left_out() -> None:
    assert training_curve("loss", ([0, 1], [float("nan"), float("inf")])) == ""
    assert "<polyline" in training_curve("loss", ([3], [0.5]))


def test_markers_differ_in_shape() -> None:
    outlines = {re.sub(r'class="\w+"', "", shape(style, 0, 0)) for style in range(1, len(SHAPES) + 1)}
    assert len(outlines) == len(SHAPES) == 5
