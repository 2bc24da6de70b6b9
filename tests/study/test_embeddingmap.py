"""The embedding map: clusters stay clusters, patients do not vouch for themselves, and errors are found."""

from __future__ import annotations

import numpy as np
import pytest

from medprior.study.results import CellResult
from medprior.study.verdict.embeddingmap import alike, best_pretrained, flattened, nearest_others, on_the_sphere
from medprior.study.verdict.errorsnearby import wrong_answers


def clouds(each: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1, 2], each)
    return np.eye(16)[label] * 5 + rng.normal(0, 0.3, (3 * each, 16)), label


def cell(scores: list[list[float]], targets: list, rows: list[int]) -> CellResult:
    tested = len(rows)
    return CellResult(
        "mae", "vit", "mae", "probe", 8, 8, 0, 0, 0, np.array(rows), np.array(scores), np.array(targets, float),
        np.arange(tested), 8, tested,
    )  # fmt: skip


def test_clusters_stay_together_and_the_map_is_the_same_each_time() -> None:
    features, label = clouds()
    places = flattened(features, seed=1)
    assert places.min() >= 0 and places.max() <= 1
    near = nearest_others(np.c_[places, np.ones(len(places))], np.arange(len(places)))
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert (label[apart.argmin(axis=1)] == label).all()
    assert near.shape == (60, 5)
    np.testing.assert_array_equal(places, flattened(features, seed=1))


def test_features_that_collapsed_are_one_place() -> None:
    assert (flattened(np.ones((12, 8), np.float32), seed=0) == 0.5).all()


def test_own_images_are_no_neighbours() -> None:
    features, label = clouds(each=4)
    persons = np.arange(12) // 2
    near = nearest_others(on_the_sphere(features), persons)
    assert (persons[near] != persons[:, None]).all()
    assert (label[near[:, :2]] == label[:, None]).all()
    assert (nearest_others(on_the_sphere(features), np.zeros(12, int)) == -1).all()


def test_shares_of_neighbours_alike() -> None:
    near = np.array([[1], [0], [3], [2], [0]])
    assert alike(np.array([0, 0, 1, 1, -1]), near) == (1.0, 0.5)
    assert alike(np.array([0, 1, 0, 1, -1]), near) == (0.0, 0.5)
    assert np.isnan(alike(np.full(5, -1), near)).all()


def test_wrong_classes_the_surest_first() -> None:
    one = cell([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6]], [0, 0, 0], [5, 6, 7])
    other = cell([[0.9, 0.1], [0.1, 0.9], [0.45, 0.55]], [0, 0, 0], [5, 6, 7])
    found = wrong_answers([one, other], ("well", "ill"))
    assert [(w.row, w.truth, w.said) for w in found] == [(6, "well", "ill"), (7, "well", "ill")]
    assert found[0].chance == pytest.approx(0.8)


def test_wrong_labels_are_said_with_what_is_absent_and_unknown_ones_are_never_wrong() -> None:
    one = cell([[0.9, 0.2], [0.9, 0.2], [0.6, 0.01]], [[0, 0], [np.nan, 0], [0, 1]], [1, 2, 3])
    found = wrong_answers([one], ("nodule", "effusion"))
    assert [(w.row, w.label, w.truth, w.said) for w in found] == [
        (3, 1, "effusion", "no effusion"),
        (1, 0, "no nodule", "nodule"),
    ]


def test_the_best_arm_is_that_of_the_largest_budget_and_no_scratch() -> None:
    row = {"arm": "mae", "encoder": "vit", "adaptation": "probe", "budget": 8, "mean": 0.9}
    rows = [row, row | {"arm": "dae", "budget": 40, "mean": 0.7}, row | {"arm": "byol", "budget": 40, "mean": None}]
    rows.append(row | {"arm": "scratch", "adaptation": "scratch-2x", "budget": 40, "mean": 0.95})
    best = best_pretrained({"arms": rows})
    assert best is not None and best.name == "dae"
    assert best_pretrained({"arms": rows[-1:]}) is None
