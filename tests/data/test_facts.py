"""Facts of pixels: percentiles as defined, however they are found, and the distinct values of masks."""

import numpy as np
import pytest

from medprior.data.facts import MOST_VALUES, RANKS, facts_of

EXTREMES = {"all": None, "few": (0, 5), "low": (-128, -125), "one": (7, 7), "sixteen": (0, 15), "seventeen": (0, 16)}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("kind", EXTREMES)
def test_percentiles_of_integers_are_exact(dtype, kind):
    limits = np.iinfo(dtype)
    low, high = EXTREMES[kind] or (limits.min, limits.max)
    low, high = max(low, limits.min), max(high, limits.min)
    pixels = np.random.default_rng(5).integers(low, high, (2, 61, 47), dtype, endpoint=True)
    found = facts_of(pixels)
    for row, channel in zip(found.quantiles, pixels, strict=True):
        assert row.tolist() == np.percentile(channel.ravel(), RANKS, method="inverted_cdf").tolist()
    there = sorted(set(pixels.ravel().tolist()))
    assert found.values == (tuple(there) if len(there) <= MOST_VALUES else ())


def test_a_rare_value_among_few_is_found():
    pixels = np.zeros((1, 300, 300), np.int16)
    pixels[0, 17, 23] = -3
    assert facts_of(pixels).values == (-3.0, 0.0)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_percentiles_of_large_images_are_close_and_their_extremes_exact(dtype):
    pixels = np.random.default_rng(1).normal(0, 300, (1, 512, 512)).astype(dtype)
    (found,) = facts_of(pixels).quantiles
    assert (found[0], found[-1]) == (pixels.min(), pixels.max())
    ranks = [(pixels <= level).mean() * 100 for level in found]
    np.testing.assert_allclose(ranks, RANKS, atol=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("shape", [(1, 512, 400), (3, 96, 41), (1, 97, 41), (1, 16, 90), (2, 8, 8)])
def test_thumbs_of_integers_are_those_of_floats(dtype, shape):
    limits = np.iinfo(dtype)
    pixels = np.random.default_rng(3).integers(limits.min, limits.max, shape, dtype, endpoint=True)
    expected = facts_of(pixels.astype(np.float32)).thumb
    np.testing.assert_allclose(facts_of(pixels).thumb, expected, rtol=1e-5, atol=1e-5 * limits.max)


def test_percentiles_do_not_keep_to_some_columns():
    stripes = np.tile(np.arange(512, dtype=np.int16) % 4, (1, 512, 1))
    assert facts_of(stripes).quantiles[0].tolist() == [np.clip(np.ceil(rank / 25) - 1, 0, 3) for rank in RANKS]
