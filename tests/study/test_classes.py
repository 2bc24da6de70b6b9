"""A study seen through one class gives scikit-learn's one-versus-rest scores, with unknown entries left out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medprior.study.classes import class_scores
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
