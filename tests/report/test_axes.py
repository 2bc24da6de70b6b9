"""Scales, ticks and elements: round numbers inside the domain, labels that never overlap, nothing unescaped."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medprior.report.axes import Scale, budget_ticks, element, linear_ticks, ratio_ticks, score_domain, spread

budgets = st.lists(st.integers(1, 100_000), min_size=1, max_size=12, unique=True)


def test_a_log_scale_places_equal_ratios_at_equal_distances() -> None:
    x = Scale(10, 1000, 0, 100, log=True)
    assert x(10) == 0
    assert x(100) == pytest.approx(50)
    assert x(1000) == pytest.approx(100)
    assert x(40) - x(20) == pytest.approx(x(200) - x(100))


def test_a_scale_may_run_downwards_and_one_value_stands_in_the_middle() -> None:
    assert Scale(0, 1, 100, 0)(0.25) == 75
    assert Scale(21, 21, 0, 100, log=True)(21) == 50


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_score_domain_holds_every_score_and_nothing_impossible(values: list[float]) -> None:
    low, high = score_domain(values)
    assert 0 <= low < high <= 1
    assert low - 1e-6 <= min(values) and max(values) <= high + 1e-6


@given(st.floats(-100, 100), st.floats(0.001, 1000))
def test_linear_ticks_are_evenly_spaced_inside_the_domain(low: float, width: float) -> None:
    ticks = linear_ticks(low, low + width)
    assert 2 <= len(ticks) <= 8
    assert all(low - 1e-6 <= tick <= low + width + 1e-6 for tick in ticks)
    steps = {round((b - a) / (ticks[1] - ticks[0]), 3) for a, b in itertools.pairwise(ticks)}
    assert steps == {1.0}


@given(st.floats(0.01, 0.9), st.floats(1.1, 500))
def test_ratio_ticks_are_powers_of_two_with_one_among_them(low: float, high: float) -> None:
    ticks = ratio_ticks(low, high)
    assert 1.0 in ticks
    assert len(ticks) <= 8
    assert all(low <= tick <= high and math.log2(tick).is_integer() for tick in ticks)


@given(budgets)
def test_budget_ticks_are_measured_budgets_that_do_not_crowd(values: list[int]) -> None:
    x = Scale(min(values), max(values), 0, 400, log=True)
    ticks = budget_ticks(values, x, 30)
    assert set(ticks) <= set(values)
    assert ticks[-1] == max(values)
    assert all(x(b) - x(a) >= 30 for a, b in itertools.pairwise(ticks))


@given(st.lists(st.floats(0, 300), min_size=1, max_size=10))
def test_spread_labels_keep_order_distance_and_frame(positions: list[float]) -> None:
    moved = spread(positions, 18, 0, 300)
    order = sorted(range(len(positions)), key=lambda place: positions[place])
    placed = [moved[place] for place in order]
    assert all(b - a >= 18 - 1e-6 for a, b in itertools.pairwise(placed))
    assert min(moved) >= -1e-6 and max(moved) <= 300 + 1e-6


def test_labels_with_room_stay_where_they_belong() -> None:
    assert spread([200.0, 10.0, 100.0], 18, 0, 300) == [200.0, 10.0, 100.0]


def test_elements_escape_what_they_hold() -> None:
    made = element("text", "<script>&", class_="tick", aria_label='"><script>', x=1.25, missing=None)
    assert made == '<text class="tick" aria-label="&#34;&gt;&lt;script&gt;" x="1.2">&lt;script&gt;&amp;</text>'
