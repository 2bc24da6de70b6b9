"""The scans of the benchmark: generated patients, and patterns that a smaller view cannot carry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image

from medprior.data.catalog import build_catalog
from medprior.data.phantom import make_cohort
from medprior.data.store.pixels import PixelStore

HELD = 8.0  # stored pixels per wave that a view at reduction 2 must keep
LOST = (2.0, 2.5, 3.0)  # and per wave that it must not show
PHASES = 4
RANGE = (-1000, 1000)  # HU that the store of volumes spans


@dataclass(frozen=True)
class Scans:
    """A store of `patients` scans followed by patterns.

    Attributes:
        rows: catalog rows of each kind: "patients", "held", "lost" and "rings".
        whole: (N, 1, *S) uint8, level 0 of every row, as the other libraries get it.
    """

    store: PixelStore
    rows: dict[str, torch.Tensor]
    whole: torch.Tensor

    @property
    def dims(self) -> int:
        return self.store.spatial_dims


def make_scans(folder: Path, *, dims: int, size: int, patients: int) -> Scans:
    """Write a cohort and the patterns, and store both: 8 bits, `size` pixels a side, nothing resampled."""
    kind = "xray" if dims == 2 else "ct"
    make_cohort(folder / "scans", patients=patients, seed=0, size=size, kind=kind)
    for old in (folder / "scans").glob("masks/*"):
        old.unlink()
    names = [(f"{name}-{number}", field) for name, fields in patterns(dims, size).items() for number, field in fields]
    for name, field in names:
        write(folder / "scans" / "images" / name, field)
    catalog = build_catalog(folder / "scans")
    store = PixelStore.build(catalog, folder / "store", size=size, spatial_dims=dims)
    paths = [Path(path).name for path in catalog.table["path"]]
    rows = {kind: [i for i, path in enumerate(paths) if path.startswith(kind)] for kind in ("held", "lost", "rings")}
    rows["patients"] = [i for i, path in enumerate(paths) if path.startswith("P")]
    whole = torch.from_numpy(store.load())[..., :size].contiguous()
    return Scans(store, {kind: torch.tensor(found) for kind, found in rows.items()}, whole)


def patterns(dims: int, size: int) -> dict[str, list[tuple[int, np.ndarray]]]:
    """Fields in [0, 1]: a chequerboard and waves too short for a view of half the size, a long wave, and rings."""
    place = np.stack(np.meshgrid(*[np.arange(size)] * dims, indexing="ij")).astype(float)
    lost = [(place.sum(0) + phase) % 2 for phase in range(PHASES)]
    lost += [wave(place, length, phase) for length in LOST for phase in range(PHASES)]
    held = [wave(place, HELD, phase) for phase in range(PHASES)]
    apart = ((place - (size - 1) / 2) ** 2).sum(0)
    rings = [0.5 + 0.5 * np.cos(np.pi * apart / (1.5 * size))]
    return {name: list(enumerate(fields)) for name, fields in (("held", held), ("lost", lost), ("rings", rings))}


def wave(place: np.ndarray, length: float, phase: int) -> np.ndarray:
    """A sine along an axis that turns with the phase."""
    axis = place[phase % len(place)]
    return 0.5 + 0.5 * np.sin(2 * np.pi * axis / length + phase + 0.3)


def write(path: Path, field: np.ndarray) -> None:
    if field.ndim == 2:
        Image.fromarray(np.rint(field * 255).astype(np.uint8)).save(path.with_suffix(".png"))
        return
    low, high = RANGE
    volume = np.rint(low + field * (high - low)).astype(np.int16)
    # NIfTI counts x to the right and y to the front; medprior keeps volumes as (down, front to back, left).
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-6.0, -6.0, -6.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path.with_suffix(".nii.gz"))
