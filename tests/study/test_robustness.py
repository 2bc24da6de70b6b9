"""Drops under corruptions of constructed studies: equal to direct computation, and said with care beside scratch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from medprior.evaluation.intervals import holm
from medprior.study.results import Arm, CellResult, StudyResults
from medprior.study.verdict.robustness import (
    COLUMNS,
    Robustness,
    examine_robustness,
    robustness_said,
    robustness_table,
)

PLACES = tuple((name, severity) for name in ("noise", "blur") for severity in (1, 2, 3))
PATIENTS = 240
VERDICT = {"unit": "patients", "sentences": ["One."], "warnings": []}
MAE = Arm("mae", "vit", "fine-tune")


def study(lost: dict[str, float], *, seeds: int = 3, budgets: tuple[int, ...] = (20, 80), start=None) -> StudyResults:
    """Cells whose classes lie 1.5 deviations apart (or `start`), and under noise `lost` times the severity closer."""
    rng = np.random.default_rng(0)
    truth = np.arange(PATIENTS) % 2.0
    hard = rng.standard_normal(PATIENTS)

    def chances(apart: float) -> np.ndarray:
        chance = 1 / (1 + np.exp(-(apart * truth + hard + 0.3 * rng.standard_normal(PATIENTS))))
        return np.stack([1 - chance, chance], 1)

    cells = []
    for arm, loss in lost.items():
        apart = (start or {}).get(arm, 1.5)
        for budget in budgets:
            for seed in range(seeds):
                under = [apart - loss * severity * (name == "noise") for name, severity in PLACES]
                last = budget == max(budgets)
                cell = CellResult(
                    arm=arm.split("-")[0], encoder="vit", method=None if arm.startswith("scratch") else arm,
                    adaptation=arm if arm.startswith("scratch") else "fine-tune", budget=budget, budget_images=budget,
                    seed=seed, pretrain_seed=None if arm.startswith("scratch") else 0, fold=0,
                    rows=np.arange(PATIENTS), scores=chances(apart), targets=truth, patients=np.arange(PATIENTS),
                    n_train=budget, n_test=PATIENTS, corruptions=PLACES if last else (),
                    corrupted=np.stack([chances(each) for each in under]) if last else None,
                )  # fmt: skip
                cells.append(cell)
    return StudyResults(cells, "binary", ("normal", "ill"))


def found(results: StudyResults) -> Robustness:
    one = examine_robustness(results)
    assert one is not None
    return one


def said(results: StudyResults) -> list[str]:
    return robustness_said(VERDICT, examine_robustness(results))["sentences"][1:]


def test_a_drop_is_the_mean_over_models_of_what_each_loses():
    results = study({"scratch": 0.3, "mae": 0.1})
    table = robustness_table(found(results)).set_index(["arm", "corruption", "severity"])
    for arm in ("scratch", "mae"):
        cells = [cell for cell in results.cells if cell.arm == arm and cell.budget == 80]
        drops = []
        for place, key in enumerate(PLACES):
            clean, under = (
                np.array([roc_auc_score(cell.targets, scores[:, 1]) for cell, scores in pairs])
                for pairs in ([(c, c.scores) for c in cells], [(c, c.corrupted[place]) for c in cells])
            )
            row = table.loc[(arm, *key)]
            assert row["value"] == pytest.approx(under.mean())
            assert row["drop"] == pytest.approx((clean - under).mean())
            assert row["drop_low"] < row["drop"] < row["drop_high"]
            drops.append((clean - under).mean())
        assert table.loc[(arm, "noise", "mean"), "drop"] == pytest.approx(np.mean(drops[:3]))
    assert (table["n_test"] == PATIENTS).all()
    assert (table["budget"] == 80).all()


def test_the_interval_of_a_drop_is_that_of_two_paired_curves():
    """Of one model: DeLong, DeLong & Clarke-Pearson (Biometrics 1988), by its own formula."""
    results = study({"scratch": 0.3}, seeds=1)
    (cell,) = [cell for cell in results.cells if cell.budget == 80]
    parts = []
    for scores in (cell.scores[:, 1], cell.corrupted[2][:, 1]):
        ill, well = scores[cell.targets == 1], scores[cell.targets == 0]
        above = (ill[:, None] > well).astype(float) + 0.5 * (ill[:, None] == well)
        parts.append((above.mean(1), above.mean(0)))
    (of_ill, of_well), (of_ill_under, of_well_under) = parts
    variance = np.var(of_ill - of_ill_under, ddof=1) / len(of_ill)
    variance += np.var(of_well - of_well_under, ddof=1) / len(of_well)
    row = robustness_table(found(results)).set_index(["corruption", "severity"]).loc[("noise", 3)]
    reach = (row["drop_high"] - row["drop_low"]) / 2
    assert student.ppf(0.975, 1000) < reach / np.sqrt(variance) < student.ppf(0.975, 60)


def test_an_arm_that_surely_falls_less_is_told_with_all_that_was_looked_at():
    results = study({"scratch": 0.4, "scratch-2x": 0.4, "mae": 0.05, "simclr": 0.4})
    (sentence,) = said(results)
    assert sentence.startswith("Under noise ")
    assert "loses less AUROC than the same encoder from scratch: from 0." in sentence
    assert "mean of 3 severities; the surest of 4 comparisons, Holm's correction, exploratory" in sentence
    falls = found(results).falls
    assert [fall.arm.name for fall in falls if fall.told] == ["mae"]
    np.testing.assert_allclose([fall.p for fall in falls], holm(np.array([fall.apart.p for fall in falls])))


def test_falling_further_is_said_with_what_there_was_to_lose():
    worse = {"scratch": 0.05, "mae": 0.45}
    (sentence,) = said(study(worse))
    assert "loses more AUROC than the same encoder from scratch" in sentence
    (sentence,) = said(study(worse, start={"mae": 2.4}))
    assert "though it has more to lose" in sentence
    (sentence,) = said(study({"scratch": 0.6, "mae": 0.1}, start={"scratch": 2.4}))
    assert "loses less AUROC than the same encoder from scratch, though it has less to lose" in sentence


def test_where_arms_fall_alike_nothing_is_said():
    assert said(study({"scratch": 0.2, "mae": 0.2})) == []
    assert said(study({"mae": 0.4})) == []


def test_too_few_patients_have_drops_without_bounds():
    few = study({"scratch": 0.4, "mae": 0.05})
    cut = [
        replace(cell, **{name: getattr(cell, name)[:16] for name in ("rows", "scores", "targets", "patients")},
                corrupted=cell.corrupted[:, :16] if cell.corrupted is not None else None)
        for cell in few.cells
    ]  # fmt: skip
    results = StudyResults(cut, few.kind, few.names)
    table = robustness_table(found(results))
    assert table["drop_low"].isna().all()
    assert table["reason"].str.contains("too few").all()
    assert said(results) == []


def test_cells_of_older_versions_are_read_and_have_no_rows(tmp_path: Path):
    results = study({"scratch": 0.2, "mae": 0.2})
    kept = []
    for place, cell in enumerate(results.cells):
        cell.save(tmp_path / str(place))
        kept.append(CellResult.load(tmp_path / str(place)))
    again = StudyResults(kept, results.kind, results.names)
    assert robustness_table(found(again)).equals(robustness_table(found(results)))
    for path in tmp_path.glob("*.json"):
        facts = json.loads(path.read_text())
        del facts["corruptions"]
        path.write_text(json.dumps(facts))
    older = [CellResult.load(tmp_path / str(place)) for place in range(len(results.cells))]
    table = robustness_table(examine_robustness(StudyResults(older, results.kind, results.names)))
    assert list(table) == list(COLUMNS)
    assert not len(table)
    assert robustness_said(VERDICT, None) == VERDICT
    mixed = StudyResults([old if old.key == MAE else new for old, new in zip(older, kept, strict=True)], "binary", ())
    verdict = robustness_said(VERDICT, found(replace(mixed, names=results.names)))
    assert set(robustness_table(found(replace(mixed, names=results.names)))["arm"]) == {"scratch"}
    assert verdict["warnings"] == [
        "No corrupted test images were shown to MAE (vit, fine-tuned): an older version finished some of its models."
    ]
