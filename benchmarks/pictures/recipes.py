"""Draw the pictures of docs/views.md: for each modality a generated image and five of its contrastive views.

    python benchmarks/pictures/recipes.py docs/images/views

Nothing here was seen by a scanner: CT and X-ray are the phantom of `medprior demo`, MR is painted from its organs, and
ultrasound and slide are made of random scatterers and random nuclei.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import expit

from medprior.data.phantom import CT, ORGANS, anatomy, render_ct, render_xray
from medprior.data.store.pyramid import level_count, pack
from medprior.data.store.resident import Stored
from medprior.views.acquisition import STAINS
from medprior.views.engine import render
from medprior.views.plan import independent
from medprior.views.recipe import base_recipe

STORED, SHOWN, GAP, COLOURS = 256, 120, 2, 48
PATIENT = 3
MR_SIGNAL = {"body": 0.42, "right lung": 0.05, "left lung": 0.05, "heart": 0.2, "mediastinum": 0.45, "airways": 0.02,
             "abdomen": 0.36, "spine": 0.5, "ribs": 0.12, "effusion": 0.95, "background": 0.0}  # fmt: skip
FAT = 0.85

Floats = NDArray[np.float64]


def axial(ct: CT) -> tuple[Floats, NDArray[np.uint8]]:
    """HU and organs (H, W) of the slice that shows most of the heart."""
    hearts = (ct.organs == ORGANS.index("heart")).sum((1, 2))
    return ct.volume[hearts.argmax()].astype(np.float64), ct.organs[hearts.argmax()]


def computed_tomography(hu: Floats) -> Floats:
    """One channel, -1000 to 1000 HU."""
    return np.clip((hu + 1000) / 2000, 0, 1)[None]


def magnetic_resonance(hu: Floats, organs: NDArray[np.uint8], rng: np.random.Generator) -> Floats:
    """T2-like: water and fat bright, muscle and flowing blood dark, air black; Rician noise."""
    signal = np.array([MR_SIGNAL[name] for name in ORGANS])[organs]
    smooth = gaussian_filter(hu, 1.0)
    signal = np.where((organs == ORGANS.index("body")) & (smooth < -40), FAT, signal)
    vessels = np.isin(organs, [ORGANS.index("right lung"), ORGANS.index("left lung")]) & (smooth > -500)
    signal = np.where(vessels, 0.3, signal) * (1 + 0.06 * gaussian_filter(rng.normal(size=hu.shape), 2) * 7)
    signal = gaussian_filter(signal, 0.8)
    return np.clip(np.hypot(signal + rng.normal(0, 0.02, hu.shape), rng.normal(0, 0.02, hu.shape)), 0, 1)[None]


def ultrasound(rng: np.random.Generator) -> Floats:
    """A sector of a liver with a cyst, a vessel and the diaphragm; speckle of random scatterers, 60 dB."""
    beams, depth = 220, 400
    r, angle = np.meshgrid(np.linspace(0, 1, depth), np.linspace(-0.62, 0.62, beams), indexing="ij")
    y, x = r * np.cos(angle), r * np.sin(angle)
    echo = 0.1 * np.exp(0.6 * gaussian_filter(rng.normal(size=r.shape), 18) * 18)
    echo[(x - 0.12) ** 2 + (y - 0.45) ** 2 < 0.008] = 0.0006
    echo[np.abs(y - 0.3 - 0.5 * x) < 0.014] = 0.002
    echo += 15.0 * np.exp(-(((y - 0.86 + 0.5 * (x - 0.1) ** 2) / 0.012) ** 2))
    echo += 6.0 * np.exp(-((r / 0.05) ** 2))
    waves = [gaussian_filter(rng.normal(size=r.shape), (1.6, 2.2)) for _ in range(2)]
    envelope = np.sqrt(echo) * np.hypot(*waves) * np.exp(-0.5 * r)
    decibels = 20 * np.log10(envelope / np.quantile(envelope, 0.999) + 1e-6)
    polar = np.clip(1 + decibels / 60, 0, 1)
    rows, columns = np.meshgrid(np.linspace(-0.02, 1.02, STORED), np.linspace(-0.6, 0.6, STORED), indexing="ij")
    place = [np.hypot(rows, columns) * (depth - 1), (np.arctan2(columns, rows) / 1.24 + 0.5) * (beams - 1)]
    return map_coordinates(polar, place, order=1, cval=0.0)[None]


def microscopy(rng: np.random.Generator) -> Floats:
    """Haematoxylin in random nuclei, eosin in fibres and cytoplasm, gaps of glass; three channels."""
    y, x = np.mgrid[:STORED, :STORED]
    texture = gaussian_filter(rng.normal(size=(STORED, STORED)), (3, 14))
    eosin = 0.34 + 0.16 * texture / texture.std()
    gaps = gaussian_filter(rng.normal(size=(STORED, STORED)), 12)
    eosin = np.where(gaps > 1.4 * gaps.std(), 0.02, np.clip(eosin, 0.05, 1))
    haematoxylin = np.full_like(eosin, 0.04)
    for _ in range(150):
        cy, cx, long, turn = *rng.uniform(0, STORED, 2), rng.uniform(5, 8.5), rng.uniform(0, np.pi)
        along, across = (
            np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy),
            np.cos(turn) * (y - cy) - np.sin(turn) * (x - cx),
        )
        inside = (along / long) ** 2 + (across / (long * rng.uniform(0.6, 0.95))) ** 2
        haematoxylin = np.maximum(haematoxylin, rng.uniform(0.7, 1.2) * expit(8 * (1 - inside)))
    haematoxylin *= 1 + 0.25 * gaussian_filter(rng.normal(size=haematoxylin.shape), 1.2) * 3
    amounts = np.stack([haematoxylin, eosin, np.zeros_like(eosin)])
    light = np.exp(-np.tensordot(STAINS.T, amounts, 1)) + rng.normal(0, 0.01, (3, STORED, STORED))
    return np.clip(gaussian_filter(light, (0, 0.7, 0.7)), 0, 1)


def stored(image: Floats) -> Stored:
    """An image as a pixel store would hand it over."""
    pixels = np.rint(image * 255).astype(np.uint8)
    levels = level_count(STORED)
    edges = torch.tensor([-1.0, 1.0]).expand(1, 2, 2)
    return Stored(
        torch.zeros(1, dtype=torch.int64), torch.from_numpy(pack(pixels, levels))[None], edges, STORED, levels
    )


def row(image: Floats, modality: str) -> Image.Image:
    """The image and five views of it, side by side."""
    base, scan = base_recipe(modality, SHOWN), stored(image)
    plain = render(scan, independent(base.plain(), 1), seed=0, step=0)
    views = render(scan, independent(base.contrastive(), 5), seed=0, step=0)
    white = torch.ones(1, image.shape[0], SHOWN, GAP)
    parts = [part for view in plain + views for part in (view.pixels, white)][:-1]
    grey = (torch.cat(parts, dim=3)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(grey[..., 0] if image.shape[0] == 1 else grey)


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    person = anatomy(0, PATIENT)
    hu, organs = axial(render_ct(person, spacing=(12.0, 1.5, 1.5)))
    images = {
        "CT": computed_tomography(hu),
        "MR": magnetic_resonance(hu, organs, rng),
        "DX": render_xray(person, STORED).image[None] / 255,
        "US": ultrasound(rng),
        "SM": microscopy(rng),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for modality, image in images.items():
        file = folder / f"{modality.lower()}.png"
        # Few colours keep the files small; dither would cost more than it shows.
        row(image, modality).quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
        print(f"{file}  {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
