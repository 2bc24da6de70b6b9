"""The section on corrupted images: from the table of a study to curves that fall as far as they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from medprior.report.content import ReportContent, series_of
from medprior.report.dropfigure import HEIGHT, TOP, Drop, domain, panel
from medprior.report.page import environment
from medprior.report.robustness import Fallen, read_robustness, robustness
from medprior.study.verdict.robustness import COLUMNS

ARMS = (("scratch", "scratch", 0.7), ("mae", "probe", 0.8))


@pytest.fixture
def verdict() -> dict[str, object]:
    arms = [
        {"arm": arm, "encoder": "vit", "adaptation": how, "budget": budget, "mean": mean, "low": 0.5, "high": 0.9}
        for arm, how, mean in ARMS
        for budget in (20, 80)
    ]
    return {"metric": "auroc", "unit": "patients", "test_patients": 60, "arms": arms, "sentences": [], "warnings": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table in which noise costs 0.1 a severity, and of the probe no bounds are known."""
    rows = []
    for arm, how, clean in ARMS:
        for severity, drop in ((1, 0.1), (2, 0.2), (3, 0.3), ("mean", 0.2)):
            bounds = (drop - 0.05, drop + 0.05) if how == "scratch" else (None, None)
            place = (arm, "vit", how, 80, "noise", severity, "auroc", clean - drop, drop, *bounds)
            rows.append((*place, *(None,) * 5, 66, ""))
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(tmp_path / "robustness.csv", index=False)
    return tmp_path


def test_drops_are_read_by_arm_and_severity(folder: Path, verdict: dict[str, object]) -> None:
    found = read_robustness(folder, verdict)
    assert found is not None
    assert (found.budget, found.images) == (80, 66)
    assert found.clean == pytest.approx({"scratch": 0.7, "mae": 0.8})
    assert found.fallen["mae"]["noise"] == Fallen([Drop(0.1), Drop(0.2), Drop(0.3)], Drop(0.2))
    assert found.fallen["scratch"]["noise"].mean == Drop(0.2, pytest.approx(0.15), 0.25)


def test_without_corrupted_images_there_is_no_section(folder: Path, verdict: dict[str, object], tmp_path: Path) -> None:
    pd.DataFrame(columns=list(COLUMNS)).to_csv(folder / "robustness.csv", index=False)
    assert read_robustness(folder, verdict) is None
    assert read_robustness(tmp_path / "elsewhere", verdict) is None
    assert robustness(ReportContent("x", verdict), 224) is None


def test_curves_fall_by_what_is_lost(content: ReportContent) -> None:
    one = series_of(content.verdict)[-1]
    drops = [Drop(0.0), Drop(0.1, 0.05, 0.2), Drop(0.2)]
    limits = domain(drops)
    assert limits == (0.0, 0.2)
    root = ElementTree.fromstring(panel("Noise", [(one, drops)], limits, "AUROC"))
    (line,) = [node for node in root.iter("polyline") if node.get("class") == "path"]
    heights = [float(spot.split(",")[1]) for spot in line.get("points", "").split()]
    assert heights == pytest.approx([TOP, TOP + HEIGHT / 2, TOP + HEIGHT])
    assert len([node for node in root.iter("line") if node.get("class") == "whisker"]) == 1
    assert "spark 0.00, 0.10 [0.05–0.20], 0.20" in root.get("aria-label", "")


def test_every_value_stands_in_the_tables(content: ReportContent) -> None:
    part = robustness(content, 224)
    assert part is not None
    page = environment().get_template("sections/robustness.html").render(part=part)
    assert len(part["panels"]) == page.count('class="spark"') == 5
    assert page.count('<tr class="group">') == 5
    assert page.count('<tr><th scope="row">') == 5 + 5 * 5
    assert "at 425 labelled patients, on 246 test images" in page
    assert "paired by test patient;" in page
    assert "too few" not in page
    assert content.robustness is not None
    bare = {arm: {"noise": Fallen([Drop(0.1)] * 3, Drop(0.1))} for arm in content.robustness.fallen}
    part = robustness(replace(content, robustness=replace(content.robustness, fallen=bare)), 224)
    assert "too few test patients" in environment().get_template("sections/robustness.html").render(part=part)
