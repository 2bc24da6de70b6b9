"""Local shuffling: pixels are moved, never made; the last window shows; windows and permutations as specified."""

from __future__ import annotations

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy import stats

from medprior.errors import SettingsError
from medprior.views.covering import Cover, last_covering
from medprior.views.draws import Key
from medprior.views.shuffling import DENSITY, draw_windows, longest_edges, shuffle_locally

CASES = [((40, 64), 200), ((130, 70), 300), ((24, 30, 20), 400), ((50, 14, 90), 300)]


def numbered(batch: int, size: tuple[int, ...]) -> torch.Tensor:
    """Each pixel holds its own number, so that a shuffled image tells where each came from."""
    return torch.arange(float(np.prod(size))).view(1, 1, *size).expand(batch, 1, *size)


def boxes(key: Key, size: tuple[int, ...], count: int, row: int) -> list[tuple[slice, ...]]:
    """The windows of a row as slices."""
    windows = draw_windows(key, size, longest_edges(size), count)
    drawn = zip(windows.start[row].T.tolist(), windows.edge[row].T.tolist(), strict=True)
    return [tuple(slice(s, s + e) for s, e in zip(start, edge, strict=True)) for start, edge in drawn]


def test_few_blocks_cover_every_interval_and_nothing_else():
    for longest in range(1, 60):
        cover = Cover.of(longest)
        starts, edges = torch.full((1, longest), 7), torch.arange(1, longest + 1).unsqueeze(0)
        corners = torch.stack(cover.corners(starts, edges, 1000, 1), dim=-1)[0]
        for edge, found in zip(range(1, longest + 1), corners.tolist(), strict=True):
            blocks = [(place % 1000, cover.blocks[place // 1000]) for place in found]
            covered = {start + i for start, length in blocks for i in range(length)}
            assert covered == set(range(7, 7 + edge))


@pytest.mark.parametrize(("size", "count"), CASES)
def test_the_last_window_that_covers_a_pixel_is_found(size, count):
    key = Key(0, 0, torch.arange(3), 0)
    longest = longest_edges(size)
    happened = torch.tensor([True, False, True])
    found = last_covering(draw_windows(key, size, longest, count), size, longest, happened)
    for row in range(3):
        expected = np.zeros(size)
        for number, box in enumerate(boxes(key, size, count, row) if happened[row] else [], start=1):
            expected[box] = number
        np.testing.assert_array_equal(found[row], expected)


@pytest.mark.parametrize(("size", "count"), CASES)
def test_each_pixel_comes_from_the_last_window_and_no_pixel_twice_into_one(size, count):
    key = Key(0, 0, torch.arange(3), 0)
    came = shuffle_locally(numbered(3, size), key, 1.0, density=count / np.prod(size))[:, 0].numpy().astype(int)
    for row in range(3):
        last, windows = np.zeros(size, int), boxes(key, size, count, row)
        for number, box in enumerate(windows, start=1):
            last[box] = number
        own = np.arange(came[row].size).reshape(size)
        np.testing.assert_array_equal(came[row][last == 0], own[last == 0])
        for number, box in enumerate(windows, start=1):
            shown = came[row][last == number]
            assert len(set(shown)) == len(shown) and set(shown) <= set(own[box].ravel())


@pytest.mark.parametrize("size", [(60, 70), (40, 50, 30)])
def test_one_window_is_a_permutation_of_its_region(size):
    key = Key(0, 0, torch.arange(60), 0)
    came = shuffle_locally(numbered(60, size), key, 1.0, density=1e-9)[:, 0].numpy()
    own = numbered(1, size)[0, 0].numpy()
    for row in range(60):
        (box,) = boxes(key, size, 1, row)
        outside = np.ones(size, bool)
        outside[box] = False
        assert np.array_equal(np.sort(came[row][box], axis=None), np.sort(own[box], axis=None))
        assert np.array_equal(came[row][outside], own[outside])


def test_channels_move_together():
    pixels = torch.cat([numbered(4, (30, 40)), -2 * numbered(4, (30, 40))], dim=1)
    moved = shuffle_locally(pixels, Key(0, 0, torch.arange(4), 0), 1.0)
    assert torch.equal(moved[:, 1], -2 * moved[:, 0]) and not torch.equal(moved, pixels)


def orders_of(key: Key, size: tuple[int, ...], edges: tuple[int, ...]) -> list[tuple[int, ...]]:
    """How the one window of each row is permuted, of those rows where it has these edges."""
    longest, rows = longest_edges(size), len(key.rows)
    windows = draw_windows(key, size, longest, 1)
    came = shuffle_locally(numbered(rows, size), key, 1.0, density=1e-9)[:, 0]
    found = []
    for row in (windows.edge[..., 0] == torch.tensor(edges)).all(dim=1).nonzero().flatten().tolist():
        start = windows.start[row, :, 0].tolist()
        box = tuple(slice(s, s + e) for s, e in zip(start, edges, strict=True))
        found.append(tuple(came[row][box].flatten().argsort().tolist()))
    return found


def test_every_permutation_of_a_window_is_as_likely():
    # The orders of a step are shared by its windows, so that each step gives one permutation to the sample.
    steps = [orders_of(Key(0, step, torch.arange(8), 0), (20, 20), (2, 2)) for step in range(300)]
    seen = [orders[0] for orders in steps if orders]
    assert len(seen) > 220 and stats.chisquare([seen.count(order) for order in permutations(range(4))]).pvalue > 1e-3


def test_windows_of_one_step_seldom_share_their_permutation():
    # Of 6 pixels: 6 shifts and 16 pairs of orders, and by chance any two of 720 permutations are the same.
    pairs = shared = 0
    for step in range(20):
        found = orders_of(Key(0, step, torch.arange(500), 0), (24, 30), (2, 3))
        pairs += len(found) * (len(found) - 1) // 2
        shared += sum(n * (n - 1) // 2 for n in Counter(found).values())
    assert 0.6 < shared / pairs / (1 / 96 + 1 / 720) < 1.6


def test_in_one_step_a_pixel_goes_anywhere_in_its_window():
    size, rows = (10, 30, 20), 3000
    key = Key(0, 0, torch.arange(rows), 0)
    windows = draw_windows(key, size, (1, 3, 2), 1)
    whole = (windows.edge[..., 0] == torch.tensor([1, 3, 2])).all(dim=1)
    start = windows.start[whole, :, 0].long()
    came = shuffle_locally(numbered(rows, size), key, 1.0, density=1e-9)[whole, 0]
    for down, across in product(range(3), range(2)):
        place = came[torch.arange(len(came)), start[:, 0], start[:, 1] + down, start[:, 2] + across].long()
        moved = torch.stack([place // 20 % 30 - start[:, 1], place % 20 - start[:, 2]])
        counted = np.bincount(moved[0] * 2 + moved[1], minlength=6)
        assert len(counted) == 6 and stats.chisquare(counted).pvalue > 1e-3


def test_edges_and_places_are_uniform():
    size = (64, 64, 32)
    windows = draw_windows(Key(0, 0, torch.arange(4), 0), size, longest_edges(size), 10_000)
    for axis, (side, longest) in enumerate(zip(size, (6, 6, 3), strict=True)):
        edge, start = (values[:, axis].flatten().numpy() for values in (windows.edge, windows.start))
        assert stats.chisquare(np.bincount(edge, minlength=longest + 1)[1:]).pvalue > 1e-3
        for each in range(1, longest + 1):
            places = np.bincount(start[edge == each])
            assert len(places) == side - each + 1 and stats.chisquare(places).pvalue > 1e-3
    flat = torch.stack([windows.edge[:, 0], windows.edge[:, 1], windows.start[:, 0], windows.start[:, 2]])
    assert (
        np.abs(np.corrcoef(flat.flatten(1).numpy()) - np.eye(4)).max() < 0.02 + 0.05 * (np.eye(4)[[2, 1, 0, 3]]).max()
    )


def test_as_many_samples_are_shuffled_as_asked():
    moved = shuffle_locally(numbered(4000, (14, 20)), Key(0, 0, torch.arange(4000), 0), 0.5)
    changed = (moved != numbered(4000, (14, 20))).flatten(1).any(dim=1).sum()
    assert stats.binomtest(int(changed), 4000, 0.5).pvalue > 1e-3


def test_the_published_number_of_windows_belongs_to_the_published_cube():
    assert round(DENSITY * 64 * 64 * 32) == 10_000
    assert longest_edges((64, 64, 32)) == (6, 6, 3) and longest_edges((70, 90, 8)) == (7, 9, 1)
    key = Key(0, 0, torch.arange(2), 0)
    came = shuffle_locally(numbered(2, (64, 64, 32)), key, 1.0)
    # How many windows cover a pixel inside, and how often one that is covered stays by chance: once in a window.
    cover = 10_000 * np.prod(
        [np.mean([e / (n - e + 1) for e in range(1, m + 1)]) for n, m in ((64, 6), (64, 6), (32, 3))]
    )
    expected = np.exp(-cover) + (1 - np.exp(-cover)) / (3.5 * 3.5 * 2)
    untouched = (came == numbered(2, (64, 64, 32)))[:, :, 6:-6, 6:-6, 3:-3].float().mean()
    assert abs(untouched - expected) < 0.005


def test_windows_that_are_too_large_are_refused():
    with pytest.raises(SettingsError, match="17 x 17 x 17") as refused:
        shuffle_locally(torch.zeros(1, 1, 170, 170, 170), Key(0, 0, torch.arange(1), 0))
    assert "4096" in str(refused.value)
