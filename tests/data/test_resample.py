"""Another grid covers the same box of the patient; labels are picked, never mixed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medprior.data.store.letterbox import resize
from medprior.data.volumestore.resample import Grid, nearest, regrid

sides = st.tuples(*[st.integers(1, 40)] * 3)
steps = st.tuples(*[st.floats(0.2, 8.0)] * 3)


def place(grid: Grid, index: np.ndarray) -> np.ndarray:
    assert grid.affine is not None
    affine = np.array(grid.affine).reshape(3, 4)
    return affine[:, :3] @ index + affine[:, 3]


def oblique(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int) -> Grid:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.concatenate([turn * spacing, rng.normal(0, 100, (3, 1))], axis=1)
    return Grid(shape, spacing, tuple(affine.ravel().tolist()))


@given(sides, steps, st.one_of(st.floats(0.3, 5.0), steps), st.integers(0, 2**20))
def test_the_box_stays_where_it_was(
    shape: tuple[int, ...], spacing: tuple[float, ...], target: float | tuple[float, float, float], seed: int
) -> None:
    own = oblique(shape, spacing, seed)
    new = regrid(own, target)
    assert new.spacing is not None
    for corner in np.ndindex(2, 2, 2):
        before = place(own, np.array(corner) * own.shape - 0.5)
        after = place(new, np.array(corner) * new.shape - 0.5)
        np.testing.assert_allclose(after, before, atol=1e-6)
    extent = np.array(own.shape) * own.spacing
    np.testing.assert_allclose(np.array(new.shape) * new.spacing, extent)
    columns = np.array(new.affine).reshape(3, 4)[:, :3]
    np.testing.assert_allclose(np.linalg.norm(columns, axis=0), new.spacing, rtol=1e-6)
    for n, mm, ask, was in zip(new.shape, new.spacing, np.broadcast_to(target, 3), own.spacing, strict=True):
        thick = isinstance(target, float) and was > 3 * ask
        assert mm == was if thick else n == 1 or abs(n * mm - n * ask) <= ask * (0.5 + 1e-9)


def test_thick_slices_are_not_multiplied_unless_asked_for() -> None:
    grid = Grid((20, 100, 100), (5.0, 0.7, 0.7), None)
    assert regrid(grid, 1.0).shape == (20, 70, 70)
    assert regrid(grid, (1.0, 1.0, 1.0)).shape == (100, 70, 70)
    assert regrid(grid, 2.0).shape == (50, 35, 35), "2.5 times as coarse is not thick"
    assert regrid(grid, 10.0).shape == (10, 7, 7)


def test_without_target_or_spacing_nothing_changes() -> None:
    known, unknown = Grid((5, 6, 7), (1.0, 1.0, 1.0), None), Grid((5, 6, 7), None, None)
    assert regrid(known, None) is known
    assert regrid(unknown, 2.0) is unknown
    assert regrid(known, 1.05) is known, "less than half a voxel on every axis"


@given(sides, sides)
def test_labels_are_those_at_the_centres(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    labels = np.arange(np.prod(before)).reshape(before)
    picked = nearest(labels, after)
    assert picked.shape == after
    if before == after:
        np.testing.assert_array_equal(picked, labels)
    for at in [(0, 0, 0), tuple(n - 1 for n in after), tuple(n // 2 for n in after)]:
        source = tuple(int((i + 0.5) * b / a) for i, a, b in zip(at, after, before, strict=True))
        assert picked[at] == labels[source]


@pytest.mark.parametrize("after", [(12, 7, 9), (6, 7, 4), (30, 30, 30)])
def test_labels_and_grey_values_stay_together(after: tuple[int, ...]) -> None:
    """The centre of mass of a ball does not move by a third of a voxel between the two."""
    d, h, w = np.ogrid[:24, :28, :18]
    ball = (((d - 11) / 8) ** 2 + ((h - 15) / 9) ** 2 + ((w - 8) / 6) ** 2 < 1).astype(np.float32)
    grey, labels = resize(ball[None], after)[0], nearest(ball, after)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in after], indexing="ij"))
    centres = [(grid * values).reshape(3, -1).sum(axis=1) / values.sum() for values in (grey, labels)]
    assert np.abs(centres[0] - centres[1]).max() < 1 / 3
