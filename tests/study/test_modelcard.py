"""The model card: what the Hub reads in front, every section filled, nobody named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from medprior.config import load_settings
from medprior.study.study import Outcome, run_study
from medprior.study.takehome.modelcard import model_card, write_model_card

BRIEF = [
    "data.size=32", "data.label=[label]", "pretrain.methods=[simclr]", "pretrain.backbone=test_resnet",
    "pretrain.steps=2", "pretrain.batch_size=8", "adapt.adaptations=[probe]", "adapt.steps=2", "study.budgets=[all]",
    "study.seeds=1", "study.folds=2", "study.repeats=1", "study.threads=1", "study.workers=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def outcome(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_study(cohort.parent, cohort, load_settings(assignments=BRIEF), tmp_path_factory.mktemp("card"))


def test_the_front_is_what_the_hub_reads(outcome: Outcome) -> None:
    _, front, _ = write_model_card(outcome).read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "unknown"
    assert facts["library_name"] == "medprior"
    assert facts["pipeline_tag"] == "image-classification"
    assert facts["metrics"] == ["roc_auc"]


def test_every_section_is_filled_and_scores_have_intervals(outcome: Outcome) -> None:
    card = model_card(outcome)
    sections = re.split(r"^## ", card, flags=re.MULTILINE)[1:]
    assert len(sections) == 9 and all(part.partition("\n")[2].strip() for part in sections)
    (row,) = [
        one
        for one in outcome.verdict["arms"]
        if (one["arm"], one["adaptation"]) == (outcome.best["arm"], outcome.best["adaptation"])
    ]
    shown = f"| AUROC | {row['budget']} | {row['mean']:.3f} | {row['low']:.3f} to {row['high']:.3f} |"
    assert shown in card
    assert "test patients included" in card
    assert all(warning in card for warning in outcome.verdict["warnings"])


def test_no_file_and_no_patient_is_named(outcome: Outcome, cohort: Path) -> None:
    card = model_card(outcome)
    for name in (*outcome.ground.catalog.table["path"], *set(outcome.ground.patients), str(cohort.parent)):
        assert name not in card
