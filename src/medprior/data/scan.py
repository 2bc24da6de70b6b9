"""The nouns of reading: where a scan lies (`Source`), what it is (`ScanInfo`), and the scan itself (`Scan`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Source:
    """Where one scan lies.

    Attributes:
        reader: name of the reader that reads it.
        paths: its files, relative to the root of the catalog, with forward slashes; of a series one per slice, in the
            order of the slices.
        member: the array inside a container (npz), or "".
        frame: its index inside the file or member, or -1 when it is the whole of it.
        frames: the frames of a multi-frame file that make a volume, in the order of its slices; () for all or none.
        split: train, val or test where the container says so, else "".
        label: the target values where the container carries them.
    """

    reader: str
    paths: tuple[str, ...]
    member: str = ""
    frame: int = -1
    frames: tuple[int, ...] = ()
    split: str = ""
    label: tuple[float, ...] | None = None


ORIGIN = ("sex", "age", "site", "manufacturer", "scanner", "field_strength", "kvp")
"""What headers say of who was scanned, where and with what: M, F or O; years; the institution; who made the device; its
model; tesla; kilovolts of the tube."""


@dataclass(frozen=True)
class ScanInfo:
    """What the header says, without decoding pixels.

    Attributes:
        shape: (H, W) or (D, H, W) as `read` gives it.
        dtype: name of the type of the physical values.
        spacing: mm per spatial axis, in the order of `shape`, or None.
        affine: 12 numbers, the first three rows of the matrix that takes the index (d, h, w, 1) of a voxel of a volume
            to millimetres (x, y, z) towards the patient's left, back and head (DICOM's LPS), row by row; or None.
        orientation: "SPL" where the axes (D, H, W) run towards the head, the back and the left; None where unknown.
        window: centre and width that the file suggests for viewing, in physical values, or None.
        patient: what the file says of who it is, in clear; the catalog keeps a salted hash of it.
        study: the examination, likewise.
        doubts: sentences about what is odd in it although it can be read (a missing slice, not-a-number voxels).
        units: of a CT, what its values are where the file says that they are no Hounsfield units, or "".
        origin: what the header says of each of `ORIGIN`, "" where nothing; () where it says nothing at all. The catalog
            keeps a salted hash of the site.
    """

    shape: tuple[int, ...]
    channels: int
    dtype: str
    modality: str | None = None
    spacing: tuple[float, ...] | None = None
    patient: str | None = None
    study: str | None = None
    affine: tuple[float, ...] | None = None
    orientation: str | None = None
    window: tuple[float, float] | None = None
    doubts: tuple[str, ...] = ()
    units: str = ""
    origin: tuple[str, ...] = ()


NOTES = ("unreadable", "no image", "apart", "doubt")


@dataclass(frozen=True)
class Note:
    """What is to be said of a file.

    Attributes:
        path: relative to the root of the catalog.
        kind: "unreadable" (damaged, or no decoder: no scan comes from it), "no image" (a report, a structure set: there
            is none in it), "apart" (a localiser, a screen copy: an image that is no scan to learn from), or "doubt" (it
            is used, and something about it is odd).
        reason: one sentence without a full stop.
    """

    path: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """One decoded image.

    Attributes:
        pixels: (C, *S) physical values, S = (H, W) or (D, H, W); integers where they are integers, else float32.
        spacing: mm per spatial axis, in the order of S, or None.
        modality: DICOM code (CT, MR, CR, DX, US, SM, ...) or None.
        source: the path it came from, relative to the root of its catalog.
        affine: (4, 4) float64, from the index (d, h, w, 1) of a voxel to millimetres (x, y, z, 1) in DICOM's LPS, or
            None; volumes only.
        window: centre and width that the file suggests for viewing, in physical values, or None.
        doubts: what is odd in it although it could be read.
    """

    pixels: NDArray[Any]
    source: str
    spacing: tuple[float, ...] | None = None
    modality: str | None = None
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    orientation: str | None = None
    affine: NDArray[np.float64] | None = None
    window: tuple[float, float] | None = None
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim not in (3, 4):
            raise ValueError(f"pixels are (C, H, W) or (C, D, H, W), not {self.pixels.shape}")
        pixels = self.pixels.view()
        pixels.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return int(np.ndim(self.pixels)) - 1
