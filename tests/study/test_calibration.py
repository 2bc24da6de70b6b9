"""Temperatures and thresholds of a study: whose labels they come from, and what the tables say of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, softmax

from medprior.evaluation.calibration import calibrate
from medprior.evaluation.yardstick import BIASED
from medprior.report.calibration import calibration, read_calibration
from medprior.report.content import ReportContent
from medprior.study.arms import Cell
from medprior.study.cells import Bench, inner_split, run_cell
from medprior.study.results import CellResult, StudyResults
from medprior.study.study import Outcome, run_study
from medprior.study.verdict.calibration import COLUMNS, calibration_table
from medprior.study.verdict.scores import score_table
from medprior.study.verdict.verdict import make_verdict
from medprior.training.adapt import Labelled
from small_study import small


@pytest.fixture(scope="module")
def outcome(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    settings = small("study.budgets=[12, 24]", "adapt.early_stop_from=20")
    return run_study(cohort.parent, cohort, settings, tmp_path_factory.mktemp("study"))


def bench_of(outcome: Outcome) -> Bench:
    store = outcome.ground.store.resident("cpu")
    return Bench(outcome.ground, store, outcome.settings, dict(outcome.schedule.adapt_steps), outcome.out)


def test_probes_have_a_temperature_and_fine_tuned_models_where_labels_validate(outcome: Outcome) -> None:
    for cell in outcome.results.cells:
        expected = cell.adaptation == "probe" or cell.budget >= 20
        assert (cell.temperature is not None) == (cell.thresholds is not None) == expected, cell.key
        assert not expected or len(cell.thresholds) == 1


def test_no_test_label_changes_a_temperature_or_a_threshold(outcome: Outcome, tmp_path: Path) -> None:
    bench = bench_of(outcome)
    flipped = replace(bench.ground)
    targets = bench.ground.targets.copy()
    tested = bench.ground.splits[0].test
    targets[tested] = 1 - targets[tested]
    vars(flipped)["targets"] = targets
    cells = [cell for cell in outcome.grid.cells() if cell.fold == 0 and cell.adaptation != "scratch-2x"]
    for cell in cells:
        texts = []
        for ground in (bench.ground, flipped):
            found = run_cell(replace(bench, ground=ground), cell)
            replace(found, seconds=0.0).save(tmp_path / "one")
            texts.append((tmp_path / "one.json").read_bytes())
        assert texts[0] == texts[1]
        assert not np.array_equal(found.targets, CellResult.load(outcome.out / "cells" / cell.key).targets)


def test_the_labels_they_come_from_lie_inside_the_budget_and_were_not_learnt_from(outcome: Outcome) -> None:
    bench, ground = bench_of(outcome), outcome.ground
    cell = Cell("scratch", "test_vit", "scratch", max(outcome.grid.budgets), 0, 0, None)
    rows = ground.usable(ground.budget(cell.budget, 0, 0))
    train, held = inner_split(bench, cell, rows, 0)
    assert isinstance(held, Labelled)
    assert set(held.rows) <= set(rows)
    assert set(ground.patients[held.rows]).isdisjoint(ground.patients[train.rows])


def test_the_report_draws_what_the_tables_of_a_study_hold(outcome: Outcome, tmp_path: Path) -> None:
    calibration_table(outcome.results).to_csv(tmp_path / "calibration.csv", index=False)
    score_table(outcome.results, outcome.verdict).to_csv(tmp_path / "scores.csv", index=False)
    shown = read_calibration(tmp_path, outcome.verdict, outcome.results.kind, outcome.results.names)
    part = calibration(ReportContent("x", outcome.verdict, calibration=shown), 224)
    assert part is not None
    assert part["bare"] == []
    assert {arm for arm, _, _ in part["panels"]} >= {"scratch"}
    assert len(part["panels"]) == 4


def simulated(certainty: float, *, seeds: int = 3, kind: str = "binary") -> list[CellResult]:
    """Cells of an arm that is `certainty` times as sure as it ought to be; two test images of each of 200 patients,
    and 2,000 held-out ones."""
    rng = np.random.default_rng(0)
    classes = 2 if kind == "binary" else 3
    common = 1.5 * rng.standard_normal((2400, classes))
    label = expit(common) > rng.uniform(size=common.shape)
    targets = label.astype(float) if kind == "multilabel" else (common + rng.gumbel(size=common.shape)).argmax(1) * 1.0
    found = []
    for seed in range(seeds):
        logits = certainty * (common + 0.1 * rng.standard_normal(common.shape))
        chances = expit(logits) if kind == "multilabel" else softmax(logits, axis=1)
        held = calibrate(chances[400:], targets[400:], kind)
        found.append(
            CellResult(
                arm="mae", encoder="vit", method="mae", adaptation="probe", budget=100, budget_images=100, seed=seed,
                pretrain_seed=0, fold=0, rows=np.arange(400), scores=chances[:400],
                targets=targets[:400],
                patients=np.arange(400) // 2, n_train=100, n_test=400, temperature=held.temperature,
                thresholds=held.thresholds,
            )
        )  # fmt: skip
    return found


def test_bins_of_a_sure_model_lie_off_the_line_until_its_temperature_puts_them_there() -> None:
    table = calibration_table(StudyResults(simulated(3.0), "binary", ("a", "b")))
    assert tuple(table) == COLUMNS
    before, after = table[table["temperature"].isna()], table[table["temperature"].notna()]
    assert after["temperature"].unique() == pytest.approx([3], rel=0.15)
    assert len(before) == len(after) == 10
    assert np.abs(before["predicted"] - before["true"]).mean() > 0.1
    assert np.abs(after["predicted"] - after["true"]).mean() < 0.06
    assert (after["low"] <= after["true"]).all()
    assert (after["true"] <= after["high"]).all()
    assert after["predicted"].is_monotonic_increasing
    assert table["seeds"].unique() == [3]


def test_without_a_temperature_there_is_no_after() -> None:
    cells = [replace(one, temperature=None if one.seed else 1.0) for one in simulated(1.0)]
    assert calibration_table(StudyResults(cells, "binary", ("a", "b")))["temperature"].isna().all()


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_scores_have_intervals_where_there_is_a_temperature(kind: str) -> None:
    results = StudyResults(simulated(3.0, kind=kind), kind, ("a", "b", "c")[: 2 if kind == "binary" else 3])
    table = score_table(results, make_verdict(results, facts={})).set_index("metric")
    assert set(table.index) == {results.yardstick.main, *results.yardstick.beside}
    bounded = table.drop(index=list(BIASED))
    assert (bounded["low"] <= bounded["mean"]).all()
    assert (bounded["mean"] <= bounded["high"]).all()
    assert table.loc[list(BIASED), ["low", "high"]].isna().all(axis=None)
    assert table["mean"]["brier_scaled"] < table["mean"]["brier"]
    assert table["mean"]["calibration_error_scaled"] < table["mean"]["calibration_error"] / 2
    assert 0.8 < table["mean"]["specificity_at_specificity_90"] < 0.97
    plain = results.table(["brier"])["value"].mean()
    assert table["mean"]["brier"] == pytest.approx(plain)


def test_the_squared_distance_over_several_classes_may_pass_one() -> None:
    wrong = [
        replace(one, scores=np.eye(3)[(one.targets.astype(int) + 1) % 3]) for one in simulated(1.0, kind="multiclass")
    ]
    for one in wrong:
        right = np.random.default_rng(one.seed).choice(400, 40, replace=False)
        one.scores[right] = np.eye(3)[one.targets[right].astype(int)]
    results = StudyResults(wrong, "multiclass", ("a", "b", "c"))
    brier = score_table(results, make_verdict(results, facts={})).set_index("metric").loc["brier"]
    assert brier["mean"] == pytest.approx(1.8)
    assert 1.7 < brier["low"] < 1.8 < brier["high"] < 2


def test_cells_on_disk_hold_plain_numbers(outcome: Outcome) -> None:
    kept = [json.loads(path.read_text()) for path in sorted((outcome.out / "cells").glob("*.json"))]
    there = [facts for facts in kept if facts["adaptation"] == "probe"]
    assert there
    for facts in there:
        assert 0.05 <= facts["temperature"] <= 20
        assert [len(pair) for pair in facts["thresholds"]] == [2]
