"""Painting: inside or outside of boxes, never both, boxes and noise as specified."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from medprior.errors import SettingsError
from medprior.views.boxes import covered
from medprior.views.draws import Key
from medprior.views.painting import Boxes, inner_boxes, noise, outer_boxes, paint, paint_in, paint_out

ROWS = 4000
KEY = Key(0, 0, torch.arange(ROWS), 0)
SIZES = [(14, 15), (64, 64, 32), (14, 17, 96)]


def odds_of_counts(first: float) -> np.ndarray:
    """Of 0 to 5 boxes, the first of which comes with odds `first` and each next with 0.95."""
    reached = np.cumprod([1.0, first, 0.95, 0.95, 0.95, 0.95])
    return reached - np.append(reached[1:], 0)


@pytest.mark.parametrize("size", [(16, 20), (14, 16, 18)])
def test_a_sample_is_painted_one_way_or_the_other_or_not_at_all(size):
    pixels = torch.rand(ROWS // 8, 2, *size, generator=torch.Generator().manual_seed(0)) + 2
    key = Key(0, 0, torch.arange(ROWS // 8), 0)
    painted, ways = paint(pixels, key), (pixels, paint_in(pixels, key), paint_out(pixels, key))
    same = torch.stack([(painted == way).flatten(1).all(dim=1) for way in ways])
    assert same.any(dim=0).all()
    # One in twenty inner paintings has no box, and looks like none.
    counted = np.array(
        [int((~same[2] & ~same[1] | same[0]).sum()), int((same[1] & ~same[0]).sum()), int(same[2].sum())]
    )
    expected = np.array([0.1 + 0.18 * 0.05, 0.18 * 0.95, 0.72])
    assert counted.sum() == len(pixels) and stats.chisquare(counted, expected * len(pixels)).pvalue > 1e-3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["inner", "outer"])
def test_boxes_have_the_edges_margins_and_number_specified(size, way):
    boxes = inner_boxes(KEY, size) if way == "inner" else outer_boxes(KEY, size)
    for axis, side in enumerate(size):
        low, high = (side // 6, side // 3) if way == "inner" else (side - 4 * side // 7, side - 3 * side // 7)
        edge, start = boxes.edge[..., axis].flatten().numpy(), boxes.start[..., axis].flatten().numpy()
        counted = np.bincount(edge)
        assert edge.min() == low and len(counted) == high + 1 and stats.chisquare(counted[low:]).pvalue > 1e-3
        assert start.min() == 3 and (start + edge).max() == side - 3
        places = np.bincount(start[edge == low])[3:]
        assert len(places) == side - low - 5 and stats.chisquare(places).pvalue > 1e-3
    counted = np.bincount(boxes.used.sum(dim=1), minlength=6)
    expected = odds_of_counts(0.95 if way == "inner" else 1.0) * ROWS
    assert (counted[expected == 0] == 0).all()
    assert stats.chisquare(counted[expected > 0], expected[expected > 0]).pvalue > 1e-3
    assert all((before | ~after).all() for before, after in pairwise(boxes.used.unbind(1)))


@pytest.mark.parametrize("count", [1, 5, 8, 21])
@pytest.mark.parametrize("size", [(11, 7), (6, 9, 5)])
def test_pixels_are_covered_by_the_union_of_the_used_boxes(count, size):
    rng = np.random.default_rng(0)
    start = rng.integers(-2, max(size), (30, count, len(size)))
    edge, used = rng.integers(0, 5, start.shape), rng.random((30, count)) < 0.5
    expected = np.zeros((30, 1, *size), bool)
    for row, box in zip(*used.nonzero(), strict=True):
        first = start[row, box].clip(0)
        last = (start[row, box] + edge[row, box]).clip(0)
        expected[(row, 0, *(slice(a, b) for a, b in zip(first, last, strict=True)))] = True
    found = covered(*(torch.from_numpy(values) for values in (start, edge, used)), size)
    assert found.dtype == torch.bool
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(16, 20), (14, 16, 18)])
def test_noise_is_where_it_should_be_and_all_else_untouched(size):
    pixels, key = torch.full((50, 2, *size), 2.0), Key(0, 0, torch.arange(50), 0)
    inside, outside = inner_boxes(key, size).covered(size), outer_boxes(key, size).covered(size)
    assert torch.equal(paint_in(pixels, key) < 2, inside.expand_as(pixels))
    assert torch.equal(paint_out(pixels, key) == 2, outside.expand_as(pixels))


@pytest.mark.parametrize("shape", [(1, 15, 15), (2, 16, 16, 14)])
def test_noise_is_uniform_and_independent(shape):
    field = noise(Key(0, 0, torch.arange(60), 0), shape)
    assert field.shape == (60, *shape) and field.min() >= 0 and field.max() < 1
    assert stats.kstest(field.flatten().numpy(), "uniform").pvalue > 0.01
    flat = field.flatten(1)
    half = (flat.shape[1] + 1) // 2
    for apart in (1, shape[-1], half):
        table = np.histogram2d(flat[:, :-apart].flatten(), flat[:, apart:].flatten(), bins=8, range=[[0, 1]] * 2)[0]
        assert stats.chisquare(table.ravel()).pvalue > 1e-3
    table = np.histogram2d(flat[:-1].flatten(), flat[1:].flatten(), bins=8, range=[[0, 1]] * 2)[0]
    assert stats.chisquare(table.ravel()).pvalue > 1e-3


def test_boxes_are_chosen_sample_by_sample():
    first, other = (Boxes(*(torch.full(s, v) for s in ((2, 5, 2), (2, 5, 2), (2, 5)))) for v in (1, 2))
    chosen = first.where(torch.tensor([True, False]), other)
    assert [values[:, 0].flatten()[0].item() for values in (chosen.start, chosen.edge)] == [1, 1]
    assert chosen.start[1].unique().tolist() == [2] and chosen.used[1].unique().tolist() == [2]


@pytest.mark.parametrize("corrupt", [paint, paint_in, paint_out])
def test_small_sides_are_refused(corrupt):
    with pytest.raises(SettingsError, match="20 x 3 x 20 are too small") as refused:
        corrupt(torch.zeros(1, 1, 20, 3, 20), Key(0, 0, torch.arange(1), 0))
    assert "4 pixels" in str(refused.value)
    corrupt(torch.zeros(1, 1, 4, 14, 14), Key(0, 0, torch.arange(1), 0))


@pytest.mark.parametrize("side", range(4, 14))
def test_boxes_lie_inside_of_thin_slabs_with_what_margin_there_is(side):
    margin = {4: 0}.get(side, 1 if side < 10 else 2)
    for boxes in (inner_boxes(KEY, (side, 20)), outer_boxes(KEY, (side, 20))):
        start, end = boxes.start[..., 0], (boxes.start + boxes.edge)[..., 0]
        assert boxes.edge.min() >= 1 and start.min() == margin and end.max() == side - margin
        assert boxes.start[..., 1].min() == 3
