"""The corruptions in NumPy, image by image and window by window, from the published figures and nothing of medprior.

Every function takes one image (C, *S) in [0, 1] and a generator, and leaves what it is given as it was. The corruptions
of medprior are timed against it, and the tests hold their distributions to it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Box = tuple[slice, ...]
Shuffle = Callable[[Floats, np.random.Generator, int], Floats]


def flip(image: Floats, rng: np.random.Generator) -> Floats:
    """Up to three flips while a coin of 0.4 says so, each of a random spatial axis."""
    for _ in range(3):
        if rng.random() >= 0.4:
            break
        image = np.flip(image, 1 + rng.integers(image.ndim - 1))
    return image


def shuffle(image: Floats, rng: np.random.Generator, windows: int) -> Floats:
    """Each window of the original is permuted and written over what is there."""
    shuffled, size = image.copy(), image.shape[1:]
    for _ in range(windows):
        edges = [rng.integers(1, side // 10, endpoint=True) for side in size]
        starts = [rng.integers(0, side - edge, endpoint=True) for side, edge in zip(size, edges, strict=True)]
        box = (slice(None), *(slice(at, at + edge) for at, edge in zip(starts, edges, strict=True)))
        values = image[box].reshape(image.shape[0], -1)
        shuffled[box] = values[:, rng.permutation(values.shape[1])].reshape(image.shape[0], *edges)
    return shuffled


def shuffle_ahead(image: Floats, rng: np.random.Generator, windows: int) -> Floats:
    """The same with every window drawn before the loop, as one who knows what NumPy's calls cost would write it."""
    shuffled, size = image.copy(), np.array(image.shape[1:])
    edges = rng.integers(1, size // 10, (windows, len(size)), endpoint=True)
    starts = rng.integers(0, size - edges, endpoint=True)
    for start, end in zip(starts.tolist(), (starts + edges).tolist(), strict=True):
        box = (slice(None), *map(slice, start, end))
        values = image[box]
        order = rng.permutation(values[0].size)
        shuffled[box] = values.reshape(len(image), -1)[:, order].reshape(values.shape)
    return shuffled


def bend(image: Floats, rng: np.random.Generator) -> Floats:
    """A Bezier curve through (0, 0) and (1, 1), sampled 100,000 times; half of the time it falls."""
    first, second = rng.random(2), rng.random(2)
    t = np.linspace(0, 1, 100_000)
    x, y = (3 * (1 - t) ** 2 * t * a + 3 * (1 - t) * t**2 * b + t**3 for a, b in zip(first, second, strict=True))
    x, y = np.sort(x), np.sort(y)
    if rng.random() < 0.5:
        y = y[::-1]
    return np.interp(image, x, y).astype(np.float32)


def paint_in(image: Floats, rng: np.random.Generator) -> Floats:
    """Up to five boxes of noise, going on with odds of 0.95."""
    painted, left = image.copy(), 5
    while left and rng.random() < 0.95:
        edges = [int(rng.integers(side // 6, side // 3, endpoint=True)) for side in image.shape[1:]]
        box = _place(image, edges, rng)
        painted[box] = rng.random(painted[box].shape, dtype=np.float32)
        left -= 1
    return painted


def paint_out(image: Floats, rng: np.random.Generator) -> Floats:
    """Noise but for one box and up to four more, going on with odds of 0.95."""
    painted, left = rng.random(image.shape, dtype=np.float32), 5
    while left and (left == 5 or rng.random() < 0.95):
        edges = [side - int(rng.integers(3 * side // 7, 4 * side // 7, endpoint=True)) for side in image.shape[1:]]
        box = _place(image, edges, rng)
        painted[box] = image[box]
        left -= 1
    return painted


def paint(image: Floats, rng: np.random.Generator) -> Floats:
    """One of both, one time in five the first."""
    return paint_in(image, rng) if rng.random() < 0.2 else paint_out(image, rng)


def deform(image: Floats, rng: np.random.Generator, windows: int, shuffled: Shuffle = shuffle) -> tuple[Floats, Floats]:
    """What Models Genesis sees, and what it is to restore."""
    target = flip(image, rng)
    seen = target
    if rng.random() < 0.5:
        seen = shuffled(seen, rng, windows)
    if rng.random() < 0.9:
        seen = bend(seen, rng)
    if rng.random() < 0.9:
        seen = paint(seen, rng)
    return seen, target


def add_noise(image: Floats, rng: np.random.Generator) -> Floats:
    """Normal noise of variance 0.1."""
    return image + np.float32(0.1**0.5) * rng.standard_normal(image.shape, dtype=np.float32)


def down_and_up(image: Floats, rng: np.random.Generator) -> Floats:
    """Every fourth pixel along each axis, as large as before."""
    for axis in range(1, image.ndim):
        image = image.take(range(0, image.shape[axis], 4), axis).repeat(4, axis)
    return image


def mask_channels(tokens: Floats, rng: np.random.Generator) -> Floats:
    """28 of 48 channels set to 0."""
    masked = tokens.copy()
    masked[rng.choice(len(tokens), int(0.6 * len(tokens)), replace=False)] = 0
    return masked


def cut_out(image: Floats, rng: np.random.Generator) -> Floats:
    """Boxes of 5 to 25 % of the side, cut at the borders, until their volumes reach a share drawn below 0.3."""
    cut, size = image.copy(), image.shape[1:]
    wanted, dropped = rng.uniform(0, 0.3) * np.prod(size), 0
    while dropped < wanted:
        starts = [int(rng.integers(0, side - int(0.05 * side))) for side in size]
        edges = [int(rng.integers(int(0.05 * side), int(0.25 * side))) for side in size]
        box = (slice(None), *(slice(at, at + edge) for at, edge in zip(starts, edges, strict=True)))
        noise = rng.standard_normal(cut[box].shape, dtype=np.float32)
        if noise.size:
            cut[box] = (noise - noise.min()) / max(float(np.ptp(noise)), 1e-6)
        dropped += noise[0].size
    return cut


def mask_blocks(image: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Blocks of 16 pixels along each axis, three quarters of them true."""
    block = 16
    grid = [side // block for side in image.shape[1:]]
    cells = np.zeros(int(np.prod(grid)), bool)
    cells[rng.choice(len(cells), int(np.ceil(0.75 * len(cells))), replace=False)] = True
    mask = cells.reshape(1, *grid)
    for axis in range(1, image.ndim):
        mask = mask.repeat(block, axis)
    return mask


def _place(image: Floats, edges: list[int], rng: np.random.Generator) -> Box:
    """A box of these edges at least three pixels from every face."""
    starts = [
        int(rng.integers(3, side - edge - 3, endpoint=True)) for side, edge in zip(image.shape[1:], edges, strict=True)
    ]
    return (slice(None), *(slice(at, at + edge) for at, edge in zip(starts, edges, strict=True)))
