"""The section on calibration: from the tables of a study to diagrams whose points lie where they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from medprior.report.calibration import BELIEVED, REACHED, calibration, read_calibration
from medprior.report.content import Point, ReportContent, series_of
from medprior.report.page import environment
from medprior.report.reliability import SIDE, Said, diagram


def row(arm: str, adaptation: str, budget: int, **more: object) -> dict[str, object]:
    return {"arm": arm, "encoder": "vit", "adaptation": adaptation, "budget": budget, **more}


@pytest.fixture
def verdict() -> dict[str, object]:
    arms = [
        row(arm, how, budget, mean=mean, low=0.5, high=0.9, seeds=2, pretrain_seeds=None)
        for arm, how, mean in (("scratch", "scratch", 0.6), ("mae", "probe", 0.8), ("simclr", "probe", 0.7))
        for budget in (20, 80)
    ]
    return {"metric": "auroc", "unit": "patients", "test_patients": 60, "arms": arms, "sentences": [], "warnings": []}


@pytest.fixture
def folder(tmp_path: Path, verdict: dict[str, object]) -> Path:
    """Tables of a study in which probes have temperatures and scratch has none."""
    bins, scores = [], []
    for one in verdict["arms"]:  # type: ignore[attr-defined]
        key = (one["arm"], one["adaptation"], one["budget"])
        probe = one["adaptation"] == "probe"
        for temperature in (None, 1.5) if probe else (None,):
            for number, chance in enumerate((0.2, 0.8), start=1):
                more = {"bin": number, "predicted": chance, "true": 0.5, "low": 0.3, "high": 0.7, "patients": 30}
                bins.append(row(*key, temperature=temperature, **more, seeds=2))
        for metric in (*BELIEVED, *REACHED) if probe else BELIEVED[:2]:
            scores.append(row(*key, metric=metric, mean=one["budget"] / 100, low=None, high=None, seeds=2))
    pd.DataFrame(bins).to_csv(tmp_path / "calibration.csv", index=False)
    pd.DataFrame(scores).to_csv(tmp_path / "scores.csv", index=False)
    return tmp_path


def test_scratch_and_the_best_arm_are_drawn_at_the_largest_budget(folder: Path, verdict: dict[str, object]) -> None:
    found = read_calibration(folder, verdict, "binary", ("healthy", "ill"))
    assert found is not None
    assert found.budget == 80
    assert [(curve.arm, curve.temperature) for curve in found.curves] == [
        ("scratch", None),
        ("mae", None),
        ("mae", 1.5),
    ]
    assert found.curves[0].bins[1] == Said(0.8, Point(80, 0.5, 0.3, 0.7), 30)
    assert set(found.scores) == {"scratch", "mae", "simclr"}
    assert found.scores["mae"]["brier"] == Point(80, 0.8)
    assert found.meaning == "of ill"
    assert read_calibration(folder, verdict, "segmentation", ("lung",)) is None


def test_the_section_says_what_is_not_known(folder: Path, verdict: dict[str, object]) -> None:
    content = ReportContent("x", verdict, calibration=read_calibration(folder, verdict, "binary", ("healthy", "ill")))
    part = calibration(content, 224)
    assert part is not None
    assert part["bare"] == ["scratch"]
    assert [arm for _, arm, _ in part["reached"]["rows"]] == ["mae", "simclr"]
    page = environment().get_template("sections/calibration.html").render(part=part)
    assert "No temperature and no threshold for scratch" in page
    assert "Chances of ill at 80 labelled patients" in page
    assert page.count("<td>0.80") == 2 + 4 + 4 + 4 + 4
    assert calibration(replace(content, calibration=None), 224) is None


def test_points_sit_at_what_was_said_and_what_came_true(content: ReportContent) -> None:
    one = series_of(content.verdict)[-1]
    bins = [Said(0.25, Point(1, 0.5, 0.4, 0.7), 30), Said(0.75, Point(1, 1.0), 3)]
    root = ElementTree.fromstring(diagram(one, bins, "mae"))
    (line,) = [node for node in root.iter("polyline") if node.get("class") == "path"]
    spots = [tuple(map(float, spot.split(","))) for spot in line.get("points", "").split()]
    assert spots == [(28 + SIDE / 4, 26 + SIDE / 2), (28 + 0.75 * SIDE, 26)]
    assert len([node for node in root.iter("line") if node.get("class") == "whisker"]) == 1
    assert "0.25 said, 0.50 [0.40–0.70] came true; 0.75 said, 1.00 came true" in root.get("aria-label", "")
