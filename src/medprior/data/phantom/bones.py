"""Spine, ribs, clavicles, shoulder blades, breastbone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medprior.data.phantom.build import Build
from medprior.data.phantom.organs import Part, lean
from medprior.data.phantom.shapes import POSITIONS, Box, Column, Ellipsoid, Floats, Point, Rays, at, column, table

BODY_DEPTH = 58.0  # y of the centre of the vertebral bodies of the chest, mm
RIB_STEP = 0.02  # mm between entries of the rib table: fine, because bands are differences of entries
RIB_POSITIONS = np.arange(-120.0, 420.0, RIB_STEP)


@dataclass(frozen=True)
class Ribs:
    """All ribs at once: the wall between two nested cages, cut by parallel sloping bands.

    A point of the wall lies in the band of its height carried back along the slope to `back`:
    v = z - slope * (back - y). `amount` is the running integral over v of the bone that the bands hold, so that what a
    ray finds between two depths is a difference of two entries, whatever the number of ribs.
    """

    outer: Column
    inner: Column
    slope: float
    back: float
    thickness: float
    amount: Floats
    cartilage: Floats

    @property
    def box(self) -> Box:
        return self.outer.box

    def walls(self, rays: Rays) -> list[tuple[Floats, Floats, Floats]]:
        """The front and the back wall: low y, high y, share of bone (R, C)."""
        cartilage, spine = self.cartilage.take(rays.z_cell), self.outer.middle.take(rays.z_cell)
        bony = np.clip((np.abs(rays.x) - cartilage) / 12 + 0.5, 0, 1)
        joints = np.clip((np.abs(rays.x - spine) - 16) / 6, 0, 1)
        (front, back), (inside, behind) = self.outer.span(rays), self.inner.span(rays)
        return [(front, inside, bony), (behind, back, joints)]

    def held(self, z: Floats, y: Floats, low: Floats, high: Floats) -> Floats:
        """Bone met along a ray up to depth `y` within the wall [low, high], mm of it; only differences have a meaning.

        A rib is upright in its wall: where the ray crosses the wall squarely it stays in one band; where it runs along
        the wall, at the sides of the chest, it passes from band to band.
        """
        middle, length = (low + high) / 2, np.maximum(high - low, 1e-3)
        along = np.maximum(1 - self.thickness / length, 0.2)
        carried = z - self.slope * (self.back - middle - along * (y - middle))
        entry = ((carried - np.float32(RIB_POSITIONS[0])) * np.float32(1 / RIB_STEP)).astype(np.int32)
        return np.asarray(self.amount.take(entry, mode="clip") / (self.slope * along), dtype=np.float32)


def vertebrae(build: Build) -> list[float]:
    """Centres of the vertebral bodies along z: the sixth and seventh of the neck, T1 to T12, L1 to L3."""
    share = build.lung_height / 262
    heights = np.array([15, 16, 17.5, *np.linspace(18.5, 26, 12), 28, 29]) * share
    return [float(z) for z in -46 * share + np.cumsum(heights)]


def spine(build: Build) -> list[Part]:
    """Vertebral bodies with dense end plates, discs between them, pedicles and spinous processes behind."""
    centres = vertebrae(build)
    pitch = np.gradient(np.asarray(centres))
    offset = np.min(np.abs(POSITIONS[:, None] - np.asarray(centres)) / pitch, axis=1)
    ends, middle = (centres[0] - 12, centres[-1] + 14), lean(build) + build.turn * BODY_DEPTH
    depth, hu = spine_depth(), 250 * build.bone
    waist = np.interp(offset, [0, 0.42], [0.92, 1.06]) * table({-40: 13.5, 300: 21})
    bodies = np.interp(offset, [0, 0.3, 0.36, 0.42, 0.46], [0.62, 0.68, 1.0, 1.0, 0.1])
    thorns = np.interp(offset, [0, 0.2, 0.34], [1, 1, 0])
    knots = np.interp(offset, [0, 0.16, 0.24], [1, 1, 0])
    return [
        Part(column(middle, waist, depth, 14.5, ends=ends, squareness=0.6), hu, "spine", True, table(bodies)),
        Part(column(middle, 3.6, depth + 37, 9.0, ends=ends), 0.9 * hu, "spine", True, table(thorns)),
        *(
            Part(column(middle + side * 12.5, 4.2, depth + 22, 8.0, ends=ends), 1.15 * hu, "spine", True, table(knots))
            for side in (-1, 1)
        ),
    ]


def spine_depth() -> Floats:
    """y of the centres of the vertebral bodies over z: the neck bends forward."""
    return table({-70: BODY_DEPTH - 22, 40: BODY_DEPTH})


def ribs(build: Build) -> Ribs:
    """Twelve ribs, dense rims around marrow; the last two are faint, and the front ends are cartilage."""
    density = np.zeros_like(RIB_POSITIONS)
    for number, centre in enumerate(vertebrae(build)[2:14]):
        half = 4.8 + 0.4 * min(number, 4)
        first, last = np.searchsorted(RIB_POSITIONS, [centre + 2 - 1.12 * half, centre + 2 + 1.12 * half])
        offset = np.abs(RIB_POSITIONS[first:last] - (centre + 2)) / half
        rib = np.interp(offset, [0, 0.55, 0.8, 0.92, 1.12], [0.72, 0.78, 1, 0.95, 0])
        density[first:last] = np.maximum(density[first:last], rib * (1, 0.6, 0.35)[max(number - 9, 0)])
    base, wide = build.lung_height, build.half_width
    return Ribs(
        outer=_cage(build, 6.5, 11),
        inner=_cage(build, 1.5, 1.5),
        slope=build.rib_slope,
        back=build.half_depth + 4,
        thickness=9.5,
        amount=np.asarray(np.cumsum(density) * RIB_STEP, dtype=np.float32),
        cartilage=table({0: 0.22 * wide, 0.5 * base: 0.42 * wide, base: 0.75 * wide, base + 70: 1.2 * wide}),
    )


def _cage(build: Build, wall: float, thick: float) -> Column:
    """A shell around both lungs, `wall` mm outside them at the sides and `thick` mm in front and behind."""
    share = np.clip((POSITIONS + 16) / (build.lung_height + 16), 0, 1)
    width = (build.half_width + wall) * (0.2 + 0.8 * (1 - np.maximum(1 - share / 0.9, 0) ** 2.6) ** 0.56)
    depth = (build.half_depth + thick) * (0.3 + 0.7 * np.sqrt(1 - np.maximum(1 - share / 0.6, 0) ** 2.2))
    return column(lean(build), width, 24 * (1 - share), depth, ends=(-16.0, build.lung_height + 160), squareness=0.75)


def girdle(build: Build) -> list[Part]:
    """Clavicles, shoulder blades, heads of the upper arms, breastbone."""
    paired = [bone(build, side) for side in (-1, 1) for bone in (_clavicle, _scapula, _humerus)]
    return [*paired, _sternum(build)]


def clavicle_ends(build: Build, side: int) -> Point:
    """Inner end of a clavicle (z, y, x)."""
    return 0.13 * build.lung_height, -0.72 * build.half_depth, side * 20 - build.turn * 62


def _clavicle(build: Build, side: int) -> Part:
    z, front, inner = clavicle_ends(build, side)
    outer = side * (build.half_width + 22)
    places = [inner + share * (outer - inner) for share in (0, 0.25, 0.6, 1)]
    course = np.convolve(table(dict(zip(places, (z, z - 5, z - 24, z - 24), strict=True))), np.ones(61) / 61, "same")
    depths = dict(zip(places, (front, front - 6, 0.45 * front, 0.0), strict=True))
    ends = (min(inner, outer), max(inner, outer))
    return Part(column(course, 5.6, depths, 5.6, ends=ends, squareness=0.2, lying=True), 560 * build.bone, adds=True)


def _scapula(build: Build, side: int) -> Part:
    z, inner, outer = 0.13 * build.lung_height, 0.9 * build.half_width, build.half_width + 26
    places = [side * inner, side * (inner + 8), side * outer]
    middle, width, depth = (
        dict(zip(places, values, strict=True)) for values in ((z + 46, z + 46, z + 6), (34, 52, 15), (62, 60, 34))
    )
    blade = column(middle, width, depth, 2.2, ends=(min(places), max(places)), squareness=0.9, lying=True)
    return Part(blade, 650 * build.bone, adds=True)


def _humerus(build: Build, side: int) -> Part:
    centre = (0.13 * build.lung_height + 2, 10.0, side * (build.half_width + 40))
    return Part(Ellipsoid(centre, (22, 20, 22)), 300 * build.bone, adds=True)


def _sternum(build: Build) -> Part:
    low, high = 0.13 * build.lung_height, 0.68 * build.lung_height
    front = table({low: -0.66 * build.half_depth, high: -build.half_depth - 4})
    width = {low: 26, low + 40: 20, low + 50: 15}
    shape = column(build.turn * front, width, front, 5.0, ends=(low, high), squareness=0.5)
    return Part(shape, 170 * build.bone, adds=True)


def vertebra_landmarks(build: Build) -> dict[str, Point]:
    """Centres of the bodies of T1 to T12 (z, y, x)."""
    course, depth = lean(build) + build.turn * BODY_DEPTH, spine_depth()
    chest = vertebrae(build)[2:14]
    return {f"vertebra T{number}": (z, at(depth, z), at(course, z)) for number, z in enumerate(chest, start=1)}
