"""Eight bits stay, everything else is recovered to half a step."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medprior.data.intensity import dequantise, plan_intensity, quantise


def table(*dtypes: str, modality: str | None = None) -> pd.DataFrame:
    return pd.DataFrame({"dtype": list(dtypes), "modality": pd.Series([modality] * len(dtypes), dtype=object)})


PLAN = plan_intensity(table("uint16"))
floats = st.floats(-(2.0**99), 2.0**99, width=32)


def test_8_bits_are_kept_as_they_are() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    scale, offset = PLAN.mapping(values, values.dtype)
    np.testing.assert_array_equal(quantise(values, scale, offset), values)
    np.testing.assert_array_equal(dequantise(values, scale, offset), values)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=4, max_side=9), elements=floats))
def test_physical_values_come_back_to_half_a_quantum(values: np.ndarray) -> None:
    scale, offset = PLAN.mapping(values, values.dtype)
    back = dequantise(quantise(values, scale, offset), scale, offset)
    one = (-1, *[1] * (values.ndim - 1))
    step, low = scale.reshape(one), offset.reshape(one)
    inside = np.clip(values, low, low + 255 * step)
    assert (np.abs(back - inside) <= step / 2 * (1 + 1e-6)).all()


@given(hnp.arrays(np.int16, (1, 8, 8)))
def test_the_range_is_robust_but_never_empty(values: np.ndarray) -> None:
    scale, offset = PLAN.mapping(values.astype(np.float32), values.dtype)
    assert scale[0] > 0
    assert offset[0] >= values.min()
    if values.max() > values.min():
        assert offset[0] + 255 * scale[0] <= values.max() + 1e-3
        assert len(np.unique(quantise(values, scale, offset))) >= 2


def test_a_hot_pixel_does_not_darken_the_rest() -> None:
    values = np.random.default_rng(0).normal(1000, 100, (1, 64, 64)).astype(np.float32)
    values[0, 3, 3] = 65535
    scale, offset = PLAN.mapping(values, np.dtype(np.uint16))
    assert 1200 < offset[0] + 255 * scale[0] < 1500


def test_a_nearly_empty_scan_keeps_its_extremes() -> None:
    values = np.zeros((1, 64, 64), np.float32)
    values[0, 5, 5] = 7.0
    scale, offset = PLAN.mapping(values, values.dtype)
    assert (offset[0], offset[0] + 255 * scale[0]) == pytest.approx((0, 7))


def test_a_flat_scan_keeps_its_value() -> None:
    values = np.full((1, 8, 8), -1024.0, np.float32)
    scale, offset = PLAN.mapping(values, values.dtype)
    np.testing.assert_array_equal(dequantise(quantise(values, scale, offset), scale, offset), values)


def test_colour_shares_a_mapping_and_contrasts_do_not() -> None:
    scale, offset = PLAN.mapping(
        np.random.default_rng(0).random((3, 9, 9)) * [[[1]], [[2]], [[3]]], np.dtype("float32")
    )
    assert len(set(scale)) == len(set(offset)) == 1
    scale, _ = PLAN.mapping(np.random.default_rng(0).random((2, 9, 9, 9)) * [[[[1]]], [[[5]]]], np.dtype("float32"))
    assert scale[1] > 3 * scale[0]


def test_the_plan_gives_its_reasons() -> None:
    assert plan_intensity(table("uint8", "uint8")).reasons == ("8-bit scans are kept as they are (there are 2).",)
    kept, spread = plan_intensity(table("uint8", "int16", modality="CT")).reasons
    assert kept.startswith("8-bit")
    assert "int16" in spread
    assert "Hounsfield" in spread
