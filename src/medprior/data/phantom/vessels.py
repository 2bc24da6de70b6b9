"""The branching vessels of a lung, as small drops of blood strewn along them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Drops:
    """`points` (N, 3) mm in the frame of the anatomy and `volumes` (N,) mm^3."""

    points: Array
    volumes: Array


def grow(
    rng: Generator,
    hilum: tuple[float, float, float],
    reach: tuple[float, float, float],
    side: int,
    *,
    trunks: int = 11,
    levels: int = 5,
) -> Drops:
    """A tree from the hilum into one lung: each branch parts in two, thinner and shorter, bending outwards.

    Args:
        reach: typical length of a whole path along z, y, x, mm.
    """
    angle = np.linspace(-1.25, 1.3, trunks) + rng.normal(0, 0.1, trunks)
    heading = np.stack([np.sin(angle), rng.uniform(-0.9, 0.9, trunks), side * np.maximum(np.cos(angle), 0.15)], 1)
    starts = np.asarray(hilum) + rng.normal(0, 4, (trunks, 3))
    lengths, radii = np.full(trunks, 0.30) * rng.uniform(0.8, 1.2, trunks), rng.uniform(3.2, 4.6, trunks)
    points, volumes = [], []
    for level in range(levels):
        bend = rng.normal(0, 0.16, heading.shape)
        ends = starts + (heading / np.linalg.norm(heading, axis=1, keepdims=True) + bend) * lengths[
            :, None
        ] * np.asarray(reach)
        drops = _strew(starts, ends, radii, rng, count=36 - 6 * level)
        points.append(drops.points)
        volumes.append(drops.volumes)
        starts, heading = np.repeat(ends, 2, 0), np.repeat(heading, 2, 0) + rng.normal(0, 0.42, (2 * len(ends), 3))
        lengths = np.repeat(lengths, 2) * rng.uniform(0.66, 0.92, len(starts))
        radii = np.repeat(radii, 2) * rng.uniform(0.62, 0.8, len(starts))
    return Drops(np.concatenate(points), np.concatenate(volumes))


def _strew(starts: Array, ends: Array, radii: Array, rng: Generator, *, count: int) -> Drops:
    """`count` drops along each segment that together hold its volume."""
    share = (np.arange(count) + 0.5) / count
    points = starts[:, None] + (ends - starts)[:, None] * share[:, None]
    points += rng.normal(0, 0.22, points.shape) * radii[:, None, None]
    volume = np.pi * radii**2 * np.linalg.norm(ends - starts, axis=1) / count
    return Drops(points.reshape(-1, 3), np.repeat(volume, count))
