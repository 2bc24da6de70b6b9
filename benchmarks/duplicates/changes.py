"""What happens to images on their way from one folder to another: each change takes pixels and a generator."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def as_eight_bits(pixels: np.ndarray) -> np.ndarray:
    low, high = float(pixels.min()), float(pixels.max())
    return ((pixels - low) / max(high - low, 1e-9) * 255).round().astype(np.uint8)


def jpeg(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(50, 96)))
    return np.asarray(Image.open(buffer))


def resized(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scale = 2.0 ** rng.uniform(-1, 1)
    if pixels.ndim == 3:
        return ndimage.zoom(pixels.astype(np.float32), scale, order=1)
    size = [max(8, round(n * scale)) for n in pixels.shape[::-1]]
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def brightness(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return like(pixels, pixels + rng.uniform(-0.15, 0.15) * np.ptp(pixels))


def contrast(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    middle = float(pixels.mean())
    return like(pixels, (pixels - middle) * rng.uniform(0.6, 1.5) + middle)


def gamma(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low, span = float(pixels.min()), max(float(np.ptp(pixels)), 1e-9)
    return like(pixels, ((pixels - low) / span) ** (2.0 ** rng.uniform(-0.7, 0.7)) * span + low)


def noise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return like(pixels, pixels + rng.normal(0, 0.03 * np.ptp(pixels), pixels.shape))


def crop(pixels: np.ndarray, rng: np.random.Generator, most: float = 0.04) -> np.ndarray:
    """2 to 4% off each axis, from either side."""
    window = []
    for n in pixels.shape:
        off = max(1, round(n * rng.uniform(most / 2, most)))
        start = int(rng.integers(0, off + 1))
        window.append(slice(start, n - off + start))
    return pixels[tuple(window)]


def rotated(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = float(rng.choice([-1, 1]))
    turned = ndimage.rotate(pixels.astype(np.float32), angle, axes=(-2, -1), reshape=False, order=1, mode="nearest")
    return like(pixels, turned)


def border(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A black frame of 2 to 4% of the side."""
    wide = [(max(1, round(n * rng.uniform(0.02, 0.04))),) * 2 for n in pixels.shape]
    return np.pad(pixels, wide, constant_values=pixels.min())


def text(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two short lines in a corner, about a tenth of the height each."""
    height, width = pixels.shape
    image = Image.fromarray(pixels)
    draw, size = ImageDraw.Draw(image), max(6, height // 12)
    x, y = int(rng.choice([2, width * 2 // 3])), int(rng.choice([2, height - 3 * size]))
    draw.text((x, y), "AP L 42\n12:07", fill=255, font_size=size)
    return np.asarray(image)


def flipped(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return pixels[..., ::-1]


def like(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rounded and clipped to the range of 8 bits where the pixels have 8."""
    if pixels.dtype == np.uint8:
        return values.round().clip(0, 255).astype(np.uint8)
    return values.astype(np.float32)


PLANES: dict[str, Change] = {
    "jpeg 50-95": jpeg,
    "resize 0.5-2": resized,
    "brightness": brightness,
    "contrast": contrast,
    "gamma": gamma,
    "noise 3%": noise,
    "crop 2-4%": crop,
    "rotation 1 degree": rotated,
    "border 2-4%": border,
    "text": text,
    "flip": flipped,
}
VOLUMES = {name: change for name, change in PLANES.items() if name not in ("jpeg 50-95", "text")}
