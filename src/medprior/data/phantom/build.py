"""The numbers of one patient: drawn once per patient, with what changes from visit to visit drawn apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng

SITES = ("north", "south")


@dataclass(frozen=True)
class Build:
    """Size and habit of a patient. Lengths in mm; z = 0 is the apex of the lungs, x = 0 the midline, y = 0 mid-depth.

    Attributes:
        half_width, half_depth: of the lungs at their widest.
        lung_height: from the apex to the costophrenic angles.
        domes: height of the right and left diaphragm above the costophrenic angles.
        turn: sideways shift per mm of depth, from a patient who stands slightly rotated.
        heart: size of the heart, 1 normal.
    """

    sex: str
    age: int
    half_width: float
    half_depth: float
    lung_height: float
    domes: tuple[float, float]
    fat: float
    muscle: float
    turn: float
    lean: float
    heart: float
    heart_tilt: float
    aorta: float
    rib_slope: float
    bone: float
    lung_hu: float
    stomach: float


def stream(*key: int) -> Generator:
    """The random stream of (seed, patient, purpose, ...): independent of how many other patients there are."""
    return default_rng(np.random.SeedSequence([int(k) & 0xFFFFFFFF for k in key]))


def draw_build(rng: Generator, visit: Generator, *, cardiomegaly: bool) -> Build:
    """A plausible patient from `rng`; breath and stance of the day from `visit`."""
    sex = "F" if rng.random() < 0.5 else "M"
    age = int(rng.integers(21, 90))
    size = (0.93 if sex == "F" else 1.0) * float(np.clip(rng.normal(1, 0.05), 0.87, 1.13))
    breath = float(visit.normal(0, 5))
    dome = rng.uniform(38, 58)
    return Build(
        sex=sex,
        age=age,
        half_width=float(134 * size * rng.normal(1, 0.03)),
        half_depth=float(86 * size * rng.normal(1, 0.05)),
        lung_height=float(262 * size * rng.normal(1, 0.04)) + breath,
        domes=(dome - breath / 2, dome - breath / 2 - rng.uniform(6, 18)),
        fat=float(np.clip(rng.lognormal(2.3, 0.5), 4, 34)),
        muscle=float(rng.uniform(17, 26)) * size,
        turn=float(visit.normal(0, 0.05)),
        lean=float(rng.normal(0, 5)),
        heart=size * float(rng.uniform(1.32, 1.55) if cardiomegaly else rng.uniform(0.9, 1.08)),
        heart_tilt=float(rng.uniform(0.75, 1.0)),
        aorta=float(rng.uniform(13, 16) + 0.06 * (age - 20)),
        rib_slope=float(rng.uniform(0.68, 0.92)),
        bone=float(rng.normal(1.05, 0.1) - 0.004 * (age - 40)),
        lung_hu=float(rng.normal(-850, 22)),
        stomach=float(rng.uniform(0, 1)),
    )
