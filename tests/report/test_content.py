"""From a verdict to the lines and rows of the figures."""

from __future__ import annotations

from typing import Any

from medprior.report.content import ReportContent, savings_of, series_of, unit_of


def arm(name: str, adaptation: str = "fine-tune", encoder: str = "resnet18", **more: Any) -> dict[str, Any]:
    return {"arm": name, "adaptation": adaptation, "encoder": encoder, "budget": 20, "mean": 0.7, **more}


def test_scratch_comes_first_and_the_longer_scratch_is_told_apart() -> None:
    rows = [arm("mae"), arm("scratch", "scratch"), arm("scratch", "scratch-2x")]
    series = series_of({"arms": rows})
    assert [(one.name, one.role) for one in series] == [
        ("scratch", "reference"),
        ("scratch 2x", "longer"),
        ("mae", "arm"),
    ]


def test_names_carry_only_what_tells_lines_apart() -> None:
    rows = [arm("mae", "probe", "vit_tiny"), arm("mae", encoder="vit_tiny"), arm("simclr")]
    assert [one.name for one in series_of({"arms": rows})] == ["mae, probe", "mae, fine-tune", "simclr"]


def test_scratch_of_two_encoders_has_two_names_and_two_markers() -> None:
    rows = [arm("scratch", "scratch", encoder) for encoder in ("resnet18", "vit_tiny")]
    series = series_of({"arms": rows})
    assert [one.name for one in series] == ["scratch, resnet18", "scratch, vit_tiny"]
    assert [one.style for one in series] == [1, 2]


def test_points_follow_the_budget_and_unknown_scores_are_left_out() -> None:
    rows = [
        arm("mae", budget=80),
        arm("mae", mean=None, budget=40),
        arm("mae", mean=float("nan"), budget=60),
        arm("mae"),
    ]
    (series,) = series_of({"arms": rows})
    assert [point.budget for point in series.points] == [20, 80]
    assert series_of({"arms": [arm("mae", mean=None)]}) == []


def test_every_saving_is_styled_as_its_line(content: ReportContent) -> None:
    styles = {one.name: one.style for one in series_of(content.verdict)}
    savings = savings_of(content.verdict)
    assert len(savings) == 7
    assert all(row.style == styles[row.name] for row in savings)


def test_a_saving_of_one_adaptation_finds_its_own_line() -> None:
    saved = {"arm": "mae", "adaptation": "fine-tune", "encoder": "resnet18", "budget": 20, "ratio": 2.0}
    verdict = {"arms": [arm("mae", "probe"), arm("mae")], "labels_saved": [saved]}
    (row,) = savings_of(verdict)
    assert (row.name, row.style) == ("mae, fine-tune", 2)


def test_bounds_that_no_log_axis_can_show_are_open() -> None:
    saved = {"arm": "mae", "budget": 20, "ratio": 2.0, "low": 0.0, "high": float("inf")}
    (row,) = savings_of({"arms": [arm("mae")], "labels_saved": [saved]})
    assert (row.ratio, row.low, row.high) == (2.0, None, None)


def test_the_unit_follows_the_count() -> None:
    assert unit_of({"unit": "patient"}) == unit_of({"unit": "patients"}) == unit_of({}) == "patients"
    assert unit_of({"unit": "images"}, 1) == "image"
