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
        paths: its files, relative to the root of the catalog, with forward slashes.
        member: the array inside a container (npz), or "".
        frame: its index inside the file or member, or -1 when it is the whole of it.
        split: train, val or test where the container says so, else "".
        label: the target values where the container carries them.
    """

    reader: str
    paths: tuple[str, ...]
    member: str = ""
    frame: int = -1
    split: str = ""
    label: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ScanInfo:
    """What the header says, without decoding pixels: `shape` is (H, W) or (D, H, W); `spacing` in mm, same order."""

    shape: tuple[int, ...]
    channels: int
    dtype: str
    modality: str | None = None
    spacing: tuple[float, ...] | None = None
    patient: str | None = None


@dataclass(frozen=True)
class Scan:
    """One decoded image.

    Attributes:
        pixels: (C, *S) physical values, S = (H, W) or (D, H, W); integers where they are integers, else float32.
        spacing: mm per spatial axis, in the order of S, or None.
        modality: DICOM code (CT, MR, CR, DX, US, SM, ...) or None.
        source: the path it came from, relative to the root of its catalog.
    """

    pixels: NDArray[Any]
    source: str
    spacing: tuple[float, ...] | None = None
    modality: str | None = None
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    orientation: str | None = None

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
