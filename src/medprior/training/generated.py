"""Images and volumes out of nothing, to measure with: soft structure at every scale and the grain of a detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from medprior.progress import Progress, silent

PATTERNS = 4
_COARSEST, _OCTAVES = 4, 5
_GRAIN = 0.012


def texture(rng: np.random.Generator, side: int, spatial_dims: int) -> NDArray[np.float32]:
    """One pattern in [0, 1], `side` pixels along each axis; each finer octave has half the strength."""
    total = np.zeros((side,) * spatial_dims, np.float32)
    for octave in range(_OCTAVES):
        cells = min(side, _COARSEST * 2**octave)
        coarse = rng.standard_normal((cells,) * spatial_dims, np.float32) / 2**octave
        total += zoom(coarse, side / cells, order=1)
    total += _GRAIN * float(np.ptp(total)) * rng.standard_normal(total.shape, np.float32)
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low)


def write_generated(
    folder: Path, count: int, side: int, spatial_dims: int, *, seed: int = 0, progress: Progress = silent
) -> None:
    """Write `count` images (uint8) or volumes (int16) into `folder`, as one .npy: a few patterns, moved about."""
    rng = np.random.default_rng(seed)
    kind, top = (np.uint8, 255) if spatial_dims == 2 else (np.int16, 4000)
    patterns = [np.rint(texture(rng, side, spatial_dims) * top).astype(kind) for _ in range(PATTERNS)]
    axes = tuple(range(spatial_dims))
    # The last axis, of one channel, tells a short stack of large images from a volume.
    stack = np.lib.format.open_memmap(folder / "images.npy", "w+", kind, (count, *patterns[0].shape, 1))
    with progress.task("Making images" if spatial_dims == 2 else "Making volumes", count, "scans") as bar:
        for number in range(count):
            shift = tuple(rng.integers(0, side, spatial_dims).tolist())
            stack[number, ..., 0] = np.roll(patterns[number % PATTERNS], shift, axes)
            bar.advance()
    stack.flush()
