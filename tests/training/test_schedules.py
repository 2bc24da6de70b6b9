"""Schedules against their formulas, step by step."""

import math

import pytest

from medprior.methods.schedules import half_cosine, linear_rise
from medprior.training.schedules import cosine


def test_the_rate_rises_and_falls() -> None:
    steps, warmup = 100, 0.1
    values = [cosine(s, steps, warmup) for s in range(steps)]
    assert values[:10] == [(s + 1) / 10 for s in range(10)]
    assert values[10] == 1.0
    for s in range(10, 100):
        assert values[s] == pytest.approx(0.5 * (1 + math.cos(math.pi * (s - 10) / 90)), abs=1e-15)
    assert values[-1] < 1e-3


def test_the_rate_ends_at_its_floor() -> None:
    """MAE: min + (max - min) (1 + cos(π (t - w) / (T - w))) / 2."""
    for s in range(10, 100):
        wanted = 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * (s - 10) / 90))
        assert cosine(s, 100, 0.1, floor=0.2) == pytest.approx(wanted, abs=1e-15)
    assert cosine(100, 100, 0.1, floor=0.2) == cosine(150, 100, 0.1, floor=0.2) == pytest.approx(0.2)
    assert cosine(0, 100, 0.1, floor=0.2) == 0.1, "the warm-up starts from 0"


def test_without_a_warmup_the_rate_falls_from_the_start() -> None:
    assert [cosine(s, 4, 0.0) for s in (0, 2)] == [1.0, pytest.approx(0.5)]


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 0.99), (2, 0.5), (3, 0.0)])
def test_short_runs_have_rates(steps: int, warmup: float) -> None:
    assert all(0 < cosine(s, steps, warmup) <= 1 for s in range(steps))


def test_a_teachers_momentum_is_byols() -> None:
    for k in range(101):
        wanted = 1 - (1 - 0.996) * (math.cos(math.pi * k / 100) + 1) / 2
        assert half_cosine(k, 100, 0.996, 1.0) == pytest.approx(wanted, abs=1e-15)
    assert half_cosine(0, 100, 0.996, 1.0) == pytest.approx(0.996, abs=1e-15)
    assert half_cosine(100, 100, 0.996, 1.0) == 1.0


def test_a_weight_decay_is_dinos() -> None:
    for k in range(101):
        wanted = 0.4 + 0.5 * (0.04 - 0.4) * (1 + math.cos(math.pi * k / 100))
        assert half_cosine(k, 100, 0.04, 0.4) == pytest.approx(wanted, abs=1e-15)
    assert half_cosine(7, 100, 0.05, 0.05) == 0.05
    assert half_cosine(130, 100, 0.04, 0.4) == pytest.approx(0.4), "what has ended stays where it is"


def test_a_temperature_rises_and_stays() -> None:
    values = [linear_rise(s, 4, 0.04, 0.08) for s in range(7)]
    assert values == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.08, 0.08, 0.08])
    assert linear_rise(0, 0, 0.04, 0.08) == 0.08
