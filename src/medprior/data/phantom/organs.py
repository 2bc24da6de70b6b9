"""The soft parts of the thorax, from the numbers of a patient. Plain numbers are mm of an average adult."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medprior.data.phantom.build import Build
from medprior.data.phantom.shapes import POSITIONS, Column, Ellipsoid, Floats, Meniscus, Shape, at, column, table

ORGANS = (
    "background",
    "body",
    "right lung",
    "left lung",
    "heart",
    "mediastinum",
    "airways",
    "abdomen",
    "spine",
    "ribs",
    "effusion",
)
AIR, FAT, GLAND, SOFT, BLOOD, FLUID, LIVER = -1000.0, -100.0, -40.0, 40.0, 45.0, 12.0, 52.0
SIDES = {"right": -1, "left": 1}


@dataclass(frozen=True)
class Part:
    """A shape painted with `hu`: in place of what was there or, with `adds`, on top of it; `weight` is over z."""

    shape: Shape
    hu: float
    organ: str = ""
    adds: bool = False
    weight: Floats | None = None


def lung(build: Build, side: int) -> Column:
    """One lung with its diaphragm still flat: narrow apex, full base, ending at the costophrenic angle."""
    share = np.clip(POSITIONS / build.lung_height, 0, 1)
    outer = build.half_width * (0.36 + 0.64 * (1 - np.maximum(1 - share / 0.88, 0) ** 2.7) ** 0.56)
    inner = build.half_width * (0.11 + 0.25 * np.maximum(1 - share / 0.3, 0) ** 2)
    depth = build.half_depth * np.sqrt(1 - np.maximum(1 - share / 0.62, 0) ** 2.2)
    depth_middle = 24 * (1 - share)
    middle = side * (outer + inner) / 2 + lean(build) + build.turn * depth_middle
    width = np.maximum(outer - inner, 0) / 2
    return column(middle, width, depth_middle, depth, ends=(0.0, build.lung_height), squareness=0.2)


def dome(build: Build, side: int, lung: Column) -> Column:
    """The diaphragm of one side: its sections grow to that of the lung at the costophrenic angle and shut it there."""
    base, height = build.lung_height, build.domes[0 if side < 0 else 1]
    grown = np.sqrt(1 - np.clip((base - POSITIONS) / height, 0, 1) ** 1.8)
    middle = at(lung.middle, base) - side * 0.18 * build.half_width * (1 - grown)
    depth_middle = at(lung.depth_middle, base) - 14 * (1 - grown)
    width, depth = at(lung.width, base) * grown, at(lung.depth, base) * grown**0.8
    return column(middle, width, depth_middle, depth, ends=(base - height, base), squareness=lung.squareness)


def lean(build: Build) -> Floats:
    """Sideways course of the spine, mm over z."""
    return np.asarray(build.lean * np.sin(POSITIONS / 110), dtype=np.float32)


def body(build: Build) -> list[Part]:
    """Skin and fat around muscle: trunk, neck and shoulders; breasts in women."""
    wall = build.fat + build.muscle
    parts = [Part(shape, FAT, "body") for shape in _outline(build, wall)]
    if build.sex == "F":
        parts += [Part(_breast(build, side), GLAND, "body") for side in (-1, 1)]
    return parts + [Part(shape, SOFT, "body") for shape in _outline(build, build.muscle)]


def _outline(build: Build, wall: float) -> list[Column]:
    """Trunk and shoulders `wall` mm outside the lungs."""
    width, depth, base, neck = build.half_width + wall, build.half_depth + wall, build.lung_height, 46 + 0.6 * wall
    across = {0.0: 0.7, 60.0: 0.92, base: 1.0, base + 80: 0.97}
    shoulders = {-22: 0.86, 0: 1.08, 25: 1.2, 60: 1.2, 95: 1.1, 130: 0.97}
    trunk = column(
        0.0,
        {z: share * width for z, share in across.items()},
        {0: 20, 120: 3},
        {0: 0.68 * depth, 70: 0.93 * depth, base: depth},
        ends=(0.0, 500.0),
        squareness=0.6,
    )
    above = column(
        0.0,
        {-85: neck, -62: 1.08 * neck, -42: 0.5 * width + 8} | {z: share * width for z, share in shoulders.items()},
        {-85: 26, 0: 20, 130: 4},
        {-85: neck, -40: 1.05 * neck, 0: 0.68 * depth, 60: 0.7 * depth, 130: 0.6 * depth},
        ends=(-300.0, 130.0),
        squareness=0.3,
    )
    return [trunk, above]


def _breast(build: Build, side: int) -> Ellipsoid:
    size = 44 + 0.9 * build.fat
    front = -0.8 * (build.half_depth + build.fat + build.muscle)
    centre = (0.72 * build.lung_height, front, side * 0.6 * build.half_width)
    return Ellipsoid(centre, (1.35 * size, 0.72 * size, 1.1 * size), side * 0.3)


def heart(build: Build) -> dict[str, Ellipsoid]:
    """Left ventricle, right atrium and base of the heart; the first carries the apex."""
    size, low = build.heart, build.lung_height - 0.31 * sum(build.domes)
    y, x = -28.0, -28 * build.turn

    def chamber(up: float, back: float, left: float, radii: tuple[float, float, float], tilt: float = 0) -> Ellipsoid:
        long, deep, wide = (size * r for r in radii)
        return Ellipsoid((low - up * size, y + back, x + left * size), (long, deep, wide), tilt)

    return {
        "ventricle": chamber(34, 0, 24, (68, 46, 44), build.heart_tilt),
        "atrium": chamber(40, 6, -12, (44, 40, 30)),
        "outflow": chamber(72, 4, 8, (46, 34, 30)),
    }


def mediastinum(build: Build, carina: float) -> list[Shape]:
    """What lies between the lungs above and behind the heart: great vessels, oesophagus, hila."""
    base, turn, aorta, course = build.lung_height, build.turn, build.aorta, lean(build)
    centre = column(
        course,
        {-60: 34, 0: 32, 40: 31, carina: 25, base: 17},
        8.0,
        {-60: 40, 0: 52, base: 74},
        ends=(-300.0, base),
        squareness=0.1,
    )
    bulge = table({carina - 20: 17, carina + 60: 15, base: 8})
    descending = column(bulge + course + turn * 45, 0.8 * aorta, 46.0, 0.8 * aorta, ends=(carina - 20, base + 60))
    return [
        centre,
        descending,
        Ellipsoid((carina - 18, 8, 19 + turn * 8), (1.15 * aorta, 2.2 * aorta, 1.15 * aorta)),  # arch of the aorta
        Ellipsoid((carina + 4, -30, -14 - turn * 30), (46, 17, 0.95 * aorta + 4)),  # ascending aorta
        Ellipsoid((carina + 16, -18, 24 - turn * 18), (21, 19, 18)),  # pulmonary trunk
        Ellipsoid((carina + 26, 4, -36), (20, 13, 11), -0.35),  # right hilum
        Ellipsoid((carina + 16, 4, 39), (17, 13, 11), 0.3),  # left hilum
    ]


def airways(build: Build, carina: float) -> list[Column]:
    """Trachea and main bronchi, which part at the carina; the trachea comes first."""
    radius, pushed = (9.5 if build.sex == "M" else 8.5), 2 + 0.1 * (build.age - 20)
    course = table({-60: 0, 20: 0.3 * pushed, carina - 10: 0.2 * pushed})
    trachea = column(course, radius, {-60: 4, 0: 6, carina: 16}, radius, ends=(-300.0, carina))
    start, narrow = at(course, carina), 0.74 * radius
    bronchi = [
        column(
            {carina: start, carina + length: start + slope * length},
            narrow * float(np.hypot(1, slope)),
            16.0,
            narrow,
            ends=(carina - 4, carina + length),
        )
        for slope, length in ((-0.72, 44.0), (1.05, 46.0))
    ]
    return [trachea, *bronchi]


def stomach(build: Build, left_dome: Column) -> list[Part]:
    """Air under the left diaphragm, in about half of the patients."""
    if build.stomach < 0.45:
        return []
    size = 14 + 16 * build.stomach
    centre = (left_dome.ends[0] + size + 9, -24, at(left_dome.middle, build.lung_height) - 14)
    return [Part(Ellipsoid(centre, (0.8 * size, 1.1 * size, 1.3 * size)), -980.0, "abdomen")]


def effusion(build: Build, side: int, lung: Column, height: float) -> Part:
    """Fluid in one pleural space, `height` mm above the costophrenic angle and climbing along the wall."""
    base = build.lung_height
    wall = at(lung.middle, base) + side * at(lung.width, base)
    return Part(Meniscus(lung, base - height, 0.6 * height, wall), FLUID, "effusion")
