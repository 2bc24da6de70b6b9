"""Masks hide just the share asked for, evenly; cut-out takes boxes until its share is gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from medprior.errors import SettingsError
from medprior.views.cutting import EDGES, cut_out
from medprior.views.draws import Key
from medprior.views.masking import mask_blocks, mask_channels

ROWS = 2000
KEY = Key(0, 0, torch.arange(ROWS), 0)


@pytest.mark.parametrize(
    ("channels", "ratio", "count"), [(48, 0.6, 28), (100, 0.29, 29), (10, 0.7, 7), (5, 0, 0), (5, 1, 5)]
)
@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_just_the_specified_channels_are_masked(channels, ratio, count, scope):
    tokens = torch.rand(20, channels, 3, 3, generator=torch.Generator().manual_seed(0)) + 1
    masked = mask_channels(tokens, Key(0, 0, torch.arange(20), 0), ratio, scope)
    hidden = (masked == 0).flatten(2)
    assert torch.equal(hidden.all(dim=2), hidden.any(dim=2))
    assert (hidden.all(dim=2).sum(dim=1) == count).all()
    assert torch.equal(masked[masked != 0], tokens[masked != 0])


def test_all_channels_are_as_likely_to_be_masked_each_with_each():
    hidden = mask_channels(torch.ones(ROWS, 12, 1), KEY, 0.5)[..., 0] == 0
    assert stats.chisquare(hidden.sum(dim=0)).pvalue > 1e-3
    # Of six in twelve, two given channels are both hidden with odds of 5 in 22.
    together = (hidden[:, :1] & hidden[:, 1:]).sum(dim=0) / ROWS
    assert (together - 5 / 22).abs().max() < 0.04


def test_a_batch_may_share_its_channels():
    tokens = torch.ones(30, 48, 2, 2)
    shared = mask_channels(tokens, Key(0, 0, torch.arange(30), 0), scope="batch")
    assert torch.equal(shared, shared[:1].expand_as(shared))
    assert torch.equal(shared[:1], mask_channels(tokens, Key(0, 0, torch.arange(9, 39), 0), scope="batch")[:1])
    own = mask_channels(tokens, Key(0, 0, torch.arange(30), 0))
    assert len(own[..., 0, 0].unique(dim=0)) == 30


def test_gradients_pass_the_channels_that_are_kept():
    tokens = torch.rand(3, 8, 4, requires_grad=True)
    masked = mask_channels(tokens, Key(0, 0, torch.arange(3), 0), 0.5)
    masked.sum().backward()
    assert torch.equal(tokens.grad, (masked != 0).float())


@pytest.mark.parametrize(
    ("size", "block", "ratio", "grid", "count"),
    [
        ((32, 48), 16, 0.75, (2, 3), 5),
        ((16, 32, 16), 8, 0.6, (2, 4, 2), 10),
        ((20, 30), (8, 16), 0.5, (3, 2), 3),
        ((5, 6, 7), 1, 0.1, (5, 6, 7), 21),
        ((8, 8), 4, 0.0, (2, 2), 0),
        ((8, 8), 4, 1.0, (2, 2), 4),
    ],
)
def test_just_the_specified_blocks_are_hidden(size, block, ratio, grid, count):
    mask = mask_blocks(Key(0, 0, torch.arange(50), 0), size, block, ratio)
    assert mask.shape == (50, 1, *size) and mask.dtype == torch.bool
    steps = [block] * len(size) if isinstance(block, int) else block
    corners = mask[(slice(None), 0, *(slice(None, None, step) for step in steps))]
    assert corners.shape == (50, *grid) and (corners.flatten(1).sum(dim=1) == count).all()
    whole = corners.numpy()
    for axis, (step, side) in enumerate(zip(steps, size, strict=True), start=1):
        whole = whole.repeat(step, axis).take(range(side), axis)
    np.testing.assert_array_equal(mask[:, 0], whole)


def test_all_blocks_are_as_likely_to_be_hidden():
    hidden = mask_blocks(KEY, (4, 4), 1, 0.5).flatten(1)
    assert stats.chisquare(hidden.sum(dim=0)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("arguments", "where"),
    [(((8, 8), 4, 1.5), "ratio"), (((8, 8), 0, 0.5), "block"), (((8, 8), (4, 4, 4), 0.5), "block")],
)
def test_what_cannot_be_hidden_is_refused(arguments, where):
    with pytest.raises(SettingsError) as refused:
        mask_blocks(KEY, *arguments)
    assert refused.value.where == where
    with pytest.raises(SettingsError, match="of 4 cannot be hidden"):
        mask_channels(torch.ones(ROWS, 4), KEY, -0.1)


@pytest.mark.parametrize("size", [(48, 40), (40, 32, 24)])
def test_boxes_are_cut_until_the_share_is_gone(size):
    pixels, key = torch.full((80, 1, *size), 2.0), Key(0, 0, torch.arange(80), 0)
    gone = (cut_out(pixels, key) < 2).flatten(1).float().mean(dim=1).numpy()
    # Overlaps count twice, so that a little less than the drawn share is gone; the last box may go beyond it.
    largest = np.prod([int(side * EDGES[1]) for side in size]) / np.prod(size)
    assert gone.min() > 0 and gone.max() < 0.3 + largest
    rest = 1 - np.exp(-np.linspace(0, 0.3, 1000))
    assert abs(gone.mean() - rest.mean()) < largest and gone.std() > 0.06


def test_the_greatest_share_is_reached_before_the_boxes_end():
    for size in ((14, 14), (64, 64), (14, 14, 14), (96, 96, 96)):
        pixels, key = torch.full((1, 1, *size), 2.0), Key(0, 0, torch.arange(1), 0)
        assert (cut_out(pixels, key, most=0.9) < 2).any()
    pixels, key = torch.full((400, 1, 30, 30), 2.0), Key(0, 0, torch.arange(400), 0)
    assert (cut_out(pixels, key, most=0.9) < 2).flatten(1).float().mean(dim=1).max() > 0.5


def test_boxes_hold_noise_from_0_to_1_or_the_other_image():
    pixels, key = torch.full((40, 2, 40, 40), 2.0), Key(0, 0, torch.arange(40), 0)
    cut, replaced = cut_out(pixels, key), cut_out(pixels, key, other=pixels + 1)
    noise = cut[cut != 2]
    assert noise.min() >= 0 and noise.max() <= 1 and 0.1 < noise.std() < 0.2
    assert set(replaced.unique().tolist()) == {2.0, 3.0}
    assert not torch.equal(cut != 2, replaced != 2)


def test_nothing_is_cut_where_no_share_may_go():
    pixels = torch.full((40, 2, 40, 40), 2.0)
    assert torch.equal(cut_out(pixels, Key(0, 0, torch.arange(40), 0), most=0.0), pixels)
