"""Curves of intensity: monotone, from end to end, the cubics that were drawn, as often and as inverted as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from medprior.views.bezier import KNOTS, bend_intensities, curves
from medprior.views.draws import Key, uniform

ROWS = 400
KEY = Key(0, 0, torch.arange(ROWS), 0)


@pytest.mark.parametrize("inverted", [0.0, 0.5, 1.0])
def test_curves_are_monotone_and_run_from_end_to_end(inverted):
    heights = curves(KEY, inverted)
    assert heights.shape == (ROWS, KNOTS + 1) and heights.min() >= 0 and heights.max() <= 1
    falls = heights[:, 0] > 0.5
    steps = torch.where(falls.unsqueeze(1), -1.0, 1.0) * heights.diff(dim=1)
    assert steps.min() >= 0
    ends = torch.stack([falls.float(), 1 - falls.float()], dim=1)
    torch.testing.assert_close(heights[:, [0, -1]], ends, atol=1e-6, rtol=0)
    assert stats.binomtest(int(falls.sum()), ROWS, inverted).pvalue > 1e-3


def test_greys_keep_their_order_or_turn_it_round():
    greys = torch.rand(2000, generator=torch.Generator().manual_seed(0)).sort().values
    bent = bend_intensities(greys.expand(ROWS, 1, 2000).unsqueeze(-1), KEY)[:, 0, :, 0]
    assert bent.min() >= 0 and bent.max() <= 1
    steps = bent.diff(dim=1)
    # Not a millionth of the wrong sign: rounding between two knots.
    assert torch.minimum(steps.amin(dim=1).neg(), steps.amax(dim=1)).max() < 1e-6


def test_a_curve_is_the_cubic_that_was_drawn():
    key = Key(0, 0, torch.arange(80), 0)
    points = uniform(key, "bend points", (2, 2)).double().numpy()
    greys = torch.linspace(0, 1, 777)
    bent = bend_intensities(greys.expand(80, 1, 777), key, 1.0)[:, 0].double().numpy()
    t = np.linspace(0, 1, 30_001)
    differences = []
    for found, ((x1, x2), (y1, y2)) in zip(bent, points, strict=True):
        x, y = (3 * (1 - t) ** 2 * t * a + 3 * (1 - t) * t**2 * b + t**3 for a, b in ((x1, x2), (y1, y2)))
        assert np.diff(x).min() >= 0
        differences.append(np.abs(found - np.interp(greys, x, y if found[0] < 0.5 else y[::-1])))
    # Where a curve is nearly upright, a chord leaves it a little.
    assert np.max(differences) < 1e-3 and np.quantile(differences, 0.99) < 1e-5


def test_control_points_are_uniform_in_the_unit_square():
    points = uniform(Key(0, 0, torch.arange(5000), 0), "bend points", (2, 2)).flatten(1).numpy()
    assert all(stats.kstest(column, "uniform").pvalue > 0.01 for column in points.T)
    assert np.abs(np.corrcoef(points.T) - np.eye(4)).max() < 0.06


def test_a_sample_is_bent_as_often_as_asked_and_otherwise_the_same_to_the_last_bit():
    pixels = torch.rand(ROWS, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    pixels[:, :, 0] = 1.0
    pixels[:, :, 1] = 0.0
    same = (bend_intensities(pixels, KEY, 0.9) == pixels).flatten(1).all(dim=1)
    assert stats.binomtest(int(same.sum()), ROWS, 0.1).pvalue > 1e-3
    assert torch.equal(bend_intensities(pixels, KEY, 0.0), pixels)


def test_what_is_no_grey_does_no_harm():
    odd = torch.tensor([-1.0, 2.0, torch.inf, -torch.inf, torch.nan]).expand(ROWS, 1, 5)
    bent = bend_intensities(odd, KEY, 1.0)
    assert bent.nan_to_num(0.5).min() >= 0 and bent.nan_to_num(0.5).max() <= 1 and bent[..., -1].isnan().all()
