"""A frontal chest X-ray: Beer–Lambert through the anatomy, then the detector and the display of a hospital."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medprior.data.phantom.build import stream
from medprior.data.phantom.chest import Anatomy
from medprior.data.phantom.extents import boxes, landmarks
from medprior.data.phantom.grid import Grid
from medprior.data.phantom.paint import paint
from medprior.data.phantom.shapes import Floats

WATER = 0.0195  # attenuation of water per mm at the mean energy of a chest tube
DEPTH, LAYER = 320.0, 16.0  # mm along the ray, and thickness of one layer


@dataclass(frozen=True)
class Detector:
    """An X-ray room.

    Attributes:
        field: side of the square detector, mm.
        blur: standard deviation of the detector's point spread, mm.
        photons: photons per mm^2 that reach the detector with no patient.
        bone: how much stronger than at the reference energy bone attenuates.
        scatter: scattered share of the signal.
        detail: strength of the display's local contrast.
        gamma: of the display.
    """

    field: float
    blur: float
    photons: float
    bone: float
    scatter: float
    detail: float
    gamma: float


DETECTORS = {
    "north": Detector(field=330, blur=0.6, photons=16000, bone=1.3, scatter=0.01, detail=1.1, gamma=1.05),
    "south": Detector(field=352, blur=1.5, photons=8000, bone=1.5, scatter=0.02, detail=0.6, gamma=0.85),
}


@dataclass(frozen=True)
class XRay:
    """A projected X-ray.

    Attributes:
        image: (H, W) uint8, bone white; rows run down, columns towards the patient's left.
        pixel: side of a pixel at the patient, mm.
        boxes: (name, (row low, column low, row high, column high)) in pixel coordinates.
        landmarks: name to (row, column). Whole numbers are pixel centres, here and in the boxes.
    """

    image: NDArray[np.uint8]
    pixel: float
    boxes: list[tuple[str, tuple[float, ...]]]
    landmarks: dict[str, tuple[float, float]]


def render_xray(anatomy: Anatomy, size: int = 64, site: str | None = None) -> XRay:
    """Project `anatomy` onto a `size` x `size` detector of its hospital, or of `site`; the noise is that of patient and
    visit."""
    detector = DETECTORS[site or anatomy.site]
    rng = stream(anatomy.seed, anatomy.patient, 5, anatomy.visit)
    field = detector.field * float(rng.uniform(0.97, 1.04))
    fine = 2 if size < 256 else 1
    thickness = attenuation(anatomy, xray_grid(size * fine, field), detector.bone)
    image = _display(_expose(thickness, detector, field, fine, rng), detector, field, rng)
    grid = xray_grid(size, field)
    flat = [(name, tuple(float(v) for v in box[:, [0, 2]].ravel())) for name, box in boxes(anatomy, grid)]
    places = {name: (float(p[0]), float(p[2])) for name, p in landmarks(anatomy, grid).items()}
    return XRay(image, field / size, flat, places)


def xray_grid(size: int, field: float) -> Grid:
    """Voxels behind a square detector centred on the isocentre: one layer deep per `LAYER` mm."""
    pixel, layers = field / size, round(DEPTH / LAYER)
    start = -field / 2 + pixel / 2
    return Grid((size, layers, size), (pixel, LAYER, pixel), (start, -DEPTH / 2 + LAYER / 2, start))


def attenuation(anatomy: Anatomy, grid: Grid, bone: float = 1.0) -> Floats:
    """Line integrals of the attenuation along y: (D, W), without unit."""
    canvas = paint(anatomy, grid)
    total = canvas.hu.sum(0) + np.float32(1000 * len(canvas.hu)) + np.float32(bone - 1) * canvas.bone
    return np.asarray(total * np.float32(WATER * grid.spacing[1] / 1000), dtype=np.float32)


def _expose(thickness: Floats, detector: Detector, field: float, fine: int, rng: np.random.Generator) -> Floats:
    """Detected signal as a share of the open beam: transmission, scatter, blur, pixels, quantum noise."""
    pixel = field / len(thickness)
    signal = (
        gaussian_filter(np.exp(-thickness), detector.blur / pixel)
        if detector.blur / pixel > 0.3
        else np.exp(-thickness)
    )
    size = len(signal) // fine
    signal = signal.reshape(size, fine, size, fine).mean((1, 3))
    signal = signal + detector.scatter * signal.mean()
    photons = detector.photons * float(rng.uniform(0.7, 1.4)) * (field / size) ** 2
    return np.asarray(signal + rng.normal(size=signal.shape) * np.sqrt(signal / photons), dtype=np.float32)


def _display(signal: Floats, detector: Detector, field: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Logarithm, local contrast, window and gamma, as a viewing station shows it."""
    dark = -np.log(np.maximum(signal, 1e-4))
    dark = dark + detector.detail * (dark - gaussian_filter(dark, 36 * len(dark) / field))
    low, high = np.quantile(dark[signal < 0.35], [0.01, 0.995])
    shown = np.clip((dark - low) / (high - low) * 0.94 + 0.03 + rng.normal(0, 0.015), 0, 1)
    return np.asarray(np.round(255 * shown ** (detector.gamma * float(rng.uniform(0.92, 1.08)))), dtype=np.uint8)
