"""Metrics against scikit-learn, with ties, weights and unknown labels."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medprior.errors import DataError, SettingsError
from medprior.evaluation.metrics import METRICS, per_class, replicates, score


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
    return sk.f1_score(targets, decided, average="macro", sample_weight=weights)


def label(metric: str, scores, targets, weights) -> float:
    known = np.isfinite(targets)
    scores, targets, weights = scores[known], targets[known], weights[known]
    named = {"auroc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
    if metric in named:
        return named[metric](targets, scores, sample_weight=weights)
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


@pytest.mark.parametrize("metric", METRICS)
def test_replicates_are_columns_of_weights(metric):
    scores, targets, _ = cohort("multilabel", seed=5)
    weights = np.random.default_rng(0).integers(0, 4, (len(scores), 30)).astype(np.float32)
    loop = [score(metric, scores, targets, "multilabel", weights=weights[:, r]) for r in range(30)]
    assert np.allclose(replicates(metric, scores, targets, "multilabel", weights), loop, atol=1e-5)


def test_label_with_one_class_is_left_out():
    scores, targets, _ = cohort("multilabel", seed=1)
    targets[:, 1] = 0
    parts = per_class("auroc", scores, targets, "multilabel")
    assert np.isnan(parts[1])
    assert score("auroc", scores, targets, "multilabel") == pytest.approx((parts[0] + parts[2]) / 2)
    assert np.isnan(per_class("average_precision", scores, targets, "multilabel")[1])


def test_kept_labels_only():
    scores, targets, _ = cohort("multilabel", seed=2)
    parts = per_class("auroc", scores, targets, "multilabel")
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


def test_thousand_replicates_of_ten_thousand_images_stay_fast():
    rng = np.random.default_rng(0)
    scores, targets = rng.uniform(size=(10_000, 1)), (rng.uniform(size=(10_000, 1)) < 0.1).astype(float)
    weights = rng.integers(0, 3, (10_000, 1000)).astype(np.float32)
    start = time.perf_counter()
    replicates("auroc", scores, targets, "multilabel", weights)
    assert time.perf_counter() - start < 20
