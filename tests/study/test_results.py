"""Cells on disk and the rows of results.csv."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medprior.errors import RunError
from medprior.evaluation.calibration import Calibration
from medprior.evaluation.intervals import difference, interval
from medprior.evaluation.metrics import METRICS
from medprior.evaluation.strata import first_rows
from medprior.evaluation.yardstick import BY_PATIENT, OPERATING, SCALED
from medprior.study.results import COLUMNS, CellResult, StudyResults


def cell(arm="mae", adaptation="fine-tune", seed=0, fold=0, run=0, encoder="resnet18.a1", budget=20):
    rng = np.random.default_rng([seed, fold, budget])
    positive = rng.uniform(size=30)
    return CellResult(
        arm=arm, encoder=encoder, method=arm, adaptation=adaptation, budget=budget, budget_images=25, seed=seed,
        pretrain_seed=run, fold=fold, rows=np.arange(30) + 30 * fold, scores=np.stack([1 - positive, positive], 1),
        targets=np.arange(30) % 2.0, patients=np.array([f"p{i + 30 * fold}" for i in range(30)]), n_train=25, n_test=30,
    )  # fmt: skip


def test_a_cell_comes_back_as_it_was(tmp_path):
    before, path = cell(), tmp_path / "cells" / "mae-resnet18.a1-20"
    assert not CellResult.exists(path)
    before.save(path)
    after = CellResult.load(path)
    assert CellResult.exists(path)
    for name, value in vars(before).items():
        assert np.array_equal(getattr(after, name), value), name
    assert after.held == Calibration()
    assert sorted(p.name for p in path.parent.iterdir()) == ["mae-resnet18.a1-20.json", "mae-resnet18.a1-20.npz"]


def test_temperature_and_thresholds_come_back_too(tmp_path):
    before = replace(cell(), temperature=0.1 + 0.2, thresholds=[[0.7, None]])
    before.save(tmp_path / "one")
    assert CellResult.load(tmp_path / "one").held == before.held == Calibration(0.1 + 0.2, [[0.7, None]])


def test_cells_of_versions_without_temperatures_are_read_as_before(tmp_path):
    cell().save(tmp_path / "one")
    facts = json.loads((tmp_path / "one.json").read_text())
    assert facts["schema"] == "medprior.cell/2"
    del facts["temperature"], facts["thresholds"]
    (tmp_path / "one.json").write_text(json.dumps(facts))
    assert CellResult.load(tmp_path / "one").held == Calibration()


def test_rows_of_scaled_chances_and_thresholds_are_where_a_cell_has_them():
    cells = [cell(seed=0), replace(cell(seed=1), temperature=2.0, thresholds=[[0.8, 0.2]]), cell("scratch", "scratch")]
    results = StudyResults(cells, "binary", ("a", "b"))
    table = results.table()
    there = table[table["metric"].isin([*SCALED, *OPERATING])]
    assert set(zip(there["arm"], there["seed"], strict=True)) == {("mae", 1)}
    assert set(there["metric"]) == {*SCALED, *OPERATING}
    assert not results.points("brier_scaled").samples, "one seed of two has no temperature: no mean over both"
    assert len(results.points("brier").samples) == 2
    value = there.set_index("metric")["value"]["sensitivity_at_specificity_90"]
    positive = cells[1].targets == 1
    assert value == pytest.approx((cells[1].scores[positive, 1] >= 0.8).mean())


def test_rows_by_patient_are_where_patients_have_several_images():
    one, several = cell(), replace(cell(), patients=np.arange(30) // 2)
    for cells, there in (([one], False), ([several], True)):
        table = StudyResults(cells, "binary", ("a", "b")).table()
        assert (BY_PATIENT in set(table["metric"])) == there


def test_patients_may_be_numbers_and_stay_numbers(tmp_path):
    named = cell()
    numbered = replace(named, patients=first_rows(named.patients))
    numbered.save(tmp_path / "one")
    assert b"p29" not in (tmp_path / "one.npz").read_bytes()
    after = CellResult.load(tmp_path / "one")
    assert after.patients.dtype.kind == "i"
    by_name, by_number = (StudyResults([one], "binary", ("a", "b")).points("auroc") for one in (named, after))
    assert by_number.smallest == by_name.smallest
    spread = [(next(iter(one.samples.values())).moves ** 2).sum() for one in (by_name, by_number)]
    assert spread[0] == pytest.approx(spread[1], rel=1e-12)


def test_saving_twice_writes_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        cell().save(tmp_path / name)
    for suffix in ("npz", "json"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("harm", ["cut", "empty", "other"])
def test_a_damaged_cell_is_an_error_with_its_place(tmp_path, harm):
    path = tmp_path / "one"
    cell().save(path)
    if harm == "cut":
        (tmp_path / "one.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:100])
    elif harm == "empty":
        (tmp_path / "one.json").write_text("")
    else:
        text = (tmp_path / "one.json").read_text()
        (tmp_path / "one.json").write_text(text.replace("medprior.cell/2", "medprior.cell/0"))
    with pytest.raises(RunError, match="one"):
        CellResult.load(path)


def test_a_value_per_seed_is_the_mean_over_folds():
    cells = [cell(seed=seed, fold=fold) for seed in range(2) for fold in range(3)]
    table = StudyResults(cells, "binary", ("a", "b")).table(["auroc"])
    assert tuple(table.columns) == COLUMNS
    expected = [
        np.mean([roc_auc_score(c.targets, c.scores[:, 1]) for c in cells if c.seed == seed]) for seed in range(2)
    ]
    assert table["value"].tolist() == pytest.approx(expected)
    assert table["n_test"].tolist() == [90, 90]
    assert table["n_train"].tolist() == [25, 25]


def test_folds_with_one_patient_of_a_class_each_give_no_interval():
    def folded(positives):
        targets = (np.arange(30) < positives).astype(float)
        cells = [
            replace(cell(arm, seed=seed, fold=f), targets=targets)
            for arm, seed in (("a", 0), ("a", 1), ("b", 2), ("b", 3))
            for f in range(12)
        ]
        return StudyResults(cells, "binary", ("a", "b")).points("auroc")

    thin, enough = folded(1), folded(2)
    assert (thin.smallest, enough.smallest) == (12, 24)
    for points, told in ((thin, False), (enough, True)):
        ours, theirs = points.samples.values()
        for found in (interval(ours, points.smallest), difference(ours, theirs, points.smallest)):
            assert (found.low is not None) == told
            assert told or found.reason == "folds hold 1.0 patients of the smallest class, too few"


def test_rows_have_one_key_each():
    arms = [("mae", "fine-tune"), ("mae", "probe"), ("scratch", "scratch"), ("scratch", "scratch-2x")]
    cells = [cell(a, how, seed=s, encoder=e) for a, how in arms for s in range(2) for e in ("resnet18", "vit_tiny")]
    table = StudyResults(cells, "binary", ("a", "b")).table()
    assert not table.duplicated(["arm", "budget", "seed", "adaptation", "metric"]).any()
    assert len(table) == 2 * 8 * len(METRICS)


def test_every_image_is_tested_once_whatever_the_arms():
    cells = [cell(a, fold=f) for a in ("mae", "simclr") for f in range(3)]
    patients, targets = StudyResults(cells, "binary", ("a", "b")).test
    assert len(patients) == len(targets) == 90
