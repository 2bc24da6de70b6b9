"""`medprior compare study.yaml`: the whole command, what stands in its report, and what the command line changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medprior.data.phantom import make_cohort

RECIPE = """
scans: {scans}
labels: {labels}
unlabelled: {pool}
data: {{size: 32, label: [label]}}
pretrain:
  arms: [mae@test_vit, simclr@test_resnet]
  steps: 2
  batch_size: 8
adapt: {{steps: 2}}
study: {{budgets: [12], seeds: 1, folds: 2, repeats: 1, threads: 1, workers: 1}}
method:
  mae: {{decoder_width: 32, decoder_depth: 1}}
  simclr: {{projection: [32, 16]}}
"""


@pytest.fixture(scope="module")
def recipe(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("recipe")
    pool = make_cohort(place / "pool", patients=10, seed=99, size=32).parent
    (place / "study.yaml").write_text(RECIPE.format(scans=cohort.parent, labels=cohort, pool=pool))
    return place / "study.yaml"


def test_a_recipe_ends_in_a_verdict(
    medprior: Callable[..., int], recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medprior("compare", recipe, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "Pool     10 further images" in printed
    assert "pre-train mae on test_vit" in printed
    assert "pre-train simclr on test_resnet" in printed
    assert "Verdict" in printed
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "medprior compare RECIPE.yaml" in page
    assert str(recipe.parent) not in page


def test_the_command_line_goes_before_the_recipe(
    medprior: Callable[..., int], recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--methods", "mae", "--backbone", "test_vit", "--seeds", "2", "--out", tmp_path / "out"]
    assert medprior("run", recipe, *words) == 0
    printed = capsys.readouterr().out
    assert "x 2 seeds" in printed
    assert "simclr" not in printed


def test_a_recipe_beside_a_file_of_settings_is_refused(
    medprior: Callable[..., int], recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medprior("compare", recipe, "--config", recipe) == 2
    assert "a recipe holds its settings itself" in capsys.readouterr().err


def test_a_wrong_key_is_said_with_its_file(
    medprior: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.yaml").write_text("scans: .\nstudy: {sedes: 3}\n")
    assert medprior("compare", tmp_path / "wrong.yaml") == 2
    said = capsys.readouterr().err
    assert "wrong.yaml" in said
    assert 'Nearest: "seeds"' in said


def test_a_method_is_shown_without_the_indents_of_its_code(
    medprior: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert medprior("methods", "simclr") == 0
    shown = capsys.readouterr().out.split("paper")[0].splitlines()
    assert not [line for line in shown if line.startswith(" ")]
