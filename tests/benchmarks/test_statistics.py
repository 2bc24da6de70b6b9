"""The simulations: what is made up is what the plan says, and what is counted is what medprior says of every study."""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

FOLDER = Path(__file__).parents[2] / "benchmarks" / "statistics"


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """Imports a script of the simulations by name."""
    sys.path.insert(0, str(FOLDER))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


SMALL = {"seeds": 3, "luck": 1}
CELLS = {
    "many": {"auroc": 0.85, "prevalence": 0.3, "patients": 100, **SMALL},
    "dice": {"dice": 0.92, "patients": 10, "images": 3, **SMALL},
    "saved": {"curve": "saturating", "place": "80", "patients": 100, "prevalence": 0.3, **SMALL},
    "arms": {"auroc": 0.95, "prevalence": 0.1, "patients": 30, "images": 4, "within": 0.5, **SMALL},
}
"""Of `arms` the smallest of all, where some models tell all images right."""


@pytest.mark.parametrize("name", CELLS)
def test_all_at_once_is_one_by_one(script: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    simulate = script("simulate")
    monkeypatch.setattr(simulate, "CHECKED", 6)
    _, found = simulate.work((name, CELLS[name], 9))
    assert set(simulate.PARTS[name].columns) < set(found)
    assert all(len(values) == 9 for values in found.values())


def test_a_study_of_which_medprior_says_something_else_stops_the_run(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script("spreads"), "BORROWED", 1)
    with pytest.raises(AssertionError, match=r"study 0 of seed \[\d+, 0\].* by medprior itself"):
        script("simulate").work(("arms", CELLS["arms"], 20))


def test_scores_go_together_as_the_plan_says(script: Any) -> None:
    """Images of one patient, models of one arm, models of two arms; positives lie higher by the binormal mean."""
    cohorts, arms = script("cohorts"), script("arms")
    cohort = cohorts.Cohort(100, 50, 2, 0.5)
    made = arms.classified(np.random.default_rng(0), 400, cohort, np.array([0.7, 0.9]), 2, 0.0)
    pairs = made.tested.images == 2
    first = np.cumsum(made.tested.images, axis=1) - made.tested.images
    rows = np.repeat(np.arange(400), pairs.sum(1))
    one, two = (made.scores[rows, :, :, first[pairs] + step] for step in (0, 1))
    shift = np.sqrt(2) * norm.ppf([0.7, 0.9])[:, None] * (np.nonzero(pairs)[1] < 50)[:, None, None]
    one, two = one - shift, two - shift

    def together(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Any:
        return pytest.approx(float((ours * theirs).mean()), abs=0.03)

    assert together(one[:, 0, 0], one[:, 0, 0]) == 1
    assert together(one[:, 0, 0], one[:, 0, 1]) == 0.7
    assert together(one[:, 0, 0], one[:, 1, 1]) == 0.5
    assert together(one[:, 0, 0], two[:, 0, 0]) == 0.5
    assert together(one[:, 0, 0], two[:, 1, 1]) == 0.25


@pytest.mark.parametrize("auroc", [0.7, 0.95])
def test_the_truth_is_the_mean_over_seeds_and_seeds_vary_as_much_as_patients(script: Any, auroc: float) -> None:
    arms, measured = script("arms"), script("measured")
    cohort = script("cohorts").Cohort(40, 20, 3, 0.5)
    calm, lucky = (
        arms.classified(np.random.default_rng(0), 1500, cohort, np.array([auroc]), 3, luck) for luck in (0, 1)
    )
    values, moves = measured.aurocs(lucky)
    assert values.mean() == pytest.approx(auroc, abs=0.005)
    of_patients = measured.aurocs(calm)[0].var(axis=0).mean()
    assert (moves**2).sum(-1).mean() == pytest.approx(of_patients, rel=0.15)
    assert values.var(axis=0).mean() == pytest.approx(2 * of_patients, rel=0.15)


def test_a_table_goes_on_where_it_stopped(script: Any, tmp_path: Path) -> None:
    simulate = script("simulate")
    file = tmp_path / "dice.csv"
    simulate.run("dice", tmp_path, 20, 1, 60)
    whole = file.read_text()
    assert [row["studies"] for row in csv.DictReader(whole.splitlines())] == ["20", "20"]
    file.write_text("".join(whole.splitlines(keepends=True)[:2]))
    simulate.run("dice", tmp_path, 20, 1, 60)
    assert file.read_text() == whole


def test_the_page_and_its_picture_are_what_the_tables_say(script: Any) -> None:
    draw = script("draw")
    page = draw.README.read_text()
    assert draw.replaced(page, draw.section()) == page
    assert draw.PICTURE.read_text() == draw.figure() + "\n"
