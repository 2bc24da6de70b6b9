"""How a patient lies in a scanner, and the voxels that the scanner sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medprior.data.phantom.shapes import Box, Floats, Rays, rays


@dataclass(frozen=True)
class Pose:
    """Where the anatomy lies in the scan: tilted (radians) in the frontal plane about `pivot`, then shifted, mm."""

    tilt: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    pivot: tuple[float, float] = (0.0, 0.0)

    def to_scan(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 3) of the anatomy as the scanner sees them, mm."""
        out = np.array(points, dtype=np.float64)
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        down, across = out[..., 0] - self.pivot[0], out[..., 2] - self.pivot[1]
        out[..., 0] = cos * down - sin * across + self.pivot[0] + self.shift[0]
        out[..., 2] = sin * down + cos * across + self.pivot[1] + self.shift[1]
        return out

    def to_anatomy(
        self, z: NDArray[np.float64], x: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scan positions (mm) back in the frame of the anatomy."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        down, across = z - self.pivot[0] - self.shift[0], x - self.pivot[1] - self.shift[1]
        return cos * down + sin * across + self.pivot[0], cos * across - sin * down + self.pivot[1]


@dataclass(frozen=True)
class Grid:
    """Voxels of a scan: `shape` (D, H, W), `spacing` mm, `origin` the centre of voxel (0, 0, 0) in mm of the scan."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]

    def voxel(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scan positions (..., 3) mm as voxel coordinates; whole numbers are voxel centres."""
        return np.asarray((points - np.asarray(self.origin)) / np.asarray(self.spacing))

    def axis(self, number: int) -> NDArray[np.float64]:
        """Voxel centres along one axis, mm of the scan."""
        return np.asarray(self.origin[number] + self.spacing[number] * np.arange(self.shape[number]))

    def rays(self, pose: Pose) -> Rays:
        """One ray per (D, W), in the frame of the anatomy."""
        z, x = np.meshgrid(self.axis(0), self.axis(2), indexing="ij")
        return rays(*pose.to_anatomy(z, x))

    def window(self, box: Box, pose: Pose) -> tuple[slice, slice]:
        """Rows and columns whose rays can meet a box of the anatomy."""
        cos, sin = math.cos(pose.tilt), math.sin(pose.tilt)
        downs = [z - pose.pivot[0] for z in box[:2]]
        acrosses = [x - pose.pivot[1] for x in box[2:]]
        z_base, x_base = pose.pivot[0] + pose.shift[0], pose.pivot[1] + pose.shift[1]
        rows = self._reach(0, [z_base + cos * d - sin * a for d in downs for a in acrosses])
        return rows, self._reach(2, [x_base + sin * d + cos * a for d in downs for a in acrosses])

    def _reach(self, axis: int, places: list[float]) -> slice:
        """Voxels of one axis from the least to the greatest of some places (mm of the scan)."""
        voxels = [(place - self.origin[axis]) / self.spacing[axis] for place in places]
        first, last = math.floor(min(voxels)), math.ceil(max(voxels)) + 1
        return slice(min(max(first, 0), self.shape[axis]), min(max(last, 0), self.shape[axis]))

    def layers(self, low: float, high: float) -> slice:
        """Layers along y that meet [low, high]."""
        first, last = (math.floor((y - self.origin[1]) / self.spacing[1] + 0.5) for y in (low, high))
        return slice(min(max(first, 0), self.shape[1]), min(max(last + 1, 0), self.shape[1]))

    def edges(self, layers: slice) -> Floats:
        """Where some layers begin, and where the last one ends, mm along y."""
        numbers = np.arange(layers.start, layers.stop + 1)
        return np.asarray(self.origin[1] + self.spacing[1] * (numbers - 0.5), dtype=np.float32)

    def share(self, layers: slice, low: Floats, high: Floats) -> Floats:
        """Share of each voxel of some layers that lies in the spans: (layers, R, C) in [0, 1]."""
        edges = self.edges(layers)[:, None, None]
        inside: Floats = np.minimum(high, edges[1:])
        inside -= np.maximum(low, edges[:-1])
        np.maximum(inside, 0, out=inside)
        inside *= np.float32(1 / self.spacing[1])
        return inside
