"""Boxes keep the aspect, are exact to the pixel and centred; resizing averages areas exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medprior.data.store.letterbox import box_index, content_box, fitted_shape, placed_at, resize

shapes = st.lists(st.integers(1, 700), min_size=2, max_size=3)


@given(shapes, st.integers(16, 300))
def test_fitting_keeps_the_aspect_and_never_enlarges(shape: list[int], size: int) -> None:
    found = fitted_shape(shape, size)
    scale = min(1.0, size / max(shape))
    for before, after in zip(shape, found, strict=True):
        assert 1 <= after <= min(size, before)
        assert abs(after - before * scale) <= 0.5 or after == 1
    if max(shape) >= size:
        assert max(found) == size
    else:
        assert found == tuple(shape)


def test_thick_slices_are_fitted_in_millimetres() -> None:
    assert fitted_shape((40, 512, 512), 64, (5.0, 0.7, 0.7)) == (36, 64, 64)
    assert fitted_shape((10, 100, 100), 128, (4.0, 1.0, 1.0)) == (40, 100, 100)
    assert fitted_shape((100, 50), 64, (0.5, 0.5)) == fitted_shape((100, 50), 64)
    assert fitted_shape((100, 50), 64, (0.0, float("nan"))) == fitted_shape((100, 50), 64)


@given(st.lists(st.integers(1, 200), min_size=2, max_size=3), st.integers(1, 200))
def test_the_box_is_exact_and_centred(shape: list[int], size: int) -> None:
    shape = [min(n, size) for n in shape]
    content = content_box(shape, size)
    edges = (content.astype(np.float64) + 1) * size / 2
    np.testing.assert_allclose(edges[:, 0], placed_at(shape, size), atol=1e-4)
    np.testing.assert_allclose(edges[:, 1] - edges[:, 0], shape, atol=1e-4)
    assert np.abs(edges.sum(axis=1) - size).max() <= 1 + 1e-4
    assert [s.stop - s.start for s in box_index(content, size)] == shape
    assert [s.start for s in box_index(content, size)] == list(placed_at(shape, size))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_reduction_is_the_exact_area_average(before: int, after: int, seed: int) -> None:
    before, after = max(before, after), min(before, after)
    pixels = np.random.default_rng(seed).random((2, before, 3), dtype=np.float32)
    cumulated = np.concatenate([np.zeros((2, 1, 3)), np.cumsum(pixels, axis=1, dtype=np.float64)], axis=1)
    places = np.arange(after + 1) * before / after
    at = np.stack([[np.interp(places, np.arange(before + 1), c[:, k]) for k in range(3)] for c in cumulated])
    exact = np.diff(at, axis=2).swapaxes(1, 2) * after / before
    np.testing.assert_allclose(resize(pixels, (after, 3)), exact, atol=1e-5)


def test_enlarging_an_axis_is_linear() -> None:
    ramp = np.arange(8, dtype=np.float32)[None, :, None] * np.ones((1, 8, 4), np.float32)
    found = resize(ramp, (16, 4))[0, :, 0]
    np.testing.assert_allclose(found, ((np.arange(16) + 0.5) / 2 - 0.5).clip(0, 7), atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_volumes_are_averaged_along_all_axes(kind: type) -> None:
    volume = (np.random.default_rng(0).random((1, 12, 20, 16)) * 200).astype(kind)
    blocks = volume.reshape(1, 3, 4, 5, 4, 4, 4).astype(np.float64).mean(axis=(2, 4, 6))
    np.testing.assert_allclose(resize(volume, (3, 5, 4)), blocks, rtol=1e-5)


def test_nothing_changes_where_the_shape_fits() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(1, 4, 6)
    assert resize(pixels, (4, 6)) is pixels
