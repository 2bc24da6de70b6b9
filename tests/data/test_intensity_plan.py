"""One rule for each kind of scan, decided from the catalog alone; physical values come back to half a quantum."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.pixels import apply_rescale

from medprior.data.facts import facts_of
from medprior.data.intensity import CT_WINDOW, IntensityPlan, dequantise, plan_intensity, quantise
from medprior.data.treatments import TREATMENTS, treatments_of
from medprior.errors import SettingsError

RNG = np.random.default_rng(0)


def table(*scans: tuple[str | None, np.ndarray]) -> pd.DataFrame:
    """What the catalog holds of scans, from their modality and pixels (C, *S)."""
    rows = [
        {
            "modality": modality,
            "dtype": pixels.dtype.name,
            "shape": list(pixels.shape[1:]),
            "channels": len(pixels),
            "quantiles": facts_of(pixels).quantiles.tolist(),
        }
        for modality, pixels in scans
    ]
    frame = pd.DataFrame(rows)
    frame["modality"] = frame["modality"].astype(object).where(frame["modality"].notna(), None)
    return frame


def mapping(modality: str | None, pixels: np.ndarray, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    one = table((modality, pixels))
    scale, offset = plan_intensity(one, **settings).mappings(one)
    return scale[0], offset[0]


def kind(modality: str | None, pixels: np.ndarray) -> str:
    return str(treatments_of(table((modality, pixels)))[0])


def chest(shape: tuple[int, ...] = (1, 40, 40), padding: int = -1000) -> np.ndarray:
    """Air around, soft tissue with some bone inside, in HU."""
    pixels = np.full(shape, -1000, np.int16) + RNG.integers(-20, 20, shape, np.int16)
    pixels[..., 10:30, 10:30] = RNG.integers(-100, 200, (*shape[:-2], 20, 20))
    pixels[..., 18:22, 18:22] = 900
    pixels[..., :2, :] = padding
    return pixels


pixels_of_any_kind = st.one_of(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=4, max_side=7)),
    hnp.arrays(np.int16, hnp.array_shapes(min_dims=3, max_dims=4, max_side=7)),
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=3, max_dims=4, max_side=7)),
    hnp.arrays(np.int32, hnp.array_shapes(min_dims=3, max_dims=4, max_side=7)),
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=4, max_side=7),
        elements=st.floats(-(2.0**99), 2.0**99, width=32),
    ),
)


@given(st.sampled_from([None, "CT", "MR", "CR", "MG", "PT", "NM", "US", "SM", "OT"]), pixels_of_any_kind)
def test_physical_values_come_back_to_half_a_quantum(modality: str | None, pixels: np.ndarray) -> None:
    scale, offset = mapping(modality, pixels)
    assert (scale > 0).all()
    back = dequantise(quantise(pixels, scale, offset), scale, offset)
    one = (-1, *[1] * (pixels.ndim - 1))
    step, low = scale.reshape(one), offset.reshape(one)
    inside = np.clip(pixels.astype(np.float64), low, low + 255 * step)
    tolerance = step / 2 * (1 + 1e-6) + np.abs(low) * 1e-9
    assert (np.abs(back - inside) <= tolerance).all()
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        np.testing.assert_array_equal(back, pixels)


@given(st.sampled_from([None, "MR", "DX", "OT"]), hnp.arrays(np.int16, (1, 8, 8)))
def test_a_robust_range_lies_inside_the_scan_and_is_never_empty(modality: str | None, values: np.ndarray) -> None:
    if kind(modality, values) == "Hounsfield by its values":
        return
    (scale,), (offset,) = mapping(modality, values)
    assert offset >= values.min()
    if values.max() > values.min():
        assert offset + 255 * scale <= values.max() + 1e-9
        assert len(np.unique(quantise(values, np.array([scale]), np.array([offset])))) >= 2


def test_every_modality_gets_its_kind() -> None:
    grey = RNG.integers(0, 4000, (1, 40, 40)).astype(np.uint16)
    eight = grey.astype(np.uint8)
    assert kind("CT", chest()) == "Hounsfield"
    assert kind("MR", grey) == "MR"
    assert {kind(code, grey) for code in ("CR", "DX", "MG", "RF", "XA")} == {"X-ray"}
    assert kind("PT", grey) == kind("NM", grey.astype(np.float32)) == "emission"
    assert kind(None, grey) == kind("OT", grey) == "unknown"
    assert {kind(code, eight) for code in ("CT", "MR", "DX", "PT", "US", "SM", None)} == {"8-bit"}
    assert kind("US", eight.astype(np.int16)) == "8-bit", "8 bits in wider words"
    assert kind("US", grey) == "unknown"
    assert set(treatments_of(table((None, eight), ("MR", grey)))) <= set(TREATMENTS)


def test_volumes_in_8_bits_are_exports_with_a_unit_of_their_own() -> None:
    """Of one collection of MR, some are float and some 8-bit with a white at 110: both must fill the range."""
    eight = RNG.integers(0, 110, (1, 9, 40, 40)).astype(np.uint8)
    assert kind(None, eight) == "unknown"
    assert kind("MR", eight) == "MR"
    assert kind("CT", eight) == kind("US", eight) == "8-bit"
    (scale,), (offset,) = mapping(None, eight)
    assert offset + 255 * scale == pytest.approx(109, abs=1)


@pytest.mark.parametrize("padding", [-1000, -1024, -2000, -3024])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_hounsfield_units_are_known_by_their_values(padding: int, dtype: type) -> None:
    assert kind(None, chest(padding=padding).astype(dtype)) == "Hounsfield by its values"
    assert kind("MR", chest(padding=padding).astype(dtype)) == "MR"


def test_what_is_no_hounsfield_is_not_taken_for_it() -> None:
    values = chest()
    assert kind("CT", values + 1024) == "CT in other units", "as the scanner stored it"
    assert kind("CT", ((values + 1024) / 4096).astype(np.float32)) == "CT in other units", "scaled to 0..1"
    assert kind("CT", values[:, 10:30, 10:30]) == "Hounsfield", "a crop without air"
    assert kind("CT", np.full((1, 9, 9), -1000, np.int16)) == "Hounsfield", "a slice of air"
    z_scores = RNG.normal(0, 1, (1, 40, 40)).astype(np.float32)
    assert kind(None, z_scores) == kind(None, z_scores * 1000) == "unknown"
    assert kind(None, (values + 1024).astype(np.uint16)) == "unknown"


def test_ct_is_read_in_the_declared_window() -> None:
    for modality in ("CT", None):
        (scale,), (offset,) = mapping(modality, chest(), ct_window=(-160, 240))
        assert (offset, offset + 255 * scale) == pytest.approx((-160, 240))
    (scale,), (offset,) = mapping("CT", chest())
    assert (offset, offset + 255 * scale) == pytest.approx(CT_WINDOW)
    slices = table(("CT", chest()), ("CT", np.full((1, 9, 9), -1000, np.int16)))
    scale, offset = plan_intensity(slices).mappings(slices)
    assert (scale == scale[0]).all() and (offset == offset[0]).all(), "all slices mean the same"


@pytest.mark.parametrize("window", [(100, 100), (40, -40), (-1000, float("inf")), (float("nan"), 0)])
def test_a_window_that_holds_nothing_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match="holds nothing"):
        plan_intensity(table(("CT", chest())), window)


@pytest.mark.parametrize("modality", ["MR", "DX", None])
def test_a_hot_pixel_does_not_darken_the_rest(modality: str | None) -> None:
    values = RNG.normal(1000, 100, (1, 64, 64)).astype(np.float32)
    values[0, 3, 3] = 65535
    (scale,), (offset,) = mapping(modality, values)
    assert 600 < offset < 800
    assert 1200 < offset + 255 * scale < 1500


def test_pet_starts_at_zero_and_keeps_small_lesions() -> None:
    values = RNG.exponential(0.5, (1, 20, 40, 40)).astype(np.float32)
    values[0, 5, 5:8, 5:8] = np.arange(9).reshape(3, 3) + 20
    (scale,), (offset,) = mapping("PT", values)
    assert offset == 0
    assert offset + 255 * scale == pytest.approx(np.percentile(values, 99.9), rel=0.05)
    assert mapping("PT", values - 5)[1] < 0, "values below zero are no counts"


def test_a_nearly_empty_and_a_flat_scan_keep_their_values() -> None:
    values = np.zeros((1, 64, 64), np.float32)
    values[0, 5, 5] = 7.0
    for modality in ("MR", "PT", None):
        (scale,), (offset,) = mapping(modality, values)
        assert (offset, offset + 255 * scale) == pytest.approx((0, 7))
    flat = np.full((1, 8, 8), -1024.0, np.float32)
    scale, offset = mapping("MR", flat)
    np.testing.assert_array_equal(dequantise(quantise(flat, scale, offset), scale, offset), flat)


def test_colour_shares_a_mapping_and_contrasts_do_not() -> None:
    scale, offset = mapping(None, (RNG.random((3, 9, 9)) * [[[1]], [[2]], [[3]]]).astype(np.float32))
    assert len(set(scale)) == len(set(offset)) == 1
    scale, _ = mapping("MR", (RNG.random((2, 9, 9, 9)) * [[[[1]]], [[[5]]]]).astype(np.float32))
    assert scale[1] > 3 * scale[0]


def test_each_row_of_a_mixed_collection_gets_its_own_channels() -> None:
    colour = RNG.integers(0, 65535, (3, 9, 9)).astype(np.uint16)
    scans = table((None, colour), ("CT", chest()), ("MR", RNG.random((1, 9, 9)).astype(np.float32)))
    plan = plan_intensity(scans)
    scale, offset = plan.mappings(scans)
    assert scale.shape == offset.shape == (3, 3)
    assert (scale == scale[:, :1]).all(), "grey is said three times"
    for channels in (1, 2, 5):
        again, _ = plan.mappings(scans, channels)
        np.testing.assert_array_equal(again, np.repeat(scale[:, :1], channels, axis=1))


def test_the_plan_gives_one_rule_and_reason_for_each_kind_and_survives_json() -> None:
    eight = RNG.integers(0, 255, (1, 9, 9)).astype(np.uint8)
    scans = table(("CT", chest()), ("CT", chest()), ("CT", eight), ("MR", chest()), (None, eight), (None, chest()))
    plan = plan_intensity(scans)
    assert [(rule.modality, rule.kind, rule.scans) for rule in plan.rules] == [
        ("CT", "Hounsfield", 2),
        ("", "8-bit", 1),
        ("", "Hounsfield by its values", 1),
        ("CT", "8-bit", 1),
        ("MR", "MR", 1),
    ]
    assert plan.rules[0].quantum == pytest.approx(2000 / 255)
    assert plan.rules[4].quantum is None
    assert len(set(plan.reasons)) == len(plan.reasons) == 5
    assert plan.reasons[0].startswith(
        "Scans of CT (there are 2) are spread from -1000 to 1000 HU over 8 bits, in steps"
    )
    assert all(reason.endswith(".") and reason.count(".") >= 1 for reason in plan.reasons)
    assert IntensityPlan.from_json(json.loads(json.dumps(dataclasses.asdict(plan)))) == plan


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:End of file reached")
def test_real_files_are_known_by_header_and_by_value(real_data: Path) -> None:
    """Every CT of the sample files, and no other, is known for Hounsfield units also without its modality."""
    scans = []
    for path in sorted((real_data / "dicom-ingest").rglob("*")):
        with contextlib.suppress(Exception):
            file = pydicom.dcmread(path)
            if file.Modality in ("CT", "MR", "CR", "NM") and "JPEGProcess1Trans" not in path.name:
                values = apply_rescale(file.pixel_array, file)
                whole = (values == np.rint(values)).all()
                scans.append((file.Modality, values.astype(np.int32 if whole else np.float32)[None]))
    assert len(scans) > 40
    kinds = dict.fromkeys(modality for modality, _ in scans)
    assert set(kinds) == {"CT", "MR", "CR", "NM"}
    right = {"CT": "Hounsfield", "MR": "MR", "CR": "X-ray", "NM": "emission"}
    assert treatments_of(table(*scans)).tolist() == [right[modality] for modality, _ in scans]
    nameless = treatments_of(table(*[(None, values) for _, values in scans]))
    assert (nameless == "Hounsfield by its values").tolist() == [modality == "CT" for modality, _ in scans]


def test_a_header_that_names_another_unit_is_believed_and_an_open_one_is_held_against_the_values():
    lungs = np.repeat(np.array([-1000, 0, 40, 60], np.int16), 50).reshape(1, 10, 20)
    both = table(*[("CT", lungs)] * 4, ("CT", lungs // 5))
    both["units"] = pd.Series([None, "RCBF", "US", "MGML", "US"], dtype=object)
    other = "CT in other units"
    assert treatments_of(both).tolist() == ["Hounsfield", other, "Hounsfield", other, other]
