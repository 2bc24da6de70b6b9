"""Temperatures, thresholds and reliability bins: of models that know their chances and of some that do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, recall_score

from medprior.evaluation.calibration import AIM, Calibration, calibrate, outcomes, reliability, scaled
from medprior.evaluation.metrics import score
from medprior.evaluation.strata import strata_of

KINDS = ("binary", "multiclass", "multilabel")


def made_up(kind: str, count: int, certainty: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Chances and targets of a model whose logits are `certainty` times as large as they ought to be."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.standard_normal((count, 2 if kind == "binary" else 3))
    if kind == "multilabel":
        targets = (rng.uniform(size=logits.shape) < expit(logits)).astype(float)
        targets[rng.uniform(size=logits.shape) < 0.2] = np.nan
        return expit(certainty * logits), targets
    targets = (logits + rng.gumbel(size=logits.shape)).argmax(1).astype(float)
    return softmax(certainty * logits, axis=1), targets


@pytest.mark.parametrize("kind", KINDS)
def test_a_temperature_makes_an_overconfident_model_believable_and_leaves_a_good_one_alone(kind: str) -> None:
    good, sure = (made_up(kind, 4000, certainty) for certainty in (1.0, 3.0))
    assert calibrate(*good, kind).temperature == pytest.approx(1, rel=0.1)
    found = calibrate(*sure, kind).temperature
    assert found == pytest.approx(3, rel=0.1)
    chances, targets = made_up(kind, 4000, 3.0, seed=1)
    after = scaled(chances, kind, found)
    for metric in ("calibration_error", "brier", "log_loss"):
        assert score(metric, after, targets, kind) < 0.9 * score(metric, chances, targets, kind)
    assert score("calibration_error", after, targets, kind) < 0.04


def test_scaling_chances_is_scaling_logits() -> None:
    logits = np.random.default_rng(0).standard_normal((50, 4))
    np.testing.assert_allclose(scaled(expit(logits), "multilabel", 2.5), expit(logits / 2.5))
    expected = np.exp(log_softmax(logits / 2.5, axis=1))
    np.testing.assert_allclose(scaled(softmax(logits, axis=1), "multiclass", 2.5), expected)


def test_the_temperature_is_that_of_the_least_log_loss_of_scikit_learn() -> None:
    chances, targets = made_up("multiclass", 3000, 2.0)
    found = calibrate(chances, targets, "multiclass").temperature
    grid = np.linspace(0.5, 4, 200)
    losses = [log_loss(targets, scaled(chances, "multiclass", temperature)) for temperature in grid]
    assert found == pytest.approx(grid[np.argmin(losses)], abs=0.03)


def test_few_images_that_are_all_told_right_do_not_make_a_model_certain() -> None:
    chances = np.repeat([[0.8, 0.2], [0.2, 0.8]], 5, axis=0)
    found = calibrate(chances, np.repeat([0.0, 1.0], 5), "binary").temperature
    assert 0.3 < found < 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_thresholds_reach_what_they_are_set_for_and_the_next_ones_do_not(kind: str) -> None:
    chances, targets = made_up(kind, 300, 1.0)
    chances = chances.round(2)
    thresholds = calibrate(chances, targets, kind).thresholds
    columns = [1] if kind == "binary" else range(3)
    for k, (specific, sensitive) in zip(columns, thresholds, strict=True):
        known = np.isfinite(targets[:, k]) if kind == "multilabel" else np.ones(300, bool)
        truth = targets[known, k] == 1 if kind == "multilabel" else targets == k
        said = chances[known, k]
        reached = [[recall_score(truth, said >= t, pos_label=side) for side in (0, 1)] for t in (specific, sensitive)]
        assert reached[0][0] >= AIM
        assert reached[1][1] >= AIM
        below, above = said[said < specific].max(), said[said > sensitive].min()
        assert recall_score(truth, said >= below, pos_label=0) < AIM
        assert recall_score(truth, said > above, pos_label=1) < AIM


def test_a_threshold_lies_between_chances_or_beyond_them_all() -> None:
    chances = np.array([0.1, 0.2, 0.7, 0.8])
    both = np.stack([1 - chances, chances], axis=1)
    (apart,) = calibrate(both, np.array([0.0, 0.0, 1.0, 1.0]), "binary").thresholds
    assert apart == pytest.approx([0.45, 0.45])
    ((specific, sensitive),) = calibrate(both, np.array([1.0, 0.0, 1.0, 0.0]), "binary").thresholds
    assert specific > 0.8
    assert specific == pytest.approx(0.8)
    assert sensitive == pytest.approx(0.1)


def test_labels_without_two_sides_set_nothing() -> None:
    chances, targets = made_up("binary", 30, 1.0)
    assert calibrate(chances, np.ones(30), "binary") == Calibration()
    assert calibrate(np.full((30, 2), np.nan), targets, "binary") == Calibration()
    chances, targets = made_up("multilabel", 30, 1.0)
    targets[:, 1] = 0
    found = calibrate(chances, targets, "multilabel")
    assert found.temperature is not None
    assert found.thresholds[1] == [None, None]
    assert np.isnan(found.cuts(0)).tolist() == [False, True, False]


def test_rows_without_a_chance_count_nowhere() -> None:
    chances, targets = made_up("binary", 60, 1.0)
    some = chances.copy()
    some[:20] = np.nan
    assert calibrate(some, targets, "binary") == calibrate(chances[20:], targets[20:], "binary")


def test_bins_are_those_of_scikit_learn() -> None:
    chances, targets = made_up("binary", 1000, 1.0)
    said, came_true, image = outcomes(chances, targets, "binary", np.ones(2, bool))
    bins = reliability(said, came_true, image, strata_of(np.arange(1000), targets, "binary", 2))
    share, predicted = calibration_curve(targets, chances[:, 1], n_bins=10, strategy="quantile")
    np.testing.assert_allclose([one.predicted for one in bins], predicted, atol=2e-3)
    np.testing.assert_allclose([one.share.value for one in bins], share, atol=0.02)
    assert [one.patients for one in bins] == [100] * 10


def test_bins_of_a_good_model_hold_the_chance_and_those_of_a_sure_one_do_not() -> None:
    held = {}
    for certainty in (1.0, 3.0):
        inside = []
        for seed in range(20):
            chances, targets = made_up("binary", 400, certainty, seed)
            said, came_true, image = outcomes(chances, targets, "binary", np.ones(2, bool))
            bins = reliability(said, came_true, image, strata_of(np.arange(400), targets, "binary", 2))
            inside += [one.share.low <= one.predicted <= one.share.high for one in bins]
        held[certainty] = np.mean(inside)
    assert held[1.0] > 0.9
    assert held[3.0] < 0.6


def test_what_is_said_of_several_classes_and_of_labels() -> None:
    chances = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]])
    said, came_true, image = outcomes(chances, np.array([0.0, 1.0, np.nan]), "multiclass", np.ones(3, bool))
    assert (said.tolist(), came_true.tolist(), image.tolist()) == ([0.5, 0.7], [True, False], [0, 1])
    targets = np.array([[1, np.nan, 0], [0, 1, 1], [np.nan, np.nan, 1.0]])
    said, came_true, image = outcomes(chances, targets, "multilabel", np.array([True, True, False]))
    assert said.tolist() == [0.5, 0.1, 0.2]
    assert (came_true.tolist(), image.tolist()) == ([True, False, True], [0, 1, 1])


def test_few_patients_give_few_bins_and_no_interval() -> None:
    chances, targets = made_up("binary", 36, 1.0)
    patients = np.repeat(np.arange(9), 4)
    said, came_true, image = outcomes(chances, targets, "binary", np.ones(2, bool))
    (only,) = reliability(said, came_true, patients[image], strata_of(patients, targets, "binary", 2))
    assert only.patients == 9
    assert only.share.low is None
    assert only.predicted == pytest.approx(said.mean())
    assert only.share.value == pytest.approx(came_true.mean())


def test_the_calibration_error_of_a_perfect_model_is_above_zero_and_the_brier_score_is_not_too_large() -> None:
    """Why the one has no interval and the other has."""
    found = {
        metric: [score(metric, *made_up("binary", 60, 1.0, seed), "binary") for seed in range(200)]  # type: ignore[arg-type]
        for metric in ("calibration_error", "brier")
    }
    truth = made_up("binary", 100_000, 1.0)
    assert np.mean(found["calibration_error"]) > 0.1 > 10 * score("calibration_error", *truth, "binary")
    assert np.mean(found["brier"]) == pytest.approx(score("brier", *truth, "binary"), abs=0.006)
