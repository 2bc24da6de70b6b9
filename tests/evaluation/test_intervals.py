"""Intervals: coverage by simulation, pairing, few seeds, few patients."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from medprior.evaluation.intervals import POWER, difference, holm, interval, patients_needed
from medprior.evaluation.luck import Sample, Spread, lent, pooled, seed_spread, together
from medprior.evaluation.metrics import estimate
from medprior.evaluation.strata import strata_of

NORMAL = NormalDist()


def simulate(rng, auroc: float, positives: int, negatives: int, seeds: int, spread: float = 0.0, arms: int = 1):
    """Samples of `arms` equally good arms on one cohort: patients share their difficulty, seeds move the effect."""
    truth = np.r_[np.ones(positives), np.zeros(negatives)]
    hard = rng.standard_normal(len(truth))
    return [one_arm(rng, auroc, truth, hard, seeds, spread) for _ in range(arms)]


def one_arm(rng, auroc, truth, hard, seeds, spread):
    strata = strata_of(np.arange(len(truth)), truth, "binary", 2)
    values, moves = [], []
    for _ in range(seeds):
        shift = np.sqrt(2) * NORMAL.inv_cdf(auroc) + spread * rng.standard_normal()
        logit = shift * truth + np.sqrt(0.9) * hard + np.sqrt(0.1) * rng.standard_normal(len(truth))
        positive = 1 / (1 + np.exp(-logit))
        found = estimate("auroc", np.stack([1 - positive, positive], axis=1), truth, "binary")
        values.append(found.value)
        moves.append(strata.spread(np.arange(len(truth)), found.pulls))
    return Sample(np.array(values), np.stack(moves), np.arange(seeds), np.full(seeds, -1))


def still(values) -> Sample:
    """Scores that no patient moves."""
    values = np.asarray(values, float)
    return Sample(values, np.zeros((len(values), 50)), np.arange(len(values)), np.full(len(values), -1))


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


def test_seed_part_is_the_t_interval_of_the_mean():
    values = np.array([0.70, 0.74, 0.78, 0.72])
    found = difference(still(values), still(np.zeros(4)), 50)
    expected = stats.ttest_1samp(values, 0)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.p == pytest.approx(expected.pvalue)


def test_a_point_between_two_budgets_is_mixed_seed_by_seed():
    near, far = still([0.6, 0.7]), Sample(np.array([0.9, 0.8]), np.ones((2, 50)), np.array([1, 0]), np.full(2, -1))
    found = near.towards(far, 0.25)
    assert found.values == pytest.approx([0.75 * 0.6 + 0.25 * 0.8, 0.75 * 0.7 + 0.25 * 0.9])
    assert found.moves == pytest.approx(np.full((2, 50), 0.25))


def test_luck_of_two_that_have_none_in_common_adds_up():
    found = together(Spread(0.04, 0.01, 6), Spread(0.02, 0.03, 4))
    assert (found.observed, found.by_patients, found.freedom) == (pytest.approx(0.03), 0.0, 4)
    assert together(Spread(), Spread(0.04, 0.01, 6)).freedom == 0


def test_pretraining_runs_count_apart_from_seeds():
    """Ten seeds on two runs that disagree are two observations, not ten."""
    values = np.r_[np.full(5, 0.7), np.full(5, 0.8)] + np.tile(np.linspace(-0.01, 0.01, 5), 2)
    none = np.zeros((10, 50))
    ten = interval(Sample(values, none, np.arange(10), np.full(10, 0)), 50)
    two = interval(Sample(values, none, np.arange(10), np.repeat([0, 1], 5)), 50)
    assert two.high - two.low > 4 * (ten.high - ten.low)


def test_differences_are_paired_by_patient_and_seed():
    ours, theirs = simulate(np.random.default_rng(4), 0.8, 40, 40, 5, 0.2, arms=2)
    paired = difference(ours, theirs, 40)
    alone = [one.high - one.low for one in (interval(ours, 40), interval(theirs, 40))]
    assert paired.high - paired.low < 0.7 * np.hypot(*alone)
    turned = np.random.default_rng(0).permutation(5)
    order = Sample(theirs.values[turned], theirs.moves[turned], theirs.seeds[turned], theirs.runs)
    assert difference(ours, order, 40).low == pytest.approx(paired.low)


def test_patients_needed_is_the_formula_of_power():
    """From single numbers: z quantiles, pulls of 80 patients, and two seeds whose differences lie 0.01 apart."""
    rng = np.random.default_rng(7)
    pulls = rng.standard_normal((2, 80)) * 0.004
    zeros, seeds, runs = np.zeros((2, 80)), np.arange(2), np.full(2, -1)
    ours = Sample(np.array([0.80, 0.81]), np.stack([pulls[0]] * 2), seeds, runs)
    theirs = Sample(np.array([0.78, 0.78]), zeros, seeds, runs)
    z = 1.959963984540054 + 0.8416212335729143
    by_patients, luck = float(np.sum(pulls[0] ** 2)), 0.01**2 / 2 / 2
    for margin in (0.03, 0.05):
        expected = 80 * by_patients / ((margin / z) ** 2 - luck)
        assert patients_needed(ours, theirs, margin) == pytest.approx(expected, rel=1e-12)
    assert patients_needed(ours, theirs, 0.01) == np.inf, "seeds alone vary more"


def test_so_many_patients_show_the_margin_with_the_power_asked_for():
    """A t test of as many normal differences as are said to be needed, drawn without any of this code."""
    rng = np.random.default_rng(8)
    moved = np.full(50, 0.02)  # of each patient 50 * 0.02 = 1.0 deviations
    one = Sample(np.zeros(1), moved[None] * np.resize([1.0, -1.0], 50), np.zeros(1), np.full(1, -1))
    needed = patients_needed(one, still([0.0]), 0.2)
    drawn = rng.normal(0.2, 1.0, (4000, round(needed)))
    told = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
    assert np.mean(told) == pytest.approx(POWER, abs=0.02)


def test_too_few_patients_have_no_interval():
    sample = simulate(np.random.default_rng(5), 0.8, 9, 30, 3)[0]
    found = interval(sample, 9)
    assert (found.low, found.high) == (None, None)
    assert "only 9 patients" in found.reason
    assert np.isnan(difference(sample, sample, 9).p)


def test_perfect_score_keeps_a_lower_bound():
    found = interval(still(np.ones(3)), 20)
    assert found.high == 1
    assert found.low == pytest.approx(stats.beta.ppf(0.025, 20, 1))  # Clopper-Pearson for 20 of 20


def test_no_interval_where_nothing_varies():
    some = simulate(np.random.default_rng(6), 0.8, 40, 40, 3, 0.2)[0]
    ones = Sample(np.ones(3), np.zeros(some.moves.shape), some.seeds, some.runs)
    shifted = Sample(some.values + 0.01, some.moves, some.seeds, some.runs)
    for pair, why in (((ones, ones), "both are perfect"), ((shifted, some), "whichever test patients")):
        found = difference(*pair, 40)
        assert (found.low, found.high) == (None, None)
        assert why in found.reason
        assert np.isnan(found.p)
    assert difference(ones, some, 40).low is not None


def test_a_difference_stays_within_its_range():
    found = difference(still([0.1, 0.9]), still([0.0, 0.0]), 50)
    assert (found.low, found.high) == (-1, 1)


@pytest.mark.parametrize("seeds", [2, 3])
def test_borrowed_spread_covers_arms_that_differ_twofold(seeds):
    """The noisier half of six arms has twice the seed variance of the other half; patients add nothing here."""
    rng = np.random.default_rng(seeds)
    deviation = 0.02 * np.sqrt([1, 1, 1, 2, 2, 2])
    covered, wide = [], []
    for _ in range(400):
        values = 0.8 + deviation[:, None] * rng.standard_normal((6, seeds))
        arms = [still(v) for v in values]
        found = interval(arms[-1], 50, others=pooled([seed_spread(arm) for arm in arms[:-1]]))
        covered.append(found.low <= 0.8 <= found.high)
        wide.append(found.high - found.low)
    assert np.mean(covered) >= 0.92
    assert np.mean(wide) < 6 * 2 * deviation[-1] / np.sqrt(seeds) / 2


def test_spreads_add_their_degrees_of_freedom():
    values = np.array([[0.7, 0.8], [0.6, 0.8]])
    arms = [still(v) for v in values]
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
