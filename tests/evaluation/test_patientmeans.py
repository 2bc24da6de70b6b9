"""Means over patients: which come first, what is left out, and how often the interval holds the truth."""

import numpy as np
import pytest

from medprior.evaluation.patientmeans import by_patient, estimate, mean, patient_interval, strata
from medprior.evaluation.segmentation import Scores

NAN = np.nan


def scores(dice: np.ndarray, hd95: np.ndarray | None = None) -> Scores:
    return Scores(dice, dice if hd95 is None else hd95, dice, np.isfinite(dice))


def test_volumes_of_a_patient_are_one_value() -> None:
    volumes = [scores(np.array(row)) for row in ([0.2, NAN], [0.8, 0.4], [0.6, NAN])]
    names, found = by_patient(volumes, np.array(["b", "a", "b"]))
    assert names.tolist() == ["a", "b"]
    np.testing.assert_allclose(found.dice, [[0.8, 0.4], [0.4, NAN]])
    assert found.present.tolist() == [[True, True], [True, False]]


def test_a_rare_class_counts_as_much_as_any() -> None:
    values = np.array([[1.0, NAN], [1.0, NAN], [1.0, 0.0], [1.0, NAN]])
    assert mean(values) == 0.5
    assert np.isnan(mean(np.full((3, 2), NAN)))


def test_patients_pull_a_mean_as_far_as_they_lie_from_it() -> None:
    values = np.array([[1.0, NAN], [0.5, NAN], [0.0, 0.2], [0.5, 0.6]])
    np.testing.assert_allclose(estimate(values).pulls, [0.0625, 0, -0.0625 - 0.05, 0.05])


def test_strata_depend_on_the_truth_alone() -> None:
    present = np.random.default_rng(1).uniform(size=(30, 2)) < 0.8
    one, other = (Scores(*[np.full((30, 2), value)] * 3, present) for value in (0.1, 0.9))
    np.testing.assert_array_equal(strata(one).stratum, strata(other).stratum)


def test_too_few_patients_give_no_interval() -> None:
    for metric in ("dice", "hd95", "surface_dice"):
        found = patient_interval(scores(np.random.default_rng(2).uniform(size=(9, 2))), metric)
        assert found.low is None
        assert "9 patients" in found.reason


def test_one_class_is_scored_by_itself() -> None:
    values = np.random.default_rng(3).uniform(0.5, 1, size=(30, 2))
    found = patient_interval(scores(values), "dice", label=2)
    assert found.value == pytest.approx(values[:, 1].mean())
    assert found.low < found.value < found.high


@pytest.mark.parametrize("metric", ["dice", "hd95"])
@pytest.mark.parametrize("patients", [12, 40])
def test_the_interval_holds_the_true_mean_about_as_often_as_it_says(metric: str, patients: int) -> None:
    """Skewed as Dice and distances are: a beta and a log-normal distribution, 200 test sets."""
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        dice = rng.beta(8, 2, (patients, 1))
        far = rng.lognormal(1, 0.7, (patients, 1))
        found = patient_interval(scores(dice, far), metric)
        truth = 0.8 if metric == "dice" else np.exp(1 + 0.7**2 / 2)
        held += found.low <= truth <= found.high
    assert held / 200 >= 0.88
