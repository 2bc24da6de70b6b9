"""Sampling is a pure function of seed and step, and each epoch visits every scan at most once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medprior.errors import SettingsError
from medprior.training.sampler import Sampler


@given(st.integers(2, 60), st.integers(1, 80), st.integers(0, 5), st.integers(0, 40))
def test_epochs_are_permutations(count: int, batch: int, seed: int, epoch: int) -> None:
    rows = np.arange(count) * 3 + 1
    sampler = Sampler(rows, batch, seed)
    per = sampler.steps_per_epoch
    seen = np.concatenate([sampler.batch(epoch * per + i) for i in range(per)])
    assert len(seen) == per * min(batch, count)
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(rows)
    again = Sampler(rows, batch, seed)
    np.testing.assert_array_equal(again.batch(epoch * per), seen[: len(again.batch(0))])


def test_seeds_and_epochs_differ() -> None:
    rows = np.arange(100)
    first = Sampler(rows, 100, 0)
    assert not np.array_equal(first.batch(0), first.batch(1))
    assert not np.array_equal(first.batch(0), Sampler(rows, 100, 1).batch(0))


def test_one_scan_is_too_few() -> None:
    with pytest.raises(SettingsError, match="too few"):
        Sampler(np.arange(1), 4, 0)
