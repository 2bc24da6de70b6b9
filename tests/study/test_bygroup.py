"""Groups in a whole study: asked for by name, planned, written, said."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medprior.config import Settings, load_settings
from medprior.errors import SettingsError
from medprior.report.groups import read_groups
from medprior.study.study import run_study

SMALL = [
    "data.size=32", "data.label=[label]", "pretrain.methods=[mae]", "pretrain.backbone=test_vit", "pretrain.steps=2",
    "pretrain.batch_size=8", "mae.decoder_width=32", "mae.decoder_depth=1", "adapt.adaptations=[probe]",
    "adapt.steps=2", "study.budgets=[all]", "study.seeds=1", "study.folds=2", "study.repeats=1", "study.threads=1",
    "study.workers=1",
]  # fmt: skip


def settings(*more: str) -> Settings:
    return load_settings(assignments=[*SMALL, *more], methods=["mae"])


def test_a_study_writes_groups_and_shortcuts_and_plans_them(cohort: Path, tmp_path: Path) -> None:
    outcome = run_study(cohort.parent, cohort, settings(), tmp_path)
    groups, shortcuts = (pd.read_csv(tmp_path / name) for name in ("groups.csv", "shortcuts.csv"))
    assert set(groups["column"]) == set(shortcuts["column"]) == {"site", "sex", "age"}
    assert set(groups["arm"]) == {"scratch", "mae"}
    read = shortcuts[shortcuts["arm"] == "mae"].set_index("column")
    assert read.loc["site", "read_auroc"] > 0.6  # the two hospitals have other detectors
    assert shortcuts[shortcuts["arm"] == "scratch"]["read_auroc"].isna().all()
    assert any(line.startswith("Groups   site (2 groups), sex (2 groups), age (<40, ") for line in outcome.planned)
    shown = read_groups(tmp_path, outcome.verdict)
    assert shown is not None
    assert list(shown.overall) == ["mae", "scratch"]
    assert len(shown.shortcuts) == 3
    assert "by site, sex and age" in outcome.verdict["sentences"][-1]


def test_an_unknown_column_is_refused_before_any_work(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match='Nearest: "site"'):
        run_study(cohort.parent, cohort, settings("data.groups=[sitte]"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
