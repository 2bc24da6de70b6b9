"""Intervals: coverage by simulation, pairing, few seeds, few patients."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from medprior.evaluation.intervals import difference, holm, interval, total_draws
from medprior.evaluation.luck import Sample, Spread, lent, pooled, seed_spread
from medprior.evaluation.metrics import replicates, score
from medprior.evaluation.resampling import draw_patients, first_rows, smallest_class

NORMAL = NormalDist()


def names(count: int):
    return np.array([f"p{i:05d}" for i in range(count)])


def simulate(rng, auroc: float, positives: int, negatives: int, seeds: int, spread: float = 0.0, arms: int = 1):
    """Samples of `arms` equally good arms on one cohort: patients share their difficulty, seeds move the effect."""
    truth = np.r_[np.ones(positives), np.zeros(negatives)]
    who = names(len(truth))
    weights = draw_patients(who, truth, "binary", 2, replicates=200, seed=int(rng.integers(2**31))).weights(who)
    hard = rng.standard_normal(len(truth))
    return [one_arm(rng, auroc, truth, weights, hard, seeds, spread) for _ in range(arms)]


def one_arm(rng, auroc, truth, weights, hard, seeds, spread):
    values, draws = [], []
    for _ in range(seeds):
        shift = np.sqrt(2) * NORMAL.inv_cdf(auroc) + spread * rng.standard_normal()
        logit = shift * truth + np.sqrt(0.9) * hard + np.sqrt(0.1) * rng.standard_normal(len(truth))
        positive = 1 / (1 + np.exp(-logit))
        scores = np.stack([1 - positive, positive], axis=1)
        values.append(score("auroc", scores, truth, "binary"))
        draws.append(replicates("auroc", scores, truth, "binary", weights))
    return Sample(np.array(values), np.stack(draws), np.arange(seeds), np.full(seeds, -1))


@pytest.mark.parametrize(
    ("auroc", "positives", "negatives", "spread"), [(0.7, 30, 70, 0.25), (0.85, 15, 60, 0.0), (0.95, 40, 40, 0.1)]
)
def test_nominal_95_percent_cover_about_that(auroc, positives, negatives, spread):
    rng = np.random.default_rng(0)
    shifts = np.sqrt(2) * NORMAL.inv_cdf(auroc) + spread * np.random.default_rng(1).standard_normal(100_000)
    truth = stats.norm.cdf(shifts / np.sqrt(2)).mean()
    found = [interval(simulate(rng, auroc, positives, negatives, 3, spread)[0], 15) for _ in range(200)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.91 <= covered <= 0.99


def test_equal_arms_are_rarely_called_different():
    rng = np.random.default_rng(2)
    p = [difference(*simulate(rng, 0.8, 30, 70, 3, 0.25, arms=2), 30).p for _ in range(200)]
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.085


def test_bootstrap_error_is_that_of_the_mean():
    """Accuracy over patients is a mean: its bootstrap variance must be the unbiased one, s^2 / n."""
    rng = np.random.default_rng(3)
    truth = np.zeros(12)
    right = rng.uniform(size=12) < 0.6
    scores = np.stack([right, ~right], axis=1).astype(float)
    drawn = draw_patients(names(12), truth, "binary", 2, replicates=40_000, seed=0)
    again = replicates("accuracy", scores, truth, "binary", drawn.weights(names(12)))
    assert again.var() == pytest.approx(right.var(ddof=1) / 12, rel=0.03)
    assert again.mean() == pytest.approx(right.mean(), abs=0.01)


def test_seed_part_is_the_t_interval_of_the_mean():
    values = np.array([0.70, 0.74, 0.78, 0.72])
    sample = Sample(values, np.tile(values[:, None], (1, 50)), np.arange(4), np.full(4, -1))
    zero = Sample(np.zeros(4), np.zeros((4, 50)), np.arange(4), np.full(4, -1))
    found = difference(sample, zero, 50)
    expected = stats.ttest_1samp(values, 0)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.p == pytest.approx(expected.pvalue)


def test_total_draws_of_seeds_follow_students_t():
    values = np.array([0.70, 0.74, 0.78])
    sample = Sample(values, np.tile(values[:, None], (1, 40_000)), np.arange(3), np.full(3, -1))
    moved = total_draws(sample, seed=0, arm=0)
    scaled = (moved - values.mean()) / (values.std(ddof=1) / np.sqrt(3))
    assert stats.kstest(scaled, stats.t(2).cdf).statistic < 0.01


def test_seeds_move_curves_as_a_whole():
    low, high = np.array([0.6, 0.7, 0.8]), np.array([0.7, 0.8, 0.9])
    flat = np.zeros((1, 500))
    moved = [total_draws(Sample(v, v[:, None] + flat, np.arange(3), np.zeros(3)), seed=1, arm=0) for v in (low, high)]
    assert np.allclose(moved[1] - moved[0], 0.1)


def test_pretraining_runs_count_apart_from_seeds():
    """Ten seeds on two runs that disagree are two observations, not ten."""
    values = np.r_[np.full(5, 0.7), np.full(5, 0.8)] + np.tile(np.linspace(-0.01, 0.01, 5), 2)
    still = np.tile(values[:, None], (1, 50))
    ten = interval(Sample(values, still, np.arange(10), np.full(10, 0)), 50)
    two = interval(Sample(values, still, np.arange(10), np.repeat([0, 1], 5)), 50)
    assert two.high - two.low > 4 * (ten.high - ten.low)


def test_differences_are_paired_by_patient_and_seed():
    ours, theirs = simulate(np.random.default_rng(4), 0.8, 40, 40, 5, 0.2, arms=2)
    paired = difference(ours, theirs, 40)
    alone = [one.high - one.low for one in (interval(ours, 40), interval(theirs, 40))]
    assert paired.high - paired.low < 0.7 * np.hypot(*alone)
    turned = np.random.default_rng(0).permutation(5)
    order = Sample(theirs.values[turned], theirs.draws[turned], theirs.seeds[turned], theirs.runs)
    assert difference(ours, order, 40).low == pytest.approx(paired.low)


def test_too_few_patients_have_no_interval():
    sample = simulate(np.random.default_rng(5), 0.8, 9, 30, 3)[0]
    found = interval(sample, 9)
    assert (found.low, found.high) == (None, None)
    assert "only 9 patients" in found.reason
    assert np.isnan(difference(sample, sample, 9).p)


def test_perfect_score_keeps_a_lower_bound():
    ones = Sample(np.ones(3), np.ones((3, 50)), np.arange(3), np.full(3, -1))
    found = interval(ones, 20)
    assert found.high == 1
    assert found.low == pytest.approx(stats.beta.ppf(0.025, 20, 1))  # Clopper-Pearson for 20 of 20


def test_no_interval_where_nothing_varies():
    ones = Sample(np.ones(3), np.ones((3, 200)), np.arange(3), np.full(3, -1))
    some = simulate(np.random.default_rng(6), 0.8, 40, 40, 3, 0.2)[0]
    shifted = Sample(some.values + 0.01, some.draws + 0.01, some.seeds, some.runs)
    for pair, why in (((ones, ones), "both are perfect"), ((shifted, some), "whichever test patients")):
        found = difference(*pair, 40)
        assert (found.low, found.high) == (None, None)
        assert why in found.reason
        assert np.isnan(found.p)
    assert difference(ones, some, 40).low is not None


def test_a_difference_stays_within_its_range():
    values = np.array([0.1, 0.9])
    wide = Sample(values, np.tile(values[:, None], (1, 50)), np.arange(2), np.full(2, -1))
    zero = Sample(np.zeros(2), np.zeros((2, 50)), np.arange(2), np.full(2, -1))
    found = difference(wide, zero, 50)
    assert (found.low, found.high) == (-1, 1)


@pytest.mark.parametrize("seeds", [2, 3])
def test_borrowed_spread_covers_arms_that_differ_twofold(seeds):
    """The noisier half of six arms has twice the seed variance of the other half; patients add nothing here."""
    rng = np.random.default_rng(seeds)
    deviation = 0.02 * np.sqrt([1, 1, 1, 2, 2, 2])
    covered, wide = [], []
    for _ in range(400):
        values = 0.8 + deviation[:, None] * rng.standard_normal((6, seeds))
        arms = [Sample(v, np.tile(v[:, None], (1, 2)), np.arange(seeds), np.full(seeds, -1)) for v in values]
        found = interval(arms[-1], 50, others=pooled([seed_spread(arm) for arm in arms[:-1]]))
        covered.append(found.low <= 0.8 <= found.high)
        wide.append(found.high - found.low)
    assert np.mean(covered) >= 0.92
    assert np.mean(wide) < 6 * 2 * deviation[-1] / np.sqrt(seeds) / 2


def test_spreads_add_their_degrees_of_freedom():
    values = np.array([[0.7, 0.8], [0.6, 0.8]])
    arms = [Sample(v, np.tile(v[:, None], (1, 5)), np.arange(2), np.full(2, -1)) for v in values]
    together = pooled([seed_spread(arm) for arm in arms])
    assert together.freedom == 2
    assert together.observed == pytest.approx((0.005 + 0.02) / 2)


def test_the_noisier_others_lend_and_a_calm_rest_of_the_study_little():
    calm, noisy = Spread(0.01, 0.0, 6), Spread(0.04, 0.0, 3)
    assert lent(noisy, calm) == lent(calm, noisy) == noisy
    assert lent(Spread(), calm).freedom == 1


def test_holm_against_a_worked_example():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(holm(np.array([0.01, np.nan]))[1])


def test_draws_keep_patients_whole_and_classes_full():
    patients = np.repeat(names(40), 3)
    targets = np.repeat(np.r_[np.ones(10), np.zeros(30)], 3)
    drawn = draw_patients(patients, targets, "binary", 2, replicates=100, seed=0)
    weights = drawn.weights(patients)
    assert np.all(weights[0::3] == weights[1::3])
    assert np.allclose(weights[targets == 1].sum(0), 30, rtol=1e-5)
    assert np.allclose(weights[targets == 0].sum(0), 90, rtol=1e-5)


def test_first_rows_tell_patients_apart_without_names():
    assert first_rows(np.array(["b", "a", "b", "c", "a"])).tolist() == [0, 1, 0, 3, 1]


def test_same_seed_same_draws_whatever_the_order_of_images():
    targets = (np.arange(30) % 3 == 0).astype(float)
    order = np.random.default_rng(0).permutation(30)
    first = draw_patients(names(30), targets, "binary", 2, replicates=20, seed=7).weights(names(30))
    second = draw_patients(names(30)[order], targets[order], "binary", 2, replicates=20, seed=7).weights(names(30))
    assert np.array_equal(first, second)


def test_smallest_class_counts_patients_not_images():
    patients = np.array(["a", "a", "b", "c", "d"])
    assert smallest_class(patients, np.array([1.0, 1, 1, 0, 0]), "binary", 2).tolist() == [2, 2]
    several = np.array([[1, np.nan], [0, 1], [0, np.nan], [0, 0], [np.nan, 0]])
    assert smallest_class(patients, several, "multilabel", 2).tolist() == [1, 1]
