"""Solid shapes seen by parallel rays.

The frame of the anatomy is (z, y, x) in mm: z down, y towards the back, x towards the patient's left, so that (z, x) is
the view of a frontal chest X-ray. Rays run along y. Every shape is convex along y: it answers a ray (z, x) with one
span [low, high] of y, empty where low >= high. A CT voxel takes the exact share of a span that lies in it; an X-ray is
the sum of such voxels along the ray. So both show one anatomy by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Point = tuple[float, float, float]
Box = tuple[float, float, float, float]  # z low, z high, x low, x high

TABLE_START, TABLE_STEP, TABLE_LENGTH = -320.0, 0.5, 1800
POSITIONS = TABLE_START + TABLE_STEP * np.arange(TABLE_LENGTH)


Profile = float | Floats | Mapping[float, float] | Mapping[int, float]


def table(profile: Profile) -> Floats:
    """A profile along an axis: a constant, an array over `POSITIONS`, or {mm: value} with straight lines between."""
    if isinstance(profile, Mapping):
        knots = sorted(profile.items())
        profile = np.interp(POSITIONS, [k for k, _ in knots], [v for _, v in knots])
    if isinstance(profile, np.ndarray):
        return np.asarray(profile, dtype=np.float32)
    return np.full(TABLE_LENGTH, profile, dtype=np.float32)


def cells(position: Floats) -> NDArray[np.intp]:
    """Entries of a table for positions in mm."""
    return np.asarray(np.clip((position - TABLE_START) / TABLE_STEP + 0.5, 0, TABLE_LENGTH - 1), dtype=np.intp)


def at(profile: Floats, position: float) -> float:
    """One value of a table."""
    return float(profile[cells(np.asarray(position, dtype=np.float64))])


@dataclass(frozen=True)
class Rays:
    """Parallel rays: positions `z` and `x` (R, C) in mm and their table entries."""

    z: Floats
    x: Floats
    z_cell: NDArray[np.intp]
    x_cell: NDArray[np.intp]

    def cut(self, window: tuple[slice, slice]) -> Rays:
        """The rays of a window of rows and columns."""
        return Rays(self.z[window], self.x[window], self.z_cell[window], self.x_cell[window])


def rays(z: Floats, x: Floats) -> Rays:
    """Rays through the given positions (mm)."""
    return Rays(z.astype(np.float32), x.astype(np.float32), cells(z), cells(x))


class Shape(Protocol):
    """A solid that is convex along y."""

    @property
    def box(self) -> Box:
        """Bounds in z and x, mm."""

    def span(self, rays: Rays) -> tuple[Floats, Floats]:
        """Where each ray enters and leaves: (R, C) low and high y, mm."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid at `centre` with half-axes `radii` (z, y, x); `tilt` (radians) turns it in the frontal plane."""

    centre: Point
    radii: Point
    tilt: float = 0.0

    @property
    def box(self) -> Box:
        down, across = self.reach
        return self.centre[0] - down, self.centre[0] + down, self.centre[2] - across, self.centre[2] + across

    @property
    def reach(self) -> tuple[float, float]:
        """Half-extents of its frontal shadow along z and x, mm."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        return float(np.hypot(self.radii[0] * cos, self.radii[2] * sin)), float(
            np.hypot(self.radii[0] * sin, self.radii[2] * cos)
        )

    def span(self, rays: Rays) -> tuple[Floats, Floats]:
        down, across = rays.z - np.float32(self.centre[0]), rays.x - np.float32(self.centre[2])
        cos, sin = float(np.cos(self.tilt)), float(np.sin(self.tilt))
        along, beside = (down * cos + across * sin) / self.radii[0], (across * cos - down * sin) / self.radii[2]
        half = self.radii[1] * np.sqrt(np.maximum(1 - along * along - beside * beside, 0))
        return self.centre[1] - half, self.centre[1] + half


@dataclass(frozen=True)
class Column:
    """A stack of rounded sections along z (or along x when `lying`), each given by tables over that axis.

    Attributes:
        middle, width: centre and half-width of each section across the stack (x, or z when lying), mm.
        depth_middle, depth: centre and half-depth along y, mm.
        ends: where the stack begins and ends along its axis, mm.
        squareness: 0 is an ellipse; towards 1 the section approaches a rounded square.
    """

    middle: Floats
    width: Floats
    depth_middle: Floats
    depth: Floats
    ends: tuple[float, float]
    squareness: float = 0.0
    lying: bool = False

    @property
    def box(self) -> Box:
        first, last = cells(np.asarray(self.ends, dtype=np.float64))
        used = slice(int(first), int(last) + 1)
        low, high = float((self.middle - self.width)[used].min()), float((self.middle + self.width)[used].max())
        return (low, high, *self.ends) if self.lying else (*self.ends, low, high)

    def span(self, rays: Rays) -> tuple[Floats, Floats]:
        cell, along, across = (rays.x_cell, rays.x, rays.z) if self.lying else (rays.z_cell, rays.z, rays.x)
        offset = (across - self.middle.take(cell)) / np.maximum(self.width, 1e-3).take(cell)
        square = offset * offset
        rounded = np.maximum(1 - square, 0) * (1 + self.squareness * square)
        rounded *= (along >= self.ends[0]) & (along <= self.ends[1])
        half, middle = self.depth.take(cell) * np.sqrt(rounded), self.depth_middle.take(cell)
        return middle - half, middle + half


def column(
    middle: Profile,
    width: Profile,
    depth_middle: Profile,
    depth: Profile,
    *,
    ends: tuple[float, float],
    squareness: float = 0.0,
    lying: bool = False,
) -> Column:
    """A `Column` from profiles."""
    return Column(table(middle), table(width), table(depth_middle), table(depth), ends, squareness, lying)


@dataclass(frozen=True)
class Meniscus:
    """The part of a column that lies below a fluid level `top` (mm), which climbs by `rise` towards x = `wall`."""

    column: Column
    top: float
    rise: float
    wall: float

    @property
    def box(self) -> Box:
        low, high, left, right = self.column.box
        return max(low, self.top - self.rise), high, left, right

    def span(self, rays: Rays) -> tuple[Floats, Floats]:
        low, high = self.column.span(rays)
        climb = np.clip(rays.x / self.wall, 0, 1)
        return low, np.where(rays.z > self.top - self.rise * climb**4, high, low)


def contains(shape: Shape, points: Floats) -> NDArray[np.bool_]:
    """Which points (N, 3) lie inside `shape`."""
    low, high = shape.span(rays(points[:, 0], points[:, 2]))
    low_z, high_z, low_x, high_x = shape.box
    boxed = (points[:, 0] >= low_z) & (points[:, 0] <= high_z) & (points[:, 2] >= low_x) & (points[:, 2] <= high_x)
    return np.asarray(boxed & (points[:, 1] > low) & (points[:, 1] < high))
