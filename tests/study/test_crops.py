"""The crops that outlines are learnt from, planned from what the scans are like."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from medprior.config import load_settings
from medprior.study.planning.crops import MOST, plan_crops


def catalog_of(shapes: list[tuple[int, ...]], spacings: list[tuple[float, ...] | None]) -> SimpleNamespace:
    return SimpleNamespace(table=pd.DataFrame({"shape": shapes, "spacing": spacings}))


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((35, 50, 35), (1.0, 1.0, 1.0), (32, 32, 32)),
        ((300, 512, 512), (1.0, 0.8, 0.8), (32, 32, 32)),
        ((24, 512, 512), (5.0, 0.8, 0.8), (8, 64, 64)),  # thick slices: as long in mm along every axis
        ((10, 20, 26), None, (16, 32, 32)),
        ((960, 999), None, (96, 96)),
        ((40, 52), None, (64, 64)),
    ],
)
def test_crops_reach_as_far_as_fits_and_are_as_long_in_mm(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, expected: tuple[int, ...]
) -> None:
    plan = plan_crops(catalog_of([shape] * 3, [spacing] * 3), load_settings(), on_gpu=False)  # type: ignore[arg-type]
    assert plan.shape == expected and plan.spacing is None and plan.voxel == spacing
    assert plan.count == (8 if len(shape) == 2 else 4)


def test_no_crop_holds_more_than_the_largest_cube() -> None:
    for depth in (4, 9, 33, 150):
        plan = plan_crops(catalog_of([(depth, 300, 200)], [(3.0, 1.0, 1.0)]), load_settings(), on_gpu=False)  # type: ignore[arg-type]
        voxels = plan.shape[0] * plan.shape[1] * plan.shape[2]
        assert 0.5 * MOST[3, False] ** 3 < voxels <= MOST[3, False] ** 3


def test_mixed_spacings_become_the_median_and_it_is_said() -> None:
    spacings = [(3.0, 1.0, 1.0), (3.0, 1.0, 1.0), (5.0, 0.5, 0.5)]
    plan = plan_crops(catalog_of([(40, 60, 60)] * 3, spacings), load_settings(), on_gpu=False)  # type: ignore[arg-type]
    assert plan.spacing == (3.0, 1.0, 1.0) and "spacings differ" in plan.why


def test_what_was_asked_for_goes_before() -> None:
    settings = load_settings(assignments=["data.size=24", "adapt.crops=6", "data.spacing=2"])
    plan = plan_crops(catalog_of([(40, 60, 60)] * 3, [(1.0, 1.0, 1.0)] * 3), settings, on_gpu=False)  # type: ignore[arg-type]
    assert (plan.shape, plan.count, plan.spacing, plan.voxel) == ((24,) * 3, 6, 2.0, (2.0,) * 3)
