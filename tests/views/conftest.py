"""Stored scans made in memory, so that the views are tested without files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch


def halve(image: np.ndarray) -> np.ndarray:
    """(C, *S) area-averaged to half its size."""
    for axis in range(1, image.ndim):
        even = image.take(range(0, image.shape[axis], 2), axis)
        image = (even + image.take(range(1, image.shape[axis], 2), axis)) / 2
    return image


def store_images(
    images: np.ndarray, content: np.ndarray | None = None, rows: list[int] | None = None
) -> SimpleNamespace:
    """What a pixel store hands over for (B, C, *S) images in [0, 255]; `content` (B, d, 2) in pixels."""
    batch, channels, *size = images.shape
    side, d = size[0], len(size)
    levels = 1 + int(np.log2(side & -side))
    atlas = np.zeros((batch, channels, *size[:-1], side + side // 2), np.uint8)
    for i, level in enumerate(images.astype(np.float64)):
        for step in range(levels):
            n = side >> step
            down, across = (side - 2 * n, side) if step else (0, 0)
            place = (slice(down, down + n), *[slice(n)] * (d - 2), slice(across, across + n))
            atlas[(i, slice(None), *place)] = np.rint(level)
            level = halve(level) if step + 1 < levels else level
    edges = np.tile([0, side], (batch, d, 1)) if content is None else content
    stored = SimpleNamespace(
        index=torch.arange(batch) if rows is None else torch.tensor(rows),
        pixels=torch.from_numpy(atlas),
        content=torch.from_numpy(edges / side * 2 - 1).float(),
        size=side,
        levels=levels,
    )
    # Looked up when called: tests put other tensors in the place of these.
    stored.level0 = lambda: stored.pixels[..., : stored.size]
    return stored


def smooth_images(batch: int, channels: int, side: int, d: int, seed: int = 0) -> np.ndarray:
    """(B, C, *S) in [0, 255]: low frequencies with some grain, as an X-ray has."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((batch, channels, *[max(side // 8, 2)] * d)))
    mode = "bicubic" if d == 2 else "trilinear"
    fine = torch.nn.functional.interpolate(coarse, size=[side] * d, mode=mode).numpy()
    return np.clip(fine * 200 + 20 + rng.normal(0, 2, fine.shape), 0, 255).round()


@pytest.fixture(scope="session")
def store() -> Callable[..., SimpleNamespace]:
    return store_images


@pytest.fixture(scope="session")
def smooth() -> Callable[..., np.ndarray]:
    return smooth_images


class HeldVolumes:
    """What `ResidentVolumes` does, for (C, D, H, W) arrays in memory, voxel by voxel."""

    def __init__(self, arrays: Sequence[np.ndarray], scale: float = 1e-3, offset: float = 0.5) -> None:
        self.arrays, self.device = arrays, torch.device("cpu")
        self.scale, self.offset = scale, offset
        self.black = int(np.rint(-offset / scale))

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        return np.array([self.arrays[row].shape[1:] for row in rows], np.int64)

    def mapping(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        each = torch.ones(len(rows), self.arrays[0].shape[0])
        return each * self.scale, each * self.offset

    def windows(self, rows: np.ndarray, corners: np.ndarray, side: tuple[int, int, int]) -> torch.Tensor:
        found = []
        for row, corner in zip(rows, corners, strict=True):
            room = max(*side, *np.abs(corner)) + max(self.arrays[row].shape)
            wide = np.pad(self.arrays[row], [(0, 0), *[(room, room)] * 3], constant_values=self.black)
            place = (slice(at + room, at + room + n) for at, n in zip(corner, side, strict=True))
            found.append(wide[(slice(None), *place)])
        return torch.from_numpy(np.stack(found))

    def unit(self, row: int) -> np.ndarray:
        """(C, D, H, W) float64 in [0, 1]."""
        return (self.arrays[row] * self.scale + self.offset).clip(0, 1)


@pytest.fixture(scope="session")
def volumes() -> Callable[..., HeldVolumes]:
    """Ragged int16 volumes, one of them shorter than most views along an axis; some voxels beyond black and white."""

    def make(channels: int = 1, shapes: Sequence[tuple[int, ...]] = ((30, 41, 36), (9, 37, 28), (33, 26, 50))):
        rng = np.random.default_rng(0)
        return HeldVolumes([rng.integers(-700, 700, (channels, *shape), dtype=np.int16) for shape in shapes])

    return make
