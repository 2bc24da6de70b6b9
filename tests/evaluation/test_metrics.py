"""Metrics against scikit-learn, with ties, weights and unknown labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medprior.errors import DataError, SettingsError
from medprior.evaluation.metrics import METRICS, estimate, operating, score


def cohort(kind: str, seed: int, count: int = 60, classes: int = 3, decimals: int = 1):
    """Scores rounded to `decimals`, so that many are tied; targets with every class; integer weights."""
    rng = np.random.default_rng(seed)
    classes = 2 if kind == "binary" else classes
    raw = rng.uniform(0.05, 1, (count, classes)).round(decimals)
    if kind == "multilabel":
        targets = rng.integers(0, 2, (count, classes)).astype(float)
        targets[0], targets[1] = 0, 1
        targets[2:][rng.uniform(size=(count - 2, classes)) < 0.2] = np.nan
        return raw, targets, rng.integers(1, 4, count).astype(float)
    targets = rng.integers(0, classes, count).astype(float)
    targets[:classes] = np.arange(classes)
    return raw / raw.sum(1, keepdims=True), targets, rng.integers(1, 4, count).astype(float)


def reference(metric: str, scores, targets, kind: str, weights) -> float:
    """The same number by scikit-learn, label by label."""
    if kind == "multilabel":
        return float(np.mean([label(metric, scores[:, k], targets[:, k], weights) for k in range(scores.shape[1])]))
    truth = np.eye(scores.shape[1])[targets.astype(int)]
    columns = [1] if kind == "binary" else range(scores.shape[1])
    if metric == "auroc":
        return float(np.mean([sk.roc_auc_score(truth[:, k], scores[:, k], sample_weight=weights) for k in columns]))
    if metric == "average_precision":
        parts = [sk.average_precision_score(truth[:, k], scores[:, k], sample_weight=weights) for k in columns]
        return float(np.mean(parts))
    decided = scores.argmax(1)
    if metric == "balanced_accuracy":
        return sk.balanced_accuracy_score(targets, decided, sample_weight=weights)
    if metric == "accuracy":
        return sk.accuracy_score(targets, decided, sample_weight=weights)
    if metric == "quadratic_kappa":
        return sk.cohen_kappa_score(targets, decided, weights="quadratic", sample_weight=weights)
    if metric == "brier":
        if kind == "binary":
            return sk.brier_score_loss(targets, scores[:, 1], sample_weight=weights)
        return float(np.average(((scores - truth) ** 2).sum(1), weights=weights))
    if metric == "log_loss":
        return sk.log_loss(targets, scores, sample_weight=weights)
    if metric == "calibration_error":
        return binned(scores.max(1), decided == targets, weights)
    return sk.f1_score(targets, decided, average="macro", sample_weight=weights)


def binned(said, right, weights) -> float:
    """Images by how much weight lies below them, in tenths."""
    below = np.array([weights[said < one].sum() for one in said]) / weights.sum()
    tenth = np.minimum(np.floor(10 * below + 1e-6), 9)
    gaps = [abs(np.sum((weights * (said - right))[tenth == k])) for k in range(10)]
    return float(sum(gaps) / weights.sum())


def label(metric: str, scores, targets, weights) -> float:
    known = np.isfinite(targets)
    scores, targets, weights = scores[known], targets[known], weights[known]
    named = {"auroc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
    if metric in named:
        return named[metric](targets, scores, sample_weight=weights)
    if metric == "brier":
        return sk.brier_score_loss(targets, scores, sample_weight=weights)
    if metric == "log_loss":
        return sk.log_loss(targets, scores, sample_weight=weights)
    if metric == "calibration_error":
        return binned(scores, targets, weights)
    if metric == "quadratic_kappa":
        return sk.cohen_kappa_score(targets, scores >= 0.5, sample_weight=weights)
    named = {"balanced_accuracy": sk.balanced_accuracy_score, "accuracy": sk.accuracy_score, "macro_f1": sk.f1_score}
    return named[metric](targets, scores >= 0.5, sample_weight=weights)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), decimals=st.sampled_from([1, 6]))
def test_equal_to_scikit_learn(metric, kind, seed, decimals):
    scores, targets, weights = cohort(kind, seed, decimals=decimals)
    for column in (np.ones(len(scores)), weights):
        expected = reference(metric, scores, targets, kind, column)
        assert score(metric, scores, targets, kind, weights=column) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("metric", METRICS)
def test_weights_are_repetitions(metric, kind):
    scores, targets, weights = cohort(kind, seed=3)
    repeat = np.repeat(np.arange(len(scores)), weights.astype(int))
    assert score(metric, scores, targets, kind, weights=weights) == pytest.approx(
        score(metric, scores[repeat], targets[repeat], kind), abs=1e-12
    )


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("metric", METRICS)
def test_pulls_are_the_derivative_by_the_weight_of_each_image(metric, kind):
    scores, targets, weights = cohort(kind, seed=5)
    found, step = estimate(metric, scores, targets, kind, weights=weights), 1e-6
    for image in range(0, len(scores), 7):
        more, less = weights.copy(), weights.copy()
        more[image], less[image] = weights[image] * np.exp(step), weights[image] * np.exp(-step)
        moved = score(metric, scores, targets, kind, weights=more) - score(metric, scores, targets, kind, weights=less)
        assert found.pulls[image] == pytest.approx(moved / (2 * step), abs=1e-8)
    assert abs(found.pulls.sum()) < 1e-12


def label_by_label(metric, scores, targets):
    return [score(metric, scores[:, [k]], targets[:, [k]], "multilabel") for k in range(scores.shape[1])]


def test_label_with_one_class_is_left_out():
    scores, targets, _ = cohort("multilabel", seed=1)
    targets[:, 1] = 0
    parts = label_by_label("auroc", scores, targets)
    assert np.isnan(parts[1])
    assert score("auroc", scores, targets, "multilabel") == pytest.approx((parts[0] + parts[2]) / 2)
    assert np.isnan(label_by_label("average_precision", scores, targets)[1])


def test_kept_labels_only():
    scores, targets, _ = cohort("multilabel", seed=2)
    parts = label_by_label("auroc", scores, targets)
    assert score("auroc", scores, targets, "multilabel", keep=np.array([True, False, False])) == parts[0]


def test_unlabelled_images_count_nowhere():
    scores, targets, _ = cohort("multiclass", seed=4)
    some = targets.copy()
    some[10:20] = np.nan
    rest = np.delete(np.arange(len(scores)), np.arange(10, 20))
    for metric in METRICS:
        assert score(metric, scores, some, "multiclass") == score(metric, scores[rest], targets[rest], "multiclass")


def test_one_class_only_is_nan():
    assert np.isnan(score("auroc", np.full((4, 2), 0.5), np.ones(4), "binary"))


def test_errors_say_what_fits():
    with pytest.raises(SettingsError, match="auroc"):
        score("auroc2", np.ones((3, 2)), np.ones(3), "binary")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="K = 2"):
        score("auroc", np.ones((3, 1)), np.ones(3), "binary")
    with pytest.raises(DataError, match="finite"):
        score("auroc", np.full((3, 2), np.nan), np.ones(3), "binary")


def test_ordered_classes_far_apart_cost_more():
    scores = np.eye(4)[[0, 1, 2, 3, 0, 3]]
    near, far = np.array([0, 1, 2, 3, 1, 2.0]), np.array([0, 1, 2, 3, 3, 0.0])
    assert score("quadratic_kappa", scores, near, "multiclass") > score("quadratic_kappa", scores, far, "multiclass")


def test_calibration_error_of_one_sure_and_half_wrong_model():
    scores, targets = np.tile([[0.1, 0.9]], (40, 1)), np.tile([0.0, 1.0], 20)
    assert score("calibration_error", scores, targets, "binary") == pytest.approx(0.4)
    assert score("brier", scores, targets, "binary") == pytest.approx((0.81 + 0.01) / 2)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_thresholds_reach_is_as_scikit_learn_counts_it(kind, seed):
    scores, targets, weights = cohort(kind, seed)
    columns = [1] if kind == "binary" else range(scores.shape[1])
    thresholds = np.random.default_rng(seed).choice(scores.ravel(), len(columns))
    found = operating(scores, targets, kind, thresholds, weights=weights)
    for column, threshold, (sensitivity, specificity) in zip(columns, thresholds, found, strict=True):
        known = np.isfinite(targets[:, column]) if kind == "multilabel" else np.ones(len(targets), bool)
        truth = targets[known, column] if kind == "multilabel" else targets == column
        called = scores[known, column] >= threshold
        for value, side in ((sensitivity, 1), (specificity, 0)):
            expected = sk.recall_score(truth, called, pos_label=side, sample_weight=weights[known])
            assert value.value == pytest.approx(expected, abs=1e-12)


def test_pulls_of_sensitivity_and_specificity_are_derivatives():
    scores, targets, weights = cohort("multilabel", seed=6)
    thresholds, step = np.array([0.4, 0.5, 0.6]), 1e-6
    found = operating(scores, targets, "multilabel", thresholds, weights=weights)
    for image in range(0, len(scores), 11):
        more, less = weights.copy(), weights.copy()
        more[image], less[image] = weights[image] * np.exp(step), weights[image] * np.exp(-step)
        above, below = (operating(scores, targets, "multilabel", thresholds, weights=w) for w in (more, less))
        for one, high, low in zip(found, above, below, strict=True):
            for part, up, down in zip(one, high, low, strict=True):
                assert part.pulls[image] == pytest.approx((up.value - down.value) / (2 * step), abs=1e-8)


def test_a_class_without_a_threshold_has_no_sensitivity():
    scores, targets, _ = cohort("multiclass", seed=1)
    missing, there, _ = operating(scores, targets, "multiclass", np.array([np.nan, 0.3, 0.3]))
    assert np.isnan([one.value for one in missing]).all()
    assert np.isfinite([one.value for one in there]).all()
    with pytest.raises(DataError, match="2 thresholds do not fit 3 classes"):
        operating(scores, targets, "multiclass", np.array([0.1, 0.2]))


def test_log_loss_of_a_chance_of_nothing_is_large_and_finite():
    assert score("log_loss", np.array([[1.0, 0.0]]), np.array([1.0]), "binary") == pytest.approx(36.04, abs=0.01)
