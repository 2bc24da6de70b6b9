"""Learning curves read backwards on constructed curves."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from medprior.evaluation.curves import enclosed, needed_budget, rising

BUDGETS = np.array([10, 40, 160, 640])


def needed(curve, wanted):
    fewest, most = needed_budget(BUDGETS, np.array([curve]), np.array([wanted]))
    return fewest[0], most[0]


def test_isotonic_fit_is_scikit_learns():
    scores = np.random.default_rng(0).uniform(size=(200, 5))
    expected = [IsotonicRegression().fit_transform(np.arange(5), row) for row in scores]
    assert np.allclose(rising(scores), expected, atol=1e-12)


def test_interpolates_in_log_budget():
    assert needed([0.6, 0.7, 0.8, 0.9], 0.75) == pytest.approx((80, 80))
    assert needed([0.6, 0.7, 0.8, 0.9], 0.7) == (40, 40)


def test_steep_step_costs_hardly_more_than_where_it_starts():
    assert needed([0.5, 0.5001, 0.9, 0.9001], 0.51)[0] == pytest.approx(40 * 4 ** (0.0099 / 0.3999))


def test_flat_stretch_is_a_range():
    assert needed([0.6, 0.7, 0.7, 0.9], 0.7) == (40, 160)
    assert needed([0.7, 0.7, 0.7, 0.7], 0.7) == (10, 640)


def test_outside_the_measured_scores_is_open():
    assert needed([0.6, 0.7, 0.8, 0.9], 0.95) == (640, np.inf)
    assert needed([0.6, 0.7, 0.8, 0.9], 0.5) == (0, 10)


def test_ends_of_the_curve_are_measured():
    assert needed([0.6, 0.7, 0.8, 0.9], 0.9) == (640, 640)
    assert needed([0.6, 0.7, 0.8, 0.9], 0.6) == (10, 10)


def test_single_budget_only_bounds():
    assert [x[0] for x in needed_budget(np.array([20]), np.array([[0.7]]), np.array([0.8]))] == [20, np.inf]
    assert [x[0] for x in needed_budget(np.array([20]), np.array([[0.7]]), np.array([0.6]))] == [0, 20]


def test_curve_read_at_its_own_scores_returns_the_budget():
    curve = rising(np.random.default_rng(1).uniform(size=(50, 4)))
    for column, budget in enumerate(BUDGETS):
        fewest, most = needed_budget(BUDGETS, curve, curve[:, column])
        assert np.all(fewest <= budget)
        assert np.all(most >= budget)


LABELS = np.array([10.0, 20, 40, 80])


@pytest.mark.parametrize(
    ("lead", "reach", "fewest", "most"),
    [
        ((0.3, 0.1, -0.1, -0.3), 0.05, 20 * 2**0.25, 20 * 2**0.75),  # it crosses zero halfway between 20 and 40
        ((0.3, 0.2, 0.1, 0.05), 0.01, 80, np.inf),  # certainly above the curve
        ((-0.1, -0.2, -0.3, -0.4), 0.05, 0, 10),  # certainly below it
        ((0.0, 0.0, 0.0, 0.0), 0.05, 0, np.inf),  # flat: any number of labels will do
        ((0.1, 0.02, -0.02, -0.03), 0.05, 10 * 2 ** (0.05 / 0.08), np.inf),  # the upper end stays open
    ],
)
def test_labels_that_intervals_of_the_lead_leave_possible(lead, reach, fewest, most):
    lead = np.array(lead)
    assert enclosed(LABELS, lead - reach, lead + reach) == pytest.approx((fewest, most))


def test_a_single_budget_says_above_below_or_nothing():
    one = np.array([40.0])
    ends = [enclosed(one, np.array([x - 0.1]), np.array([x + 0.1])) for x in (0.2, 0.0, -0.2)]
    assert ends == [(40, np.inf), (0, np.inf), (0, 40)]
