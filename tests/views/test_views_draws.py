"""Draws: uniform, independent, and dependent on nothing but their key."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from medprior.views.draws import Key, between, happens, normal, uniform

MANY = torch.arange(20_000)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.flatten(), b.flatten())[0, 1])


def test_values_are_fixed_for_all_time():
    """A run of an older version must resume: these numbers may never change."""
    key = Key(seed=7, step=11, rows=torch.tensor([0, 5, 2**31]), view=1)
    words = (uniform(key, "scale") * 2**24).long().tolist()
    assert words == [12079951, 2199896, 8115959]


def test_order_and_size_of_the_batch_do_not_matter():
    whole = Key(3, 9, MANY, 0)
    order = torch.randperm(len(MANY), generator=torch.Generator().manual_seed(0))[:77]
    part = Key(3, 9, MANY[order], 0)
    for draw in (uniform, normal):
        assert torch.equal(draw(whole, "x", (2, 3))[order], draw(part, "x", (2, 3)))


def test_a_tensor_step_equals_a_number():
    assert torch.equal(uniform(Key(1, 4, MANY, 0), "x"), uniform(Key(1, torch.tensor(4), MANY, 0), "x"))


@pytest.mark.parametrize("shape", [(), (8,)])
def test_uniform_passes_kolmogorov_smirnov(shape):
    values = uniform(Key(0, 0, MANY, 0), "x", shape).flatten()
    assert stats.kstest(values.numpy(), "uniform").pvalue > 1e-3
    assert values.min() >= 0 and values.max() < 1


def test_normal_passes_kolmogorov_smirnov_and_pairs_are_uncorrelated():
    values = normal(Key(0, 0, MANY, 0), "x", (4,))
    assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(correlation(values[:, 0], values[:, 2])) < 0.03


@pytest.mark.parametrize(
    "other",
    [
        Key(1, 0, MANY, 0),
        Key(2**40, 0, MANY, 0),
        Key(0, 1, MANY, 0),
        Key(0, 0, MANY + 1, 0),
        Key(0, 0, MANY + 2**31, 0),
        Key(0, 0, MANY, 1),
    ],
    ids=["seed", "high bits of the seed", "step", "next row", "far row", "view"],
)
def test_every_part_of_the_key_gives_independent_numbers(other):
    a, b = uniform(Key(0, 0, MANY, 0), "x"), uniform(other, "x")
    table = np.histogram2d(a.numpy(), b.numpy(), bins=10, range=[[0, 1]] * 2)[0]
    assert stats.chisquare(table.ravel()).pvalue > 1e-3


def test_names_and_places_give_independent_numbers():
    key = Key(0, 0, MANY, 0)
    draws = [uniform(key, name) for name in ("scale", "aspect", "a", "b")] + [*uniform(key, "pair", (2,)).unbind(1)]
    matrix = np.corrcoef(torch.stack(draws).numpy())
    assert np.abs(matrix - np.eye(6)).max() < 0.03


def test_noise_fields_of_different_rows_share_no_stretch():
    fields = uniform(Key(0, 0, torch.arange(64), 0), "field", (4096,))
    values, counts = fields.unique(return_counts=True)
    # 2^18 draws of 24 bits coincide about 2,000 times by chance; one shared stretch would add thousands.
    assert len(values) > fields.numel() - 2_500 and counts.max() <= 4


def test_between_and_happens():
    key = Key(5, 5, MANY, 0)
    values = between(key, "x", -2, 3)
    assert -2 <= values.min() < -1.99 and 2.99 < values.max() < 3
    assert abs(happens(key, "y", 0.3).float().mean() - 0.3) < 0.015
    assert not happens(key, "y", 0.0).any() and happens(key, "y", 1.0).all()
