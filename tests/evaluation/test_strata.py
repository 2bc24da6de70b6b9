"""How patients move a score: against published formulas, whole patients, strata and folds."""

import numpy as np
import pytest

from medprior.evaluation.measures import Estimate, nothing
from medprior.evaluation.metrics import estimate
from medprior.evaluation.strata import Strata, first_rows, over_folds, smallest_class, strata_of, thin_folds


def variance(scores, truth, patients, kept=slice(None)) -> float:
    """Of an AUROC, as medprior has it."""
    strata = strata_of(patients, truth, "binary", 2)
    chances = np.stack([1 - scores, scores], axis=1)[kept]
    found = estimate("auroc", chances, truth[kept], "binary")
    return float((strata.spread(patients[kept], found.pulls) ** 2).sum())


def wins(scores, truth):
    """Of every positive against every negative: 1, or a half where they tie."""
    apart = scores[truth == 1][:, None] - scores[truth == 0]
    return (apart > 0) + (apart == 0) / 2


def test_a_patient_an_image_is_delongs_variance():
    """DeLong, DeLong & Clarke-Pearson, Biometrics 1988."""
    rng = np.random.default_rng(0)
    truth = (np.arange(60) < 22).astype(float)
    scores = rng.normal(truth).round(1)
    won = wins(scores, truth)
    expected = won.mean(1).var(ddof=1) / 22 + won.mean(0).var(ddof=1) / 38
    assert variance(scores, truth, np.arange(60)) == pytest.approx(expected, rel=1e-12)


def test_patients_of_one_class_each_have_obuchowskis_variance():
    """Obuchowski, Biometrics 1997, written from her formulas: sums over clusters less their expected size."""
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(40), rng.integers(1, 5, 40))
    truth = (patients < 14).astype(float)
    scores = rng.normal(truth + rng.standard_normal(40)[patients])
    won = wins(scores, truth)
    auroc, parts = won.mean(), []
    for share, owner in ((won.mean(1), patients[truth == 1]), (won.mean(0), patients[truth == 0])):
        clusters = np.unique(owner)
        excess = np.array([share[owner == one].sum() - (owner == one).sum() * auroc for one in clusters])
        parts.append(len(clusters) / (len(clusters) - 1) * (excess**2).sum() / len(share) ** 2)
    assert variance(scores, truth, patients) == pytest.approx(sum(parts), rel=1e-12)


def test_patients_with_both_classes_vary_as_drawn_ones_do():
    """Two thousand cohorts of new patients, each with a diseased and a healthy side whose scores go together."""
    rng = np.random.default_rng(2)
    truth, patients = np.tile([1.0, 0.0], 30), np.repeat(np.arange(30), 2)
    found, said = [], []
    for _ in range(2000):
        scores = rng.normal(truth) + np.repeat(rng.standard_normal(30), 2)
        found.append(wins(scores, truth).mean())
        said.append(variance(scores, truth, patients))
    assert np.mean(said) == pytest.approx(np.var(found), rel=0.1)


def test_a_mean_has_the_variance_of_a_mean():
    rng = np.random.default_rng(3)
    right = rng.uniform(size=12) < 0.6
    chances, truth = np.stack([right, ~right], axis=1).astype(float), np.zeros(12)
    found = estimate("accuracy", chances, truth, "binary")
    moved = strata_of(np.arange(12), truth, "binary", 2).spread(np.arange(12), found.pulls)
    assert (moved**2).sum() == pytest.approx(right.var(ddof=1) / 12)


def test_a_fold_is_judged_by_its_own_patients():
    rng = np.random.default_rng(4)
    truth = (np.arange(80) % 3 == 0).astype(float)
    scores, kept = rng.normal(truth), np.arange(80) < 40
    alone = variance(scores[kept], truth[kept], np.arange(40))
    assert variance(scores, truth, np.arange(80), kept) == pytest.approx(alone, rel=1e-12)


def test_over_folds_patients_move_the_mean_of_what_can_be_scored():
    """The variance of the mean of independent folds is their summed variance over their squared number."""
    rng = np.random.default_rng(6)
    truth, patients = (np.arange(90) % 3 == 0).astype(float), np.arange(90)
    scores = rng.normal(truth)
    strata, folds, alone = strata_of(patients, truth, "binary", 2), [], []
    for kept in (patients < 40, (patients >= 40) & (patients < 90)):
        chances = np.stack([1 - scores, scores], axis=1)[kept]
        folds.append((patients[kept], estimate("auroc", chances, truth[kept], "binary")))
        alone.append(variance(scores, truth, patients, kept))
    value, moved = over_folds(strata, [folds[0], (patients[:5], nothing(5)), folds[1]])
    assert value == pytest.approx((folds[0][1].value + folds[1][1].value) / 2, rel=1e-12)
    assert (moved**2).sum() == pytest.approx(sum(alone) / 4, rel=1e-12)
    assert moved.shape == (90,) and moved.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("each", "repeats"), [(2, 1), (2, 2), (2, 4), (5, 2), (8, 3)])
def test_repeats_in_other_company_do_not_make_patients_seem_alike(each: int, repeats: int) -> None:
    """The mean of a variable of variance 1 over 40 patients has the variance 1 / 40, however often it is folded."""
    rng, people = np.random.default_rng(7), np.arange(40)
    strata, said = Strata(people, np.zeros(40, int)), []
    for _ in range(250):
        values, folds = rng.standard_normal(40), []
        for _ in range(repeats):
            for kept in np.split(rng.permutation(40), 40 // each):
                mean = values[kept].mean()
                folds.append((kept, Estimate(mean, (values[kept] - mean) / each)))
        found, moved = over_folds(strata, folds)
        assert found == pytest.approx(values.mean(), abs=1e-12)
        said.append((moved**2).sum())
    assert np.mean(said) == pytest.approx(1 / 40, rel=0.05)


def test_folds_of_single_patients_are_too_thin() -> None:
    assert thin_folds([1, 1, 2, 0], 2) == "folds hold 1.3 patients of the smallest class, too few"
    assert thin_folds([2, 2, 2], 2) == thin_folds([1], 2) == ""
    assert "0.0" in thin_folds([0, 0], 2)


def test_over_folds_of_which_none_can_be_scored_nothing_is_said():
    strata = strata_of(np.arange(6), np.arange(6) % 2.0, "binary", 2)
    value, moved = over_folds(strata, [(np.arange(3), nothing(3))])
    assert np.isnan(value) and not moved.any() and moved.shape == (6,)


def test_images_may_come_in_any_order():
    rng = np.random.default_rng(5)
    truth = np.repeat((np.arange(20) < 8).astype(float), 2)
    scores, patients, order = rng.normal(truth), np.repeat(np.arange(20), 2), rng.permutation(40)
    assert variance(scores[order], truth[order], patients[order]) == pytest.approx(variance(scores, truth, patients))


def test_first_rows_tell_patients_apart_without_names():
    assert first_rows(np.array(["b", "a", "b", "c", "a"])).tolist() == [0, 1, 0, 3, 1]


def test_smallest_class_counts_patients_not_images():
    patients = np.array(["a", "a", "b", "c", "d"])
    assert smallest_class(patients, np.array([1.0, 1, 1, 0, 0]), "binary", 2).tolist() == [2, 2]
    several = np.array([[1, np.nan], [0, 1], [0, np.nan], [0, 0], [np.nan, 0]])
    assert smallest_class(patients, several, "multilabel", 2).tolist() == [1, 1]
