"""Groups in a whole study: asked for by name, planned, written, said."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medprior.config import Settings
from medprior.errors import SettingsError
from medprior.report.groups import read_groups
from medprior.study.study import run_study
from small_study import small


def settings(*more: str) -> Settings:
    return small("adapt.adaptations=[probe]", "study.budgets=[all]", *more)


def test_a_study_writes_groups_and_shortcuts_and_plans_them(cohort: Path, tmp_path: Path) -> None:
    outcome = run_study(cohort.parent, cohort, settings(), tmp_path)
    groups, shortcuts = (pd.read_csv(tmp_path / name) for name in ("groups.csv", "shortcuts.csv"))
    assert set(groups["column"]) == set(shortcuts["column"]) == {"site", "sex", "age"}
    assert set(groups["arm"]) == {"scratch", "mae"}
    read = shortcuts[shortcuts["arm"] == "mae"].set_index("column")
    assert read.loc["site", "read_auroc"] > 0.6  # the two hospitals have other detectors
    assert shortcuts[shortcuts["arm"] == "scratch"]["read_auroc"].isna().all()
    assert any(line.startswith("Groups   site (2 groups), sex (2 groups), age (<40, ") for line in outcome.told.planned)
    shown = read_groups(tmp_path, outcome.verdict)
    assert shown is not None
    assert list(shown.overall) == ["mae", "scratch"]
    assert len(shown.shortcuts) == 3
    assert "by site, sex and age" in outcome.verdict["sentences"][-1]


def test_an_unknown_column_is_refused_before_any_work(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match='Nearest: "site"'):
        run_study(cohort.parent, cohort, settings("data.groups=[sitte]"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
