"""One way to score what a study's cells hold, whether they hold chances or scores of outlines."""

from __future__ import annotations

import numpy as np
import pytest

from medprior.errors import SettingsError
from medprior.evaluation import metrics, patientmeans
from medprior.evaluation.calibration import Calibration, scaled
from medprior.evaluation.segmentation import Scores
from medprior.evaluation.yardstick import (
    BY_PATIENT,
    OPERATING,
    SCALED,
    Chances,
    Outlines,
    packed,
    unpacked,
    yardstick_of,
)

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
    value = yardstick.estimate("dice", scores, targets, patients, np.ones(2, bool)).value
    assert value == pytest.approx(np.mean(by_class), abs=1e-12)
    first = yardstick.estimate("dice", scores, targets, patients, np.array([True, False])).value
    assert first == pytest.approx(by_class[0], abs=1e-12)


def test_outlines_are_moved_by_whole_patients() -> None:
    found, patients = volumes(30), np.repeat(np.arange(15), 2)
    scores, targets = packed(found)
    yardstick, every = Outlines(2), np.ones(2, bool)
    pulls = yardstick.estimate("surface_dice", scores, targets, patients, every).pulls
    moved = yardstick.strata(patients, targets).spread(patients, pulls)
    _, pooled = patientmeans.by_patient(found, patients)
    alone = patientmeans.strata(pooled).spread(np.arange(15), patientmeans.estimate(pooled.surface_dice).pulls)
    np.testing.assert_allclose(moved, alone, atol=1e-12)
    assert moved.shape == (15,) and moved.std() > 0


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
    value = yardstick.estimate("auroc", chances, targets, np.arange(40), np.ones(3, bool)).value
    assert value == metrics.score("auroc", chances, targets, "multiclass")


def test_an_unknown_metric_is_answered_with_those_there_are() -> None:
    scores, targets = packed(volumes(3))
    with pytest.raises(SettingsError, match="dice"):
        Outlines(2).estimate("dise", scores, targets, np.arange(3), np.ones(2, bool))


def test_with_every_patient_weighing_the_same_images_do_not_count() -> None:
    chances, targets = RNG.dirichlet([1, 1], 30), np.arange(30) % 2.0
    patients, yardstick = np.arange(30), yardstick_of("binary", 2)
    often = np.repeat(np.arange(30), RNG.integers(1, 5, 30))
    every = np.ones(2, bool)
    once = yardstick.estimate("auroc", chances, targets, patients, every)
    many = yardstick.estimate(BY_PATIENT, chances[often], targets[often], patients[often], every)
    assert many.value == pytest.approx(once.value)
    assert many.value != yardstick.estimate("auroc", chances[often], targets[often], patients[often], every).value
    np.testing.assert_allclose(np.bincount(often, many.pulls), once.pulls, atol=1e-12)
    assert not yardstick.can(BY_PATIENT, patients, [])
    assert yardstick.can(BY_PATIENT, patients[often], [])


def test_scaled_metrics_are_those_of_scaled_chances() -> None:
    chances, targets = RNG.dirichlet([1, 1, 1], 40), RNG.integers(0, 3, 40).astype(float)
    yardstick, every, held = yardstick_of("multiclass", 3), np.ones(3, bool), Calibration(1.7)
    for metric, plain in SCALED.items():
        found = yardstick.estimate(metric, chances, targets, np.arange(40), every, held).value
        assert found == metrics.score(plain, scaled(chances, "multiclass", 1.7), targets, "multiclass")  # type: ignore[arg-type]
        assert np.isnan(yardstick.estimate(metric, chances, targets, np.arange(40), every).value)
        assert not yardstick.can(metric, np.arange(40), [held, Calibration()])


def test_operating_metrics_are_what_the_thresholds_reach_on_labels_that_count() -> None:
    chances, targets = RNG.uniform(size=(60, 3)), RNG.integers(0, 2, (60, 3)).astype(float)
    held = Calibration(1.0, [[0.7, 0.3], [0.6, None], [None, None]])
    yardstick, keep = yardstick_of("multilabel", 3), np.array([True, True, False])

    def found(metric: str) -> float:
        assert yardstick.can(metric, np.arange(60), [held])
        return yardstick.estimate(metric, chances, targets, np.arange(60), keep, held).value

    called = chances >= [0.7, 0.6, 2]
    rates = [[(called[:, k] == side)[targets[:, k] == side].mean() for k in range(2)] for side in (1, 0)]
    assert found("sensitivity_at_specificity_90") == pytest.approx(np.mean(rates[0]))
    assert found("specificity_at_specificity_90") == pytest.approx(np.mean(rates[1]))
    positive = targets[:, 0] == 1
    assert found("sensitivity_at_sensitivity_90") == pytest.approx((chances[positive, 0] >= 0.3).mean())
    assert found("specificity_at_sensitivity_90") == pytest.approx((chances[~positive, 0] < 0.3).mean())
    for metric in OPERATING:
        assert not yardstick.can(metric, np.arange(60), [Calibration()])
