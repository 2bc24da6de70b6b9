"""How the pixels of a file are stored, from its header."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from medprior.data.readers.dicom import tags
from medprior.data.readers.dicom.elements import SERIES_REMEMBERED, UNDEFINED, Elements
from medprior.data.readers.dicom.syntaxes import NATIVE
from medprior.errors import DataError

MOST_SAMPLES = 2**30
MOST_FRAMES = 2**16
_LEAST_FRAGMENT = 8  # bytes: its tag and its length
"""Samples (rows x columns x channels x frames) that one file may hold; more is refused before anything is unpacked."""
_FLOATS: dict[int, np.dtype[Any]] = {
    tags.FLOAT_PIXEL_DATA: np.dtype(np.float32),
    tags.DOUBLE_FLOAT_PIXEL_DATA: np.dtype(np.float64),
}


@dataclass(frozen=True)
class Layout:
    """How the pixels of one file are stored.

    Attributes:
        rows, columns, samples, frames: the shape of the pixel data.
        allocated, stored, high: bits per sample, those that mean something, and the place of the highest of them.
        padding: lowest and highest stored value that means "nothing here", or None.
    """

    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str
    planar: bool
    floats: bool
    little: bool
    padding: tuple[int, int] | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one stored sample, in the machine's byte order."""
        if self.floats:
            return np.dtype(f"f{self.allocated // 8}")
        return np.dtype(f"{'i' if self.signed else 'u'}{max(8, self.allocated) // 8}")

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and highest value that the stored bits can hold."""
        if self.signed:
            return -(1 << (self.stored - 1)), (1 << (self.stored - 1)) - 1
        return 0, (1 << self.stored) - 1

    @property
    def inverted(self) -> bool:
        """Whether low values are meant to be seen bright."""
        return self.photometric == "MONOCHROME1"


def layout_of(elements: Elements) -> Layout:
    """The layout that a header states.

    Raises:
        DataError: there are no pixel data, or what is said of them makes no image or one above `MOST_SAMPLES`.
    """
    if elements.pixels is None:
        raise DataError("its header is that of an image, but the pixel data are missing")
    found = _stated(elements.alike, elements.pixels[0])
    _require_room(found, elements)
    return found


@lru_cache(maxsize=SERIES_REMEMBERED)
def _stated(elements: Elements, pixels: int) -> Layout:
    floats = _FLOATS.get(pixels)
    allocated = floats.itemsize * 8 if floats else elements.integer(tags.BITS_ALLOCATED, 0)
    stored = allocated if floats else elements.integer(tags.BITS_STORED, 0) or allocated
    found = Layout(
        rows=elements.integer(tags.ROWS, 0),
        columns=elements.integer(tags.COLUMNS, 0),
        samples=elements.integer(tags.SAMPLES_PER_PIXEL, 1),
        frames=_frames(elements),
        allocated=allocated,
        stored=stored,
        high=elements.integer(tags.HIGH_BIT, stored - 1),
        signed=elements.integer(tags.PIXEL_REPRESENTATION, 0) == 1,
        photometric=_photometric(elements),
        planar=elements.integer(tags.PLANAR_CONFIGURATION, 0) == 1,
        floats=floats is not None,
        little=elements.little,
        padding=None,
    )
    _check(found)
    return found if floats else _with_padding(found, elements)


def _photometric(elements: Elements) -> str:
    said = re.sub(r"[^A-Z0-9]+", "_", elements.text(tags.PHOTOMETRIC_INTERPRETATION).upper()).strip("_")
    fallback = "RGB" if elements.integer(tags.SAMPLES_PER_PIXEL, 1) == 3 else "MONOCHROME2"
    if fallback == "MONOCHROME2" and said not in ("MONOCHROME1", "PALETTE_COLOR"):
        return fallback
    return said or fallback


def _frames(elements: Elements) -> int:
    return max(1, elements.integer(tags.NUMBER_OF_FRAMES, 1))


def _check(layout: Layout) -> None:
    rows, columns, samples = layout.rows, layout.columns, layout.samples
    if not (0 < rows < 65536 and 0 < columns < 65536):
        raise DataError(f"its header says {rows} rows and {columns} columns, which is no image")
    if samples not in (1, 3):
        raise DataError(f"it has {samples} samples per pixel; 1 and 3 can be read")
    if rows * columns * samples * layout.frames > MOST_SAMPLES:
        size = f"{layout.frames} x {rows} x {columns} x {samples}"
        raise DataError(f"its header claims {size} samples, more than {MOST_SAMPLES:,}, which one file may hold")
    if layout.floats:
        return
    if layout.allocated not in (1, 8, 16, 32):
        raise DataError(f"it allocates {layout.allocated} bits per sample; 1, 8, 16 and 32 can be read")
    if not 0 < layout.stored <= layout.allocated:
        raise DataError(f"it stores {layout.stored} bits in {layout.allocated}, which cannot be")


def _require_room(layout: Layout, elements: Elements) -> None:
    """Few bytes can announce any number of frames, and each of them takes its time."""
    assert elements.pixels is not None
    _, _, at, length = elements.pixels
    there = min(length, len(elements.data) - at)
    whole = layout.rows * layout.columns * layout.samples * layout.allocated
    least = whole * 2 // 3 if length != UNDEFINED and elements.syntax in NATIVE else _LEAST_FRAGMENT * 8
    if layout.frames > 1 and layout.frames * least > there * 8:
        raise DataError(
            f"its pixel data are truncated: {layout.frames:,} frames are announced, {there:,} bytes are there"
        )
    if layout.frames > MOST_FRAMES:
        raise DataError(f"it has {layout.frames:,} frames, more than {MOST_FRAMES:,}, which one file may hold")


def _with_padding(layout: Layout, elements: Elements) -> Layout:
    high = layout.high if layout.stored - 1 <= layout.high < layout.allocated else layout.stored - 1
    value, limit = (
        _stored(elements, tags.PIXEL_PADDING_VALUE, layout),
        _stored(elements, tags.PIXEL_PADDING_RANGE_LIMIT, layout),
    )
    if value is None:
        return replace(layout, high=high)
    ends = (value, value if limit is None else limit)
    return replace(layout, high=high, padding=(min(ends), max(ends)))


def _stored(elements: Elements, tag: int, layout: Layout) -> int | None:
    """A value of ambiguous VR (US or SS), as the pixels' signedness says."""
    number = elements.number(tag)
    if number is None:
        return None
    value, bits = int(number), layout.allocated
    if layout.signed and value >= 1 << (bits - 1) > 1:
        return value - (1 << bits)
    return value + (1 << bits) if not layout.signed and value < 0 else value
