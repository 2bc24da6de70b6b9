"""Shapes, grids and poses: spans against formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medprior.data.phantom.extents import extent
from medprior.data.phantom.grid import Grid, Pose
from medprior.data.phantom.shapes import Column, Ellipsoid, Meniscus, Rays, column, contains, rays, table

lengths = st.floats(5, 60)
places = st.floats(-40, 40)
angles = st.floats(-1.5, 1.5)


def cube(step: float, half: float = 130.0) -> Grid:
    count = int(2 * half / step)
    return Grid((count,) * 3, (step,) * 3, (-half + step / 2,) * 3)


def filled(shape: Ellipsoid | Column | Meniscus, grid: Grid, pose: Pose) -> np.ndarray:
    """Share of every voxel (D, H, W) inside `shape`."""
    seen = grid.rays(pose)
    low, high = shape.span(seen)
    return grid.share(slice(0, grid.shape[1]), low, high).swapaxes(0, 1)


@given(st.tuples(places, places, places), st.tuples(lengths, lengths, lengths), angles)
@settings(max_examples=60, deadline=None)
def test_span_of_an_ellipsoid_solves_its_equation(centre: tuple, radii: tuple, tilt: float) -> None:
    shape = Ellipsoid(centre, radii, tilt)
    points = np.random.default_rng(0).uniform(-70, 70, (200, 3))
    low, high = shape.span(rays(points[:, 0], points[:, 2]))
    down, deep, across = (points - np.asarray(centre)).T
    along = (down * np.cos(tilt) + across * np.sin(tilt)) / radii[0]
    beside = (across * np.cos(tilt) - down * np.sin(tilt)) / radii[2]
    level = along**2 + (deep / radii[1]) ** 2 + beside**2
    clear = np.abs(level - 1) > 1e-3
    assert np.array_equal((points[:, 1] > low)[clear] & (points[:, 1] < high)[clear], level[clear] < 1)
    assert np.array_equal(contains(shape, points)[clear], level[clear] < 1)


@given(st.tuples(lengths, lengths, lengths), st.floats(-0.5, 0.5), st.floats(1.0, 9.0))
@settings(max_examples=40, deadline=None)
def test_layers_of_any_thickness_hold_the_whole_chord(radii: tuple, tilt: float, layer: float) -> None:
    shape, count = Ellipsoid((0.0, 3.0, 0.0), radii, tilt), int(200 / layer)
    grid = Grid((31, count, 31), (4.0, layer, 4.0), (-60.0, -layer * (count - 1) / 2, -60.0))
    low, high = shape.span(grid.rays(Pose()))
    share = grid.share(slice(0, count), low, high)
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-4
    np.testing.assert_allclose(share.sum(0) * layer, high - low, atol=2e-3)


def test_volume_of_a_tilted_ellipsoid() -> None:
    radii, pose = (50.0, 30.0, 20.0), Pose(0.2, (4.0, -7.0), (10.0, 0.0))
    share = filled(Ellipsoid((5.0, -4.0, 9.0), radii, 0.6), cube(2.0), pose)
    assert share.sum() * 8 == pytest.approx(4 / 3 * np.pi * np.prod(radii), rel=2e-3)


@given(angles, st.tuples(places, places), st.tuples(places, places), st.tuples(places, places, places))
@settings(deadline=None)
def test_a_pose_can_be_undone(tilt: float, shift: tuple, pivot: tuple, point: tuple) -> None:
    pose = Pose(tilt, shift, pivot)
    seen = pose.to_scan(point)
    z, x = pose.to_anatomy(np.asarray(seen[0]), np.asarray(seen[2]))
    np.testing.assert_allclose([z, seen[1], x], point, atol=1e-9)


@pytest.mark.parametrize(
    "shape",
    [
        Ellipsoid((5.0, -4.0, 9.0), (50.0, 30.0, 20.0), 0.6),
        column({-60: 4.0, 60: 12.0}, {-60: 20.0, 0: 40.0, 60: 15.0}, 5.0, 30.0, ends=(-60.0, 60.0), squareness=0.4),
    ],
)
def test_extent_is_where_the_painted_shape_ends(shape: Ellipsoid | Column) -> None:
    grid, pose = cube(1.0), Pose(0.15, (4.0, -7.0), (10.0, 0.0))
    inside = np.argwhere(filled(shape, grid, pose) > 0.01)
    low, high = (grid.voxel(corner) for corner in extent(shape, pose))
    np.testing.assert_allclose(inside.min(0), low, atol=1.2)
    np.testing.assert_allclose(inside.max(0), high, atol=1.2)


def test_windows_never_cut_a_shape() -> None:
    grid, pose, shape = (
        cube(5.0),
        Pose(0.3, (12.0, -20.0), (30.0, 5.0)),
        Ellipsoid((30.0, 0.0, -25.0), (60, 20, 25), 0.7),
    )
    low, high = shape.span(grid.rays(pose))
    outside = np.ones_like(low, dtype=bool)
    outside[grid.window(shape.box, pose)] = False
    assert (high > low).any()
    assert not (high > low)[outside].any()


def test_a_meniscus_is_level_in_the_middle_and_climbs_at_the_wall() -> None:
    base = column(50.0, 40.0, 0.0, 30.0, ends=(0.0, 100.0), squareness=0.4)
    fluid = Meniscus(base, top=70.0, rise=25.0, wall=90.0)

    def wet(z: float, x: float) -> bool:
        low, high = fluid.span(rays(np.array([[z]]), np.array([[x]])))
        return bool((high > low).all())

    assert not wet(68.0, 20.0)
    assert wet(71.0, 20.0)
    assert wet(55.0, 88.0)
    assert not wet(40.0, 88.0)


def test_a_table_takes_constants_arrays_and_knots_in_any_order() -> None:
    assert table(3.0)[7] == 3
    assert np.array_equal(table({10: 1.0, -10: 5.0}), table({-10: 5.0, 10: 1.0}))
    assert isinstance(rays(np.zeros((2, 3)), np.zeros((2, 3))), Rays)
