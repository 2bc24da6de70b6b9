"""Contours run where a class ends, and nowhere else."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medprior.report.contours import MOST_STEPS, outlines, path, rings, style


def test_a_square_has_its_four_corners() -> None:
    mask = np.zeros((8, 9), bool)
    mask[2:5, 3:7] = True
    assert rings(mask) == [[(3, 2), (7, 2), (7, 5), (3, 5)]]
    assert path(mask) == "M3 2h4v3h-4z"


def test_a_hole_runs_the_other_way_and_edges_of_the_scan_are_edges() -> None:
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    assert rings(mask) == [[(0, 0), (3, 0), (3, 3), (0, 3)], [(1, 2), (2, 2), (2, 1), (1, 1)]]


def test_pixels_that_touch_at_a_corner_stay_apart() -> None:
    assert len(rings(np.eye(3, dtype=bool))) == 3
    assert len(rings(~np.eye(2, dtype=bool))) == 2


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9), st.floats(0, 1))
def test_rings_enclose_every_pixel_of_the_mask_and_run_along_every_edge(
    seed: int, height: int, width: int, share: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    found = rings(mask)
    assert sum(_area(ring) for ring in found) == mask.sum()
    padded = np.pad(mask, 1).astype(int)
    edges = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    assert sum(_length(ring) for ring in found) == edges


def test_every_class_has_its_line_and_the_map_is_stretched_to_the_picture() -> None:
    labels = np.zeros((4, 8), np.uint8)
    labels[1:3, 1:3], labels[1:3, 5:7] = 1, 3
    drawn = outlines(labels, (20, 80), "truth")
    assert drawn is not None
    assert re.findall(r'd="([^"]+)" class="(\w+)"', drawn) == [("M1 1h2v2h-2z", "p1"), ("M5 1h2v2h-2z", "p3")]
    assert 'class="truth" transform="scale(10 5)"' in drawn
    assert outlines(np.zeros((4, 8), np.uint8), (20, 80), "truth") is None


def test_a_frayed_map_is_drawn_coarser_and_stays_small() -> None:
    noise = np.random.default_rng(0).integers(0, 4, (300, 300)).astype(np.uint8)
    drawn = outlines(noise, (300, 300), "predicted")
    assert drawn is not None and len(drawn) < 8 * MOST_STEPS


@pytest.mark.parametrize(("label", "said"), [(1, "p1"), (8, "p8"), (9, "p1")])
def test_styles_repeat_after_the_eighth_class(label: int, said: str) -> None:
    assert style(label) == said


def _area(ring: list[tuple[int, int]]) -> float:
    """Positive where the ring runs clockwise on a screen."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise([*ring, ring[0]])) / 2


def _length(ring: list[tuple[int, int]]) -> int:
    return sum(abs(x1 - x0) + abs(y1 - y0) for (x0, y0), (x1, y1) in itertools.pairwise([*ring, ring[0]]))
