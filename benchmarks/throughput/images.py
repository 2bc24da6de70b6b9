"""The images that every side is given: soft grey PNGs that compress as radiographs do, and volumes of int16."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from medprior.training.generated import texture, write_generated

PATTERNS = 16


def write_pngs(folder: Path, count: int, side: int) -> float:
    """`count` different 8-bit PNGs, unless they are there; returns bytes of all files over bytes of all pixels.

    What was written is read once, so that every side finds the files in the page cache.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06d}.png" for number in range(count)]
    if not paths[-1].exists():
        rng = np.random.default_rng(0)
        patterns = [np.rint(texture(rng, side, 2) * 255).astype(np.uint8) for _ in range(min(PATTERNS, count))]
        shifts = rng.integers(0, side, (count, 2)).tolist()

        def write(number: int) -> None:
            image = np.roll(patterns[number % len(patterns)], shifts[number], (0, 1))
            Image.fromarray(image).save(paths[number])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(write, range(count)))
    return sum(len(path.read_bytes()) for path in paths) / (count * side * side)


def write_volumes(folder: Path, count: int, side: int) -> None:
    """`count` int16 volumes as one stack, unless they are there."""
    if not (folder / "images.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_generated(folder, count, side, 3)
