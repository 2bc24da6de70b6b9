"""Deviation, rank, alignment and uniformity against their formulas; the probe never asks an image's own patient."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from medprior.evaluation.metrics import score
from medprior.evaluation.representation import (
    alignment,
    deviation,
    effective_rank,
    neighbour_scores,
    neighbour_votes,
    uniformity,
)


def cloud(count: int = 40, width: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)) * np.linspace(0.1, 3, width) + 0.5


def unit(rows: np.ndarray) -> np.ndarray:
    return np.array([row / math.sqrt(sum(x * x for x in row)) for row in rows])


def test_deviation_is_that_of_each_dimension_of_unit_vectors() -> None:
    rows = unit(cloud())
    expected = np.mean([math.sqrt(np.mean([(x - column.mean()) ** 2 for x in column])) for column in rows.T])
    assert deviation(cloud()) == pytest.approx(expected, rel=1e-12)
    assert deviation(cloud() * np.linspace(0.1, 9, 40)[:, None]) == pytest.approx(expected, rel=1e-12)


def test_deviation_is_1_over_the_root_of_the_width_where_points_fill_the_sphere() -> None:
    rows = np.random.default_rng(0).standard_normal((4000, 256))
    assert deviation(rows) == pytest.approx(1 / 16, rel=0.01)
    assert deviation(np.ones((9, 256)) * np.arange(1, 10)[:, None]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (9, 9)])
def test_rank_is_the_published_formula(shape: tuple[int, int], shift: float) -> None:
    rows = cloud(*shape) + shift  # far from 0 the differences of images are ten thousandths of what they share
    sizes = np.linalg.svd(rows, compute_uv=False)
    shares = sizes / sizes.sum() + 1e-7
    assert effective_rank(rows) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_rank_counts_equal_directions(rank: int) -> None:
    axes, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((30, rank)))
    turn, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((16, rank)))
    rows = axes @ turn.T
    assert effective_rank(rows) == pytest.approx(rank, rel=1e-4)
    assert effective_rank(1e6 * rows) == pytest.approx(rank, rel=1e-4)
    assert effective_rank(0 * rows) == 1


def test_alignment_and_uniformity_are_the_published_formulas() -> None:
    first, second = unit(cloud(seed=0)), unit(cloud(seed=1))
    squares = [sum((a - b) ** 2) for a, b in zip(first, second, strict=True)]
    assert alignment(cloud(seed=0), cloud(seed=1)) == pytest.approx(np.mean(squares), rel=1e-12)
    assert alignment(cloud(), 3 * cloud()) == pytest.approx(0, abs=1e-12)
    pairs = [math.exp(-2 * sum((a - b) ** 2)) for a, b in combinations(first, 2)]
    assert uniformity(cloud()) == pytest.approx(math.log(np.mean(pairs)), rel=1e-10)


def test_uniformity_of_a_point_and_of_the_sphere() -> None:
    assert uniformity(np.ones((10, 8))) == pytest.approx(0, abs=1e-12)
    # Squared distances of directions in very many dimensions are 2: log exp(-4).
    assert uniformity(np.random.default_rng(0).standard_normal((400, 4000))) == pytest.approx(-4, abs=0.01)
    assert math.isnan(uniformity(np.ones((1, 8))))


def test_votes_are_those_of_the_nearest_of_other_patients() -> None:
    rng = np.random.default_rng(3)
    rows, targets = cloud(50), rng.integers(0, 3, 50).astype(float)
    targets[::7] = np.nan
    patients = np.arange(50) // 3
    votes = neighbour_votes(rows, targets, patients, "multiclass", 3)
    directions, count = unit(rows), math.isqrt(int(np.isfinite(targets).sum()))
    for i in range(50):
        others = [j for j in range(50) if patients[j] != patients[i] and np.isfinite(targets[j])]
        nearest = sorted(others, key=lambda j: -float(directions[i] @ directions[j]))[:count]
        assert votes[i] == pytest.approx([np.mean([targets[j] == c for j in nearest]) for c in range(3)])


def test_an_own_fingerprint_of_every_patient_helps_nobody() -> None:
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(60), 16)
    rows = np.repeat(rng.standard_normal((60, 64)), 16, axis=0) + 0.01 * rng.standard_normal((960, 64))
    targets = np.repeat(rng.permutation(np.arange(60) % 2), 16).astype(float)
    leaked = neighbour_votes(rows, targets, np.arange(960), "binary", 2)
    honest = neighbour_votes(rows, targets, patients, "binary", 2)
    assert score("auroc", leaked, targets, "binary") > 0.95
    assert abs(score("auroc", honest, targets, "binary") - 0.5) < 0.15


def test_what_can_be_told_apart_is() -> None:
    rng = np.random.default_rng(5)
    targets = np.arange(60) % 2.0
    rows = rng.standard_normal((60, 16)) + 4 * targets[:, None] - 2
    auroc, accuracy = neighbour_scores(rows, targets, np.arange(60), "binary", 2)
    assert auroc > 0.99
    assert accuracy > 0.95


def test_labels_are_asked_one_by_one_and_unknown_ones_have_no_vote() -> None:
    rows, patients = cloud(30), np.arange(30)
    targets = np.stack([np.arange(30) % 2.0, np.full(30, np.nan)], axis=1)
    votes = neighbour_votes(rows, targets, patients, "multilabel", 2)
    assert np.isfinite(votes[:, 0]).all()
    assert np.isnan(votes[:, 1]).all()
    one = neighbour_votes(rows, targets[:, 0], patients, "binary", 2)
    assert np.allclose(votes[:, 0], one[:, 1])

    assert neighbour_scores(rows, targets, patients, "multilabel", 2) == pytest.approx(
        (score("auroc", one, targets[:, 0], "binary"), np.mean((one[:, 1] >= 0.5) == targets[:, 0]))
    )


def test_one_patient_alone_has_nobody_to_ask() -> None:
    of_one = cloud(6), np.arange(6) % 2.0, np.zeros(6), "binary", 2
    assert np.isnan(neighbour_votes(*of_one)).all()
    assert np.isnan(neighbour_scores(*of_one)).all()
