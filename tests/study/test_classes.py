"""A study seen through one class gives scikit-learn's one-versus-rest scores, with unknown entries left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss, roc_auc_score

from medprior.evaluation.segmentation import METRICS
from medprior.evaluation.yardstick import OPERATING, SCALED
from medprior.study.classes import COLUMNS, class_scores, class_table, of_class, outline_scores
from medprior.study.results import CellResult, StudyResults


def cell(scores: np.ndarray, targets: np.ndarray, seed: int = 0) -> CellResult:
    n = len(scores)
    names = np.array([f"p{i}" for i in range(n)])
    return CellResult(
        "mae", "vit", "mae", "probe", 40, 40, seed, 0, 0, np.arange(n), scores, targets, names, n_train=40, n_test=n
    )  # fmt: skip


def test_every_class_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 200).astype(float)
    cells = [cell(rng.dirichlet([1, 1, 1], 200) + np.eye(3)[targets.astype(int)] * 0.2, targets, s) for s in range(2)]
    found = {c.name: c.auroc for c in class_scores(StudyResults(cells, "multiclass", ("a", "b", "c")), 40)}
    for k, name in enumerate("abc"):
        expected = np.mean([roc_auc_score(targets == k, c.scores[:, k]) for c in cells])
        assert found[name].value == pytest.approx(expected, abs=1e-12)
        assert found[name].low is not None
        assert found[name].low < expected < found[name].high


def test_unknown_labels_are_left_out() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, (120, 2)).astype(float)
    scores = rng.random((120, 2))
    targets[:50, 1] = np.nan
    found = {
        c.name: c.auroc.value for c in class_scores(StudyResults([cell(scores, targets)], "multilabel", ("x", "y")), 40)
    }
    assert found["x"] == pytest.approx(roc_auc_score(targets[:, 0], scores[:, 0]))
    assert found["y"] == pytest.approx(roc_auc_score(targets[50:, 1], scores[50:, 1]))


THRESHOLDS = [[0.3, 0.4], [0.6, None], [0.1, 0.2]]


def test_a_class_is_cut_at_its_own_thresholds_and_one_temperature_of_several_classes_is_not_its_own() -> None:
    rng = np.random.default_rng(2)
    targets = rng.integers(0, 3, 90).astype(float)
    whole = replace(cell(rng.dirichlet([1, 1, 1], 90), targets), temperature=2.0, thresholds=THRESHOLDS)
    results = StudyResults([whole], "multiclass", ("a", "b", "c"))
    for k in range(3):
        seen = of_class(results, k, 40)
        at_least = whole.scores[:, k] >= THRESHOLDS[k][0]
        found = seen.score("sensitivity_at_specificity_90", seen.cells[0])
        assert found == pytest.approx(at_least[targets == k].mean(), abs=1e-12)
        assert not any(seen.points(metric).samples for metric in SCALED), "of all classes together"
        assert set(seen.table()["metric"]) >= set(OPERATING)
    assert not np.isfinite(of_class(results, 1, 40).table(["sensitivity_at_sensitivity_90"])["value"]).any()


def test_a_temperature_of_labels_scales_each_of_them_by_itself() -> None:
    rng = np.random.default_rng(3)
    targets, chances = rng.integers(0, 2, (80, 2)).astype(float), rng.uniform(0.05, 0.95, (80, 2))
    whole = replace(cell(chances, targets), temperature=2.5, thresholds=THRESHOLDS[:2])
    results = StudyResults([whole], "multilabel", ("x", "y"))
    for k in range(2):
        seen = of_class(results, k, 40)
        expected = brier_score_loss(targets[:, k], expit(logit(chances[:, k]) / 2.5))
        assert seen.score("brier_scaled", seen.cells[0]) == pytest.approx(expected, abs=1e-12)


def test_two_classes_keep_what_is_said_of_the_second() -> None:
    rng = np.random.default_rng(4)
    targets, chances = rng.integers(0, 2, 80).astype(float), rng.uniform(0.05, 0.95, 80)
    whole = replace(cell(np.stack([1 - chances, chances], 1), targets), temperature=0.5, thresholds=[[0.7, 0.3]])
    results = StudyResults([whole], "binary", ("no", "yes"))
    for metric in (*SCALED, *OPERATING):
        seen = of_class(results, 1, 40)
        assert seen.score(metric, seen.cells[0]) == pytest.approx(results.score(metric, whole), abs=1e-12)
    assert of_class(results, 0, 40).cells[0].thresholds is None


def outlined(dice: np.ndarray, seed: int, fold: int = 0) -> CellResult:
    """Scores (N, K) of the two scans of each of N / 2 patients; HD95 and surface Dice follow Dice."""
    n = len(dice)
    scores = np.stack([dice, 20 * (1 - dice), dice / 2], axis=-1)
    rows = np.arange(n) + n * fold
    return CellResult(
        "genesis", "unet_8", "genesis", "fine-tune", 4, 4, seed, 0, fold, rows, scores,
        np.isfinite(dice).astype(float), rows // 2, n_train=4, n_test=n,
    )  # fmt: skip


def test_outlines_of_a_class_are_means_over_scans_seeds_and_then_patients() -> None:
    rng = np.random.default_rng(0)
    dice = [rng.uniform(0.3, 0.9, (40, 2)) for _ in range(3)]
    for one in dice:
        one[:6, 1] = np.nan
    results = StudyResults([outlined(one, s) for s, one in enumerate(dice)], "segmentation", ("ball", "rod"))
    found = {(one.name, one.metric): one for one in outline_scores(results)}
    assert set(found) == {(name, metric) for name in results.names for metric in METRICS}
    patients = np.stack(dice).mean(0).reshape(20, 2, 2).mean(1)
    for k, name in enumerate(results.names):
        one = found[name, "dice"]
        assert one.score.value == pytest.approx(np.nanmean(patients[:, k]), abs=1e-12)
        assert one.patients == 20 - 3 * k and one.seeds == 3
        assert one.score.low is not None and one.score.low < one.score.value < one.score.high
        assert found[name, "hd95"].score.value == pytest.approx(20 * (1 - one.score.value))
        assert found[name, "surface_dice"].score.value == pytest.approx(one.score.value / 2)


def test_folds_are_joined_and_few_patients_have_no_interval() -> None:
    dice = np.linspace(0.2, 0.9, 16).reshape(16, 1)
    both = StudyResults([outlined(dice, 0), outlined(dice, 0, fold=1)], "segmentation", ("ball",))
    one = StudyResults([outlined(dice, 0)], "segmentation", ("ball",))
    assert [found.patients for found in outline_scores(both)] == [16] * 3
    assert all(found.score.low is not None for found in outline_scores(both))
    assert [found.patients for found in outline_scores(one)] == [8] * 3
    table = class_table(one)
    assert list(table) == list(COLUMNS)
    assert table["low"].isna().all() and table["high"].isna().all()
    assert table["mean"].iloc[0] == pytest.approx(dice.mean())


def test_a_class_that_no_patient_has_is_left_out() -> None:
    dice = np.column_stack([np.linspace(0.2, 0.9, 30), np.full(30, np.nan)])
    results = StudyResults([outlined(dice, 0)], "segmentation", ("ball", "rod"))
    assert {found.name for found in outline_scores(results)} == {"ball"}
