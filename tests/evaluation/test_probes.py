"""Linear probes against scikit-learn, on few images, odd features and unknown labels; temperature."""

import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medprior.errors import LabelError
from medprior.evaluation.metrics import score
from medprior.evaluation.probes import STRENGTHS, fit_temperature, linear_probe


def features(count: int, width: int, kind: str, classes: int, seed: int = 0, noise: float = 1.0):
    """Correlated features, and labels from a few of their directions; two images per patient."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((count, 8))
    x = hidden @ rng.standard_normal((8, width)) + rng.standard_normal((count, width))
    z = 1.5 * hidden[:, :classes] + noise * rng.standard_normal((count, min(classes, 8)))
    y = (z > 0.5).astype(float) if kind == "multilabel" else z.argmax(1).astype(float)
    return (x + 5).astype(np.float32), y, np.array([f"p{i // 2}" for i in range(count)])


@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 4)])
@pytest.mark.parametrize("width", [12, 300])
def test_solution_is_scikit_learns_at_the_chosen_strength(kind, classes, width):
    x, y, groups = features(120, width, kind, classes)
    probe = linear_probe(x, y, groups, kind, classes)
    z = (x - x.mean(0, dtype=float)) / x.std(0, dtype=float) / np.sqrt(width)
    c = 1 / (probe.strength * len(y))
    oracle = LogisticRegression(C=c, class_weight="balanced", max_iter=10_000, tol=1e-8)
    if kind == "binary":
        oracle.set_params(C=2 * c)  # two mirrored columns share the penalty that scikit-learn puts on one
    assert np.allclose(probe.predict_proba(x), oracle.fit(z, y).predict_proba(z), atol=0.02)


@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 3), ("multilabel", 3)])
def test_learns_what_can_be_learnt(kind, classes):
    x, y, groups = features(400, 64, kind, classes)
    probe = linear_probe(x[:200], y[:200], groups[:200], kind, classes)
    assert score("auroc", probe.predict_proba(x[200:]), y[200:], kind) > 0.85
    assert score("auroc", probe.out_of_fold, y[:200], kind) > 0.8
    assert probe.weight.shape == (classes, 64)
    assert probe.strength == STRENGTHS[int(np.argmin(probe.cv_scores))]


def test_out_of_fold_predictions_of_noise_know_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 500)), rng.integers(0, 2, 200).astype(float)
    probe = linear_probe(x, y, np.arange(200).astype(str), "binary", 2)
    assert abs(score("auroc", probe.out_of_fold, y, "binary") - 0.5) < 0.12


def test_patients_never_cross_folds():
    """Each patient has its own fingerprint and label: only a leak could tell them from noise."""
    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(40), 5)
    x = np.repeat(rng.standard_normal((40, 300)), 5, axis=0)
    y = (who % 2).astype(float)
    probe = linear_probe(x, y, who.astype(str), "binary", 2)
    assert score("auroc", probe.out_of_fold, y, "binary") < 0.75


def test_eight_images_and_constant_features():
    x, y, _ = features(8, 50, "binary", 2, seed=3)
    y[:4], y[4:] = 0, 1
    x[:, ::2] = 7
    probe = linear_probe(x, y, np.arange(8).astype(str), "binary", 2)
    assert np.isfinite(probe.weight).all()
    assert np.all(probe.weight[:, ::2] == 0)
    assert np.allclose(probe.predict_proba(x).sum(1), 1)


def test_one_patient_per_class_needs_no_folds():
    x, _, _ = features(6, 10, "binary", 2)
    probe = linear_probe(x, np.array([0.0, 0, 0, 1, 1, 1]), np.array(["a"] * 3 + ["b"] * 3), "binary", 2)
    assert len(probe.cv_scores) == 0
    assert np.isnan(probe.out_of_fold).all()


def test_label_of_one_class_predicts_its_prior():
    x, y, groups = features(40, 20, "multilabel", 3)
    y[:, 1] = 0
    y[:10, 2] = np.nan
    chances = linear_probe(x, y, groups, "multilabel", 3).predict_proba(x)
    assert np.allclose(chances[:, 1], 1 / 42)
    assert chances[:, 0].std() > 0.05
    assert np.isfinite(chances).all()


def test_absent_class_gets_little():
    x, y, groups = features(60, 20, "multiclass", 2)
    chances = linear_probe(x, y, groups, "multiclass", 3).predict_proba(x)
    assert chances[:, 2].max() < 0.05


def test_unlabelled_rows_are_ignored():
    x, y, groups = features(80, 20, "binary", 2)
    some = np.concatenate([y, np.full(20, np.nan)])
    more = np.concatenate([x, 100 * np.ones((20, 20), np.float32)])
    probe = linear_probe(more, some, np.concatenate([groups, np.array(["q"] * 20)]), "binary", 2)
    assert np.allclose(probe.weight, linear_probe(x, y, groups, "binary", 2).weight)
    assert np.isnan(probe.out_of_fold[80:]).all()
    with pytest.raises(LabelError, match="labelled"):
        linear_probe(x, np.full(80, np.nan), groups, "binary", 2)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_temperature_undoes_a_scaling(kind):
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((20_000, 3 if kind != "binary" else 2))
    if kind == "multilabel":
        y = (rng.uniform(size=logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
        y[::3, 0] = np.nan
    else:
        y = (logits + rng.gumbel(size=logits.shape)).argmax(1).astype(float)
    assert fit_temperature(3 * logits, y, kind) == pytest.approx(3, rel=0.05)
    assert fit_temperature(logits, np.full_like(y, np.nan), kind) == 1


@pytest.mark.slow
def test_large_probe_takes_seconds():
    x, y, groups = features(3000, 1024, "multilabel", 8)
    start = time.process_time()
    linear_probe(x, y, groups, "multilabel", 8)
    assert time.process_time() - start < 4
