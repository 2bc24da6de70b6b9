"""One way to score what a study's cells hold, whether they hold chances or scores of outlines."""

from __future__ import annotations

import numpy as np
import pytest

from medprior.errors import SettingsError
from medprior.evaluation import metrics, patientmeans
from medprior.evaluation.segmentation import Scores
from medprior.evaluation.yardstick import Chances, Outlines, packed, unpacked, yardstick_of

RNG = np.random.default_rng(3)


def volumes(count: int, classes: int = 2) -> list[Scores]:
    """Scores of label maps, class 1 missing from every fourth."""
    found = []
    for i in range(count):
        present = np.array([i % 4 > 0, *[True] * (classes - 1)])
        dice, surface = np.where(present, RNG.random((2, classes)), np.nan)
        found.append(Scores(dice, np.where(present, 5 * RNG.random(classes), np.nan), surface, present))
    return found


def test_scores_are_packed_and_unpacked_unchanged() -> None:
    before = volumes(6)
    for one, again in zip(before, unpacked(*packed(before)), strict=True):
        for name in ("dice", "hd95", "surface_dice", "present"):
            np.testing.assert_array_equal(getattr(one, name), getattr(again, name))


def test_outlines_average_volumes_then_patients_then_classes() -> None:
    found, patients = volumes(8), np.array([0, 0, 1, 1, 2, 3, 4, 5])
    scores, targets = packed(found)
    yardstick = Outlines(2)
    dice = np.stack([one.dice for one in found])
    by_class = []
    for k in range(2):
        means = [np.nanmean(dice[patients == p, k]) for p in range(6) if np.isfinite(dice[patients == p, k]).any()]
        by_class.append(np.mean(means))
    (value,) = yardstick.replicates("dice", scores, targets, patients, None, np.ones(2, bool))
    assert value == pytest.approx(np.mean(by_class), abs=1e-12)
    (first,) = yardstick.replicates("dice", scores, targets, patients, None, np.array([True, False]))
    assert first == pytest.approx(by_class[0], abs=1e-12)


def test_draws_of_outlines_are_those_of_whole_patients() -> None:
    found, patients = volumes(30), np.repeat(np.arange(15), 2)
    scores, targets = packed(found)
    yardstick, every = Outlines(2), np.ones(2, bool)
    drawn = yardstick.draw(patients, targets, replicates=200, seed=1)
    again = yardstick.replicates("surface_dice", scores, targets, patients, drawn, every)
    _, pooled = patientmeans.by_patient(found, patients)
    np.testing.assert_allclose(again, patientmeans.replicates(pooled.surface_dice, drawn.counts), atol=1e-12)
    assert again.shape == (200,) and again.std() > 0


def test_classes_with_too_few_patients_do_not_count_while_others_have_enough() -> None:
    targets = np.zeros((20, 3))
    targets[:, 0], targets[:9, 1], targets[:12, 2] = 1, 1, 1
    yardstick = Outlines(3)
    smallest = yardstick.smallest(np.arange(20), targets)
    assert smallest.tolist() == [20, 9, 12]
    assert yardstick.keep(smallest).tolist() == [True, False, True]
    assert yardstick.keep(np.array([3, 0, 2])).tolist() == [True, False, True]


def test_chances_are_scored_as_metrics_scores_them() -> None:
    chances, targets = RNG.dirichlet([1, 1, 1], 40), RNG.integers(0, 3, 40).astype(float)
    yardstick = yardstick_of("multiclass", 3)
    assert yardstick == Chances("multiclass", 3)
    (value,) = yardstick.replicates("auroc", chances, targets, np.arange(40), None, np.ones(3, bool))
    assert value == metrics.score("auroc", chances, targets, "multiclass")


def test_an_unknown_metric_is_answered_with_those_there_are() -> None:
    scores, targets = packed(volumes(3))
    with pytest.raises(SettingsError, match="dice"):
        Outlines(2).replicates("dise", scores, targets, np.arange(3), None, np.ones(2, bool))
