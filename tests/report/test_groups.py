"""The section on groups: from the tables of a study to dots that lie where they should, and words that are hedged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from medprior.report.content import ReportContent
from medprior.report.groups import Groups, groups, p_said, read_groups
from medprior.report.page import environment

ARMS = (("scratch", "scratch", 0.6), ("mae", "probe", 0.8), ("simclr", "probe", 0.7))
GROUPS = {"sex": ("F", "M"), "site": ("NA", "other")}


def key(arm: str, adaptation: str, budget: int) -> dict[str, object]:
    return {"arm": arm, "encoder": "vit", "adaptation": adaptation, "budget": budget}


@pytest.fixture
def verdict() -> dict[str, object]:
    arms = [
        {**key(arm, how, budget), "mean": mean, "low": 0.5, "high": 0.9, "seeds": 2, "pretrain_seeds": None}
        for arm, how, mean in ARMS
        for budget in (20, 80)
    ]
    return {"metric": "auroc", "unit": "patients", "test_patients": 60, "arms": arms, "sentences": [], "warnings": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tables of a study; of the last group nothing could be told."""
    scores, suspects = [], []
    for arm, how, mean in ARMS:
        for budget in (20, 80):
            for column, names in GROUPS.items():
                for place, group in enumerate(names):
                    small = group == "other"
                    bounds = {"low": None if small else mean - 0.1, "high": None if small else mean + 0.1}
                    apart = {"difference_low": None if small else -0.2, "difference_high": None if small else 0.1}
                    counts = {"patients": 8 if small else 30, "images": 31}
                    more = {"difference": -0.05, "p": 0.5, "p_holm": None if small else 0.0004, "reason": ""}
                    score = {"metric": "auroc", "mean": mean - 0.05 * place}
                    scores.append(
                        {**key(arm, how, budget), "column": column, "group": group}
                        | {**score, **bounds, **counts, **apart, **more}
                    )
        read = {"read_auroc": 0.9, "read_low": 0.8, "read_high": 0.95} if arm != "scratch" else {}
        link = {"association": 0.5, "association_p": 0.001, "association_p_holm": 0.002}
        lost = {"pooled": 0.8, "within": 0.6, "lost": 0.2, "lost_low": 0.1, "lost_high": 0.3}
        suspects.append({**key(arm, how, 80), "column": "site", **read, **link, **lost, "shortcut": arm == "mae"})
    pd.DataFrame(scores).to_csv(tmp_path / "groups.csv", index=False)
    pd.DataFrame(suspects).to_csv(tmp_path / "shortcuts.csv", index=False)
    return tmp_path


@pytest.fixture
def shown(folder: Path, verdict: dict[str, object]) -> Groups:
    found = read_groups(folder, verdict)
    assert found is not None
    return found


def test_the_best_arm_and_scratch_are_read_at_the_largest_budget(shown: Groups) -> None:
    assert shown.budget == 80
    assert dict(shown.overall) == {"mae": 0.8, "scratch": 0.6}
    assert {(row.arm, row.column, row.group) for row in shown.rows} == {
        (arm, column, group) for arm in ("mae", "scratch") for column, names in GROUPS.items() for group in names
    }
    (suspect,) = shown.shortcuts
    assert suspect.shortcut
    assert suspect.p == "0.002"


def test_no_tables_and_empty_tables_make_no_section(folder: Path, verdict: dict[str, object], tmp_path: Path) -> None:
    for name in ("groups.csv", "shortcuts.csv"):
        pd.read_csv(folder / name).head(0).to_csv(folder / name, index=False)
    assert read_groups(folder, verdict) is None
    assert read_groups(tmp_path / "elsewhere", verdict) is None
    assert groups(ReportContent("a title", verdict), 64) is None


def test_dots_stand_at_their_scores_and_the_line_at_the_whole(shown: Groups, verdict: dict[str, object]) -> None:
    part = groups(ReportContent("a title", verdict, groups=shown), 64)
    assert part is not None
    for drawing in (part["wide"], part["narrow"]):
        figure = ElementTree.fromstring(str(drawing))
        (dashed,) = [one for one in figure.iter("line") if one.get("stroke-dasharray")]
        whiskers = [one for one in figure.iter("line") if one.get("class") == "whisker"]
        assert len(whiskers) == 2 * 3  # two arms, three groups with an interval
        middle = (float(whiskers[0].get("x1", 0)) + float(whiskers[0].get("x2", 0))) / 2
        assert middle == pytest.approx(float(dashed.get("x1", 0)), abs=0.2)  # of the first group of the best arm
        told = figure.get("aria-label")
        assert "sex M 0.75 [0.70–0.90] n=30" in told
        assert "site other 0.75 n=8" in told


def test_the_section_names_what_was_looked_at_and_hedges(shown: Groups, verdict: dict[str, object]) -> None:
    part = groups(ReportContent("a title", verdict, groups=shown), 64)
    page = environment().get_template("sections/groups.html").render(part=part, labelled="labelled")
    assert "not a conclusion" in page
    assert "<0.001" not in page
    assert "&lt;0.001" in page
    assert page.count("<td>likely</td>") == 1
    assert "too few patients" in page
    assert page.count('<tr class="group">') == 2


def test_names_of_groups_stay_text(shown: Groups, verdict: dict[str, object]) -> None:
    rows = [replace(row, group=f"<b>{row.group}</b>", column="<i>") for row in shown.rows]
    part = groups(ReportContent("a title", verdict, groups=replace(shown, rows=rows)), 64)
    page = environment().get_template("sections/groups.html").render(part=part, labelled="labelled")
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;F&lt;/b&gt;" in page


def test_small_p_values_are_not_zero() -> None:
    assert [p_said(p) for p in (None, 0.0, 0.0004, 0.05)] == ["–", "<0.001", "<0.001", "0.050"]
