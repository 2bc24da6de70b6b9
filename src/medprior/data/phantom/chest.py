"""One patient in three dimensions: every part, every lesion and every landmark, from (seed, patient, visit)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from medprior.data.phantom.bones import Ribs, clavicle_ends, girdle, ribs, spine, vertebra_landmarks
from medprior.data.phantom.build import SITES, Build, draw_build, stream
from medprior.data.phantom.grid import Pose
from medprior.data.phantom.organs import (
    BLOOD,
    LIVER,
    SIDES,
    SOFT,
    Part,
    airways,
    body,
    dome,
    effusion,
    heart,
    lung,
    mediastinum,
    stomach,
)
from medprior.data.phantom.shapes import Column, Ellipsoid, Point, Shape, at, cells, contains
from medprior.data.phantom.vessels import Drops, grow

LESION_RADIUS, LESION_HU = (13.0, 27.0), (30.0, 140.0)  # mm, HU: graded on scratch training, benchmarks/phantom
DIRECTIONS = np.array([d / max(np.linalg.norm(d), 1) for d in (np.array(i) - 1 for i in np.ndindex(3, 3, 3))])
LESION_SHARE, EFFUSION_SHARE, CARDIOMEGALY_SHARE = 0.5, 0.2, 0.15


@dataclass(frozen=True)
class Lesion:
    """A nodule: its shape, density and the lung it lies in."""

    shape: Ellipsoid
    hu: float
    side: str
    zone: str

    @property
    def diameter(self) -> float:
        """Longest diameter, mm."""
        return 2 * max(self.shape.radii)


@dataclass(frozen=True)
class Anatomy:
    """A patient at one visit.

    Attributes:
        parts: soft tissue and single bones in the order of painting.
        vessels: drops of blood in both lungs.
        lesions: lung nodules; the label of the cohort is whether there are any.
        effusions: side to height above the costophrenic angle, mm.
        landmarks: name to (z, y, x) mm in the frame of the anatomy; `pose` carries them into the scan.
    """

    seed: int
    patient: int
    visit: int
    site: str
    build: Build
    pose: Pose
    parts: tuple[Part, ...]
    ribs: Ribs
    vessels: Drops
    lesions: tuple[Lesion, ...]
    effusions: dict[str, float]
    cardiomegaly: bool
    lungs: dict[str, Column]
    heart: dict[str, Ellipsoid]
    landmarks: dict[str, Point]

    @property
    def findings(self) -> dict[str, int]:
        """Each finding as 0 or 1."""
        return {
            "effusion": int(bool(self.effusions)),
            "nodule": int(bool(self.lesions)),
            "cardiomegaly": int(self.cardiomegaly),
        }


def anatomy(seed: int, patient: int, visit: int = 0) -> Anatomy:
    """The anatomy of patient number `patient` of cohort `seed`: the same whatever the size of the cohort.

    Later visits keep the patient and the lesions; breath, stance and position change a little.
    """
    person, today = stream(seed, patient, 0), stream(seed, patient, 1, visit)
    cardiomegaly = bool(person.random() < CARDIOMEGALY_SHARE)
    build = draw_build(person, today, cardiomegaly=cardiomegaly)
    carina = 0.355 * build.lung_height
    lungs = {name: lung(build, side) for name, side in SIDES.items()}
    domes = {name: dome(build, side, lungs[name]) for name, side in SIDES.items()}
    hearts, middle, tubes = heart(build), mediastinum(build, carina), airways(build, carina)
    solid: list[Shape] = [*domes.values(), *hearts.values(), *middle]
    effusions = _effusions(stream(seed, patient, 2), build)
    if visit == 0:
        lesions = _lesions(stream(seed, patient, 4), lungs, solid, build)
    else:
        lesions = _carried(anatomy(seed, patient), lungs)
    parts = [
        *body(build),
        *(Part(lungs[name], build.lung_hu, f"{name} lung") for name in SIDES),
        *(effusion(build, SIDES[name], lungs[name], height) for name, height in effusions.items()),
        *(Part(shape, LIVER, "abdomen") for shape in domes.values()),
        *stomach(build, domes["left"]),
        *(Part(shape, SOFT, "mediastinum") for shape in middle),
        *(Part(shape, BLOOD, "heart") for shape in hearts.values()),
        *(Part(shape, -995.0, "airways") for shape in tubes),
        *spine(build),
        *girdle(build),
    ]
    return Anatomy(
        seed=seed,
        patient=patient,
        visit=visit,
        site=SITES[int(person.random() < 0.5)],
        build=build,
        pose=_pose(today, build),
        parts=tuple(parts),
        ribs=ribs(build),
        vessels=_vessels(stream(seed, patient, 3), lungs, build, carina),
        lesions=lesions,
        effusions=effusions,
        cardiomegaly=cardiomegaly,
        lungs={f"{name} lung": shape for name, shape in lungs.items()},
        heart=hearts,
        landmarks=_landmarks(build, lungs, domes, hearts["ventricle"], tubes[0], carina),
    )


def _pose(today: Generator, build: Build) -> Pose:
    middle = 0.5 * build.lung_height
    return Pose(
        float(np.clip(today.normal(0, 0.025), -0.06, 0.06)),
        (float(today.normal(0, 6)) - middle, float(today.normal(0, 6))),
        (middle, 0.0),
    )


def _effusions(rng: Generator, build: Build) -> dict[str, float]:
    if rng.random() >= EFFUSION_SHARE:
        return {}
    sides = [("right",), ("left",), ("right", "left")][int(rng.choice(3, p=[0.4, 0.35, 0.25]))]
    return {side: float(rng.uniform(0.12, 0.32) * build.lung_height) for side in sides}


def _vessels(rng: Generator, lungs: dict[str, Column], build: Build, carina: float) -> Drops:
    """Both trees, kept to the inside of the lungs."""
    trees = []
    for name, side in SIDES.items():
        hilum = (carina + (26 if side < 0 else 16), 4.0, side * 34.0)
        tree = grow(rng, hilum, (0.62 * build.lung_height, 0.8 * build.half_depth, 0.95 * build.half_width), side)
        inside = contains(lungs[name], tree.points)
        trees.append(Drops(tree.points[inside], tree.volumes[inside]))
    return Drops(np.concatenate([t.points for t in trees]), np.concatenate([t.volumes for t in trees]))


def _lesions(rng: Generator, lungs: dict[str, Column], solid: list[Shape], build: Build) -> tuple[Lesion, ...]:
    """One to three nodules in half of the patients."""
    if rng.random() >= LESION_SHARE:
        return ()
    count = 1 + int(rng.choice(3, p=[0.65, 0.23, 0.12]))
    return tuple(_lesion(rng, lungs, solid, build) for _ in range(count))


def _carried(first: Anatomy, lungs: dict[str, Column]) -> tuple[Lesion, ...]:
    """The nodules of the first visit, moved with the breath of the lung that holds them."""
    return tuple(_moved(lesion, first.lungs[f"{lesion.side} lung"], lungs[lesion.side]) for lesion in first.lesions)


def _moved(lesion: Lesion, before: Column, now: Column) -> Lesion:
    z, y, x = lesion.shape.centre
    down = z * now.ends[1] / before.ends[1]
    place = (down, y, x + at(now.middle, down) - at(before.middle, z))
    return replace(lesion, shape=replace(lesion.shape, centre=place))


def _lesion(rng: Generator, lungs: dict[str, Column], solid: list[Shape], build: Build) -> Lesion:
    """A nodule whose whole body lies in aerated lung; it shrinks until it finds such a place."""
    side = "right" if rng.random() < 0.5 else "left"
    radius = rng.uniform(*LESION_RADIUS)
    radii = np.exp(rng.normal(0, 0.12, 3))
    radii *= radius / radii.max()
    while not len(places := _free_places(rng, lungs[side], solid, float(radii.max()))):
        radii *= 0.93
    centre = places[0]
    zone = ("upper", "mid", "lower")[min(int(3 * centre[0] / build.lung_height), 2)]
    shape = Ellipsoid(_point(centre), _point(radii), float(rng.uniform(-0.7, 0.7)))
    return Lesion(shape, float(rng.uniform(*LESION_HU)), side, zone)


def _free_places(
    rng: Generator, lung: Column, solid: list[Shape], radius: float, tries: int = 48
) -> NDArray[np.float64]:
    """Centres (N, 3), of some tries, of balls of `radius` that touch neither the wall nor anything solid."""
    z = rng.uniform(0.04, 0.94, tries) * lung.ends[1]
    middle, width, deep, depth = (t[cells(z)] for t in (lung.middle, lung.width, lung.depth_middle, lung.depth))
    y, x = deep + rng.uniform(-1, 1, tries) * depth, middle + rng.uniform(-1, 1, tries) * width
    centres = np.stack([z, y, x], axis=1)
    around = (centres[:, None] + radius * DIRECTIONS).reshape(-1, 3)
    free = contains(lung, around)
    for shape in solid:
        free &= ~contains(shape, around)
    return centres[free.reshape(tries, -1).all(1)]


def _landmarks(
    build: Build,
    lungs: dict[str, Column],
    domes: dict[str, Column],
    ventricle: Ellipsoid,
    trachea: Column,
    carina: float,
) -> dict[str, Point]:
    """Named points of the anatomy, (z, y, x) mm."""
    places: dict[str, Point] = {"carina": (carina, at(trachea.depth_middle, carina), at(trachea.middle, carina))}
    for name, side in SIDES.items():
        shape, top = lungs[name], domes[name].ends[0]
        base = shape.ends[1]
        places[f"{name} apex"] = (shape.ends[0], at(shape.depth_middle, 0.5), at(shape.middle, 0.5))
        places[f"{name} costophrenic angle"] = (
            base,
            at(shape.depth_middle, base),
            at(shape.middle, base) + side * at(shape.width, base),
        )
        places[f"{name} dome"] = (top, at(domes[name].depth_middle, top), at(domes[name].middle, top))
        places[f"{name} clavicle"] = clavicle_ends(build, side)
    long, tilt = ventricle.radii[0], ventricle.tilt
    places["heart apex"] = (
        ventricle.centre[0] + long * float(np.cos(tilt)),
        ventricle.centre[1],
        ventricle.centre[2] + long * float(np.sin(tilt)),
    )
    return places | vertebra_landmarks(build)


def _point(values: NDArray[np.float64]) -> Point:
    z, y, x = (float(v) for v in values)
    return z, y, x
