"""Physical values from stored samples: bits masked, MONOCHROME1 inverted, rescaled or looked up, colours as RGB.

MONOCHROME1 is inverted within the range of its stored bits, v -> lowest + highest - v, before the rescale: every slice
of a series is turned alike, and physical values keep their range. Padding becomes the lowest value then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.readers.dicom import tags
from medprior.data.readers.dicom.elements import Elements
from medprior.data.readers.dicom.layout import Layout
from medprior.data.readers.guard import physical
from medprior.errors import DataError

Rescale = tuple[float, float]
_SMALL = np.iinfo(np.int16)


@dataclass(frozen=True)
class Table:
    """A lookup table: `values` of the stored samples from `first` on."""

    first: int
    values: NDArray[Any]
    bits: int


def rescale_of(elements: Elements) -> Rescale:
    """Slope and intercept of a header, (1, 0) where it has none or a slope of nought."""
    slope, intercept = elements.number(tags.RESCALE_SLOPE), elements.number(tags.RESCALE_INTERCEPT)
    return (slope or 1.0, intercept or 0.0)


def palette_of(elements: Elements, layout: Layout) -> tuple[Table, ...]:
    """The tables of red, green and blue, at 8 bits, which is what they are shown with.

    Raises:
        DataError: there are none, or they are segmented or of the wrong length.
    """
    return tuple(
        _table(
            elements,
            tags.RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR + n,
            tags.RED_PALETTE_COLOR_LOOKUP_TABLE_DATA + n,
            layout,
        )
        for n in range(3)
    )


def _table(elements: Elements, described: int, held: int, layout: Layout) -> Table:
    numbers = elements.numbers(described)
    raw = elements.values.get(held, (b"", b""))[0]
    if len(numbers) != 3 or not raw:
        raise DataError("it is a palette image, but its colour tables are missing or segmented")
    count, first = int(numbers[0]) or 65536, int(numbers[1])
    if layout.signed and first >= 1 << 15:
        first -= 1 << 16
    wide = len(raw) >= 2 * count
    values: NDArray[Any]
    values = np.frombuffer(raw, np.dtype(np.uint16).newbyteorder("<" if elements.little else ">") if wide else np.uint8)
    if len(values) < count:
        raise DataError(f"its colour tables hold {len(values)} of {count} entries")
    values = values[:count]
    if wide and values.max() > 255:  # some writers put 8-bit colours into 16-bit tables
        values = values >> 8
    return Table(first, values.astype(np.uint8), 8)


def modality_table(elements: Elements, layout: Layout) -> Table | None:
    """The modality LUT of a header, or None.

    Raises:
        DataError: it is damaged.
    """
    if tags.MODALITY_LUT_SEQUENCE not in elements.nested:
        return None
    items = elements.dataset.get(tags.MODALITY_LUT_SEQUENCE)
    if not items or not items.value:
        return None
    item = items.value[0]
    count, first, bits = (int(n) for n in np.atleast_1d(item[tags.LUT_DESCRIPTOR].value)[:3])
    held = item[tags.LUT_DATA].value
    order = "<" if elements.little else ">"
    values = np.frombuffer(held, f"{order}u2") if isinstance(held, bytes) else np.atleast_1d(np.asarray(held))
    if len(values) < (count or 65536):
        raise DataError("its modality LUT is shorter than it says")
    if layout.signed and first >= 1 << 15:
        first -= 1 << 16
    return Table(first, values[: count or 65536].astype(np.uint16), min(16, max(1, bits)))


def to_physical(
    stored: NDArray[Any], space: str, layout: Layout, rescale: Rescale, table: Table | None, palette: tuple[Table, ...]
) -> NDArray[Any]:
    """(C, H, W) physical values from the stored samples of one frame.

    Raises:
        DataError: a colour space that is not known, or no finite value.
    """
    if palette:
        return np.stack([_looked_up(stored, one) for one in palette])
    if stored.ndim == 3:
        return _rgb(np.ascontiguousarray(np.moveaxis(stored, -1, 0)), space)
    if layout.floats:
        return physical(_scaled_floats(stored, rescale))[None]
    if layout.allocated == 1:
        return (_meant(stored, layout, layout.inverted) * np.uint8(255))[None]
    values = _meant(stored, layout, layout.inverted and table is None)
    if table is not None:
        found = _looked_up(values, table)
        return ((1 << table.bits) - 1 - found if layout.inverted else found).astype(np.uint16)[None]
    return _rescaled(values, rescale)[None]


def _meant(stored: NDArray[Any], layout: Layout, turn: bool) -> NDArray[Any]:
    """The bits that mean something, turned where low means bright; padding that would mislead becomes the lowest."""
    values = _masked(stored.astype(layout.dtype, copy=False), layout)
    lowest, highest = layout.limits
    if turn:
        values = (lowest + highest - values.astype(np.int64)).astype(values.dtype)
    if layout.padding and (turn or not lowest <= layout.padding[0] <= layout.padding[1] <= highest):
        padded = (stored >= layout.padding[0]) & (stored <= layout.padding[1])
        values = np.where(padded, values.dtype.type(lowest), values)
    return values


def _masked(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    if layout.stored == layout.allocated:
        return values
    lowest, highest = layout.limits
    shift = layout.high + 1 - layout.stored
    if shift == 0 and values.min() >= lowest and values.max() <= highest:
        return values
    unsigned = values.view(f"u{values.itemsize}") >> shift & ((1 << layout.stored) - 1)
    masked = unsigned.astype(np.int64)
    return np.where(masked > highest, masked - (1 << layout.stored), masked).astype(layout.dtype)


def _rescaled(values: NDArray[Any], rescale: Rescale) -> NDArray[Any]:
    """Integers where slope and intercept are whole, in the stored type, int16 or int32; else float32."""
    slope, intercept = rescale
    if rescale == (1.0, 0.0):
        return values
    if not (slope.is_integer() and intercept.is_integer()):
        return physical(values * slope + intercept)
    lowest, highest = int(values.min()), int(values.max())
    ends = sorted((lowest * int(slope) + int(intercept), highest * int(slope) + int(intercept)))
    if _SMALL.min <= ends[0] and ends[1] <= _SMALL.max and abs(slope) <= _SMALL.max and abs(intercept) <= _SMALL.max:
        wide = _as_int16(values) if highest <= _SMALL.max else values.astype(np.int32)
        found = wide + np.int16(intercept) if slope == 1 else wide.astype(np.int32) * int(slope) + int(intercept)
        return found.astype(np.int16, copy=False)
    if max(map(abs, ends)) >= 1 << 31:
        return physical(values * slope + intercept)
    return (values.astype(np.int64) * int(slope) + int(intercept)).astype(np.int32)


def _as_int16(values: NDArray[Any]) -> NDArray[np.int16]:
    """Integers that fit, without a copy where the bits stay the same."""
    return values.view(np.int16) if values.dtype == np.uint16 else values.astype(np.int16, copy=False)


def _scaled_floats(values: NDArray[Any], rescale: Rescale) -> NDArray[Any]:
    return values if rescale == (1.0, 0.0) else values * rescale[0] + rescale[1]


def _looked_up(values: NDArray[Any], table: Table) -> NDArray[Any]:
    places = np.clip(values.astype(np.int64) - table.first, 0, len(table.values) - 1)
    found: NDArray[Any] = table.values[places]
    return found


def _rgb(channels: NDArray[Any], space: str) -> NDArray[Any]:
    """(3, H, W) RGB from any colour space of three samples."""
    if space in ("RGB", "YBR_ICT", "YBR_RCT"):  # decoders of JPEG 2000 undo ICT and RCT themselves
        return channels.astype(channels.dtype.newbyteorder("="), copy=False)
    if space not in ("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420"):
        raise DataError(f"its colours are in the space {space}, which is not known")
    if channels.dtype != np.uint8:
        raise DataError(f"its colours are in the space {space} with more than 8 bits, which is not defined")
    luma, blue, red = channels.astype(np.float32)
    blue, red = blue - 128, red - 128
    if space.startswith("YBR_PARTIAL"):
        luma, blue, red = (luma - 16) * (255 / 219), blue * (255 / 224), red * (255 / 224)
    # ITU-R BT.601, as DICOM C.7.6.3.1.2 has it
    colours = luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue
    return np.stack([np.clip(np.rint(one), 0, 255).astype(np.uint8) for one in colours])
