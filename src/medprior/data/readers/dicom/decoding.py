"""Stored samples of each frame, one frame in memory at a time."""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.readers.dicom import syntaxes
from medprior.data.readers.dicom.codestream import picture, without_remarks
from medprior.data.readers.dicom.elements import UNDEFINED, Elements
from medprior.data.readers.dicom.layout import Layout
from medprior.errors import DataError

MOST_UNPACKED = 2**27
"""Samples of one compressed frame: a kilobyte of JPEG 2000 can say it is any number of them."""
_TAIL = 64  # bytes that writers put after the end of a picture at most

for _name in ("pydicom", "openjpeg", "rle"):  # what they log of damaged frames is said by the DataError
    logging.getLogger(_name).addHandler(logging.NullHandler())


def stored_frames(elements: Elements, layout: Layout) -> Iterator[tuple[NDArray[Any], str]]:
    """Each frame as (rows, columns) or (rows, columns, 3) of stored samples, with the colour space it is in.

    Raises:
        DataError: the transfer syntax is not decoded, or the pixel data are truncated or disagree with the header.
    """
    syntaxes.check(elements.syntax)
    assert elements.pixels is not None
    if elements.pixels[3] != UNDEFINED and elements.syntax != syntaxes.DEFLATED_FRAMES:
        return _native(elements, layout)
    if elements.pixels[3] != UNDEFINED or elements.syntax not in syntaxes.NATIVE:
        return _unpacked(elements, layout)
    raise DataError("its pixel data are in fragments, although its transfer syntax is uncompressed")


def _native(elements: Elements, layout: Layout) -> Iterator[tuple[NDArray[Any], str]]:
    assert elements.pixels is not None
    _, vr, at, length = elements.pixels
    if elements.syntax not in syntaxes.NATIVE:
        raise DataError(f"its pixel data are not in fragments, as {syntaxes.name(elements.syntax)} has them")
    there, view = min(length, len(elements.data) - at), memoryview(elements.data)
    photometric, bits = _native_size(layout, there)
    if there * 8 < bits * layout.frames:
        needed = -(-bits * layout.frames // 8)
        raise DataError(f"its pixel data are truncated: {there:,} of {needed:,} bytes are there")
    swapped = not elements.little and vr != b"OB" and layout.allocated <= 8
    for index in range(layout.frames):
        first = index * bits
        begin, end = first // 8, -(-(first + bits) // 8)
        raw = _swapped(elements, at, begin, end) if swapped else view[at + begin : at + end]
        yield _samples(raw, layout, first % 8, photometric, elements.little), photometric


def _swapped(elements: Elements, at: int, begin: int, end: int) -> bytes:
    """Bytes that were written as big-endian words."""
    even = begin & ~1
    part = bytes(elements.data[at + even : at + end + (end & 1)])
    words = np.frombuffer(part + b"\0" * (len(part) & 1), np.uint16).byteswap().tobytes()
    return words[begin - even : end - even]


def _native_size(layout: Layout, there: int) -> tuple[str, int]:
    """The colour space and the bits of one frame; YBR_FULL_422 is often said of pixels that are not subsampled."""
    full = layout.rows * layout.columns * layout.samples * layout.allocated
    if layout.photometric == "YBR_FULL_422":
        halved = full // 3 * 2
        if there * 8 < full * layout.frames:
            return "YBR_FULL_422", halved
        return "YBR_FULL", full
    return layout.photometric, full


def _samples(raw: Any, layout: Layout, skip: int, photometric: str, little: bool) -> NDArray[Any]:
    rows, columns = layout.rows, layout.columns
    if layout.allocated == 1:
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
        return bits[skip : skip + rows * columns].reshape(rows, columns)
    values = np.frombuffer(raw, layout.dtype.newbyteorder("<" if little else ">"))
    if photometric == "YBR_FULL_422":
        return _upsampled(values).reshape(rows, columns, 3)
    if layout.samples == 1:
        return values.reshape(rows, columns)
    if layout.planar:
        return np.moveaxis(values.reshape(3, rows, columns), 0, -1)
    return values.reshape(rows, columns, 3)


def _upsampled(values: NDArray[Any]) -> NDArray[Any]:
    """Y0 Y1 Cb Cr of two neighbours to Y Cb Cr of each."""
    pairs = values.reshape(-1, 4)
    found = np.empty((len(pairs), 2, 3), values.dtype)
    found[:, :, 0], found[:, :, 1], found[:, :, 2] = pairs[:, :2], pairs[:, 2:3], pairs[:, 3:4]
    return found


def _unpacked(elements: Elements, layout: Layout) -> Iterator[tuple[NDArray[Any], str]]:
    count = 0
    for frame in _fragments(elements, layout):
        if count == layout.frames:
            break
        yield _decoded(frame, elements.syntax, layout)
        count += 1
    if count < layout.frames:
        raise DataError(f"its pixel data are truncated: {count} of {layout.frames} frames are there")


def _fragments(elements: Elements, layout: Layout) -> Iterator[bytes]:
    """The compressed bytes of each frame."""
    from medprior.data.readers.dicom.library import generate_frames

    assert elements.pixels is not None
    _, _, at, length = elements.pixels
    if length != UNDEFINED:
        yield bytes(elements.data[at : at + length])
        return
    data = elements.data
    stream: Any = io.BytesIO(data) if isinstance(data, bytes) else data  # a memory map is a stream itself
    stream.seek(at)
    frames = generate_frames(stream, number_of_frames=layout.frames)
    while True:
        with warnings.catch_warnings(), _damage_said():
            warnings.simplefilter("ignore")
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _decoded(frame: bytes, syntax: str, layout: Layout) -> tuple[NDArray[Any], str]:
    if syntax == syntaxes.DEFLATED_FRAMES:
        return _inflated(frame, layout), layout.photometric
    if syntax == syntaxes.RLE:
        if layout.allocated == 1:
            return _samples(_run_lengths(frame, layout), layout, 0, layout.photometric, True), layout.photometric
        return _by_pydicom(frame, syntax, layout, "pylibjpeg")
    shown = picture(frame)
    if frame.find(b"\xff\xd9", max(0, len(frame) - _TAIL)) < 0:  # decoders fill in what lacks, or search for it long
        raise DataError("its pixel data are truncated: the compressed picture has no end")
    if shown is None:
        raise DataError("its pixel data hold no picture of the kind that its transfer syntax says")
    if (shown.rows, shown.columns, shown.samples) != (layout.rows, layout.columns, layout.samples):
        inside = f"{shown.rows} x {shown.columns} x {shown.samples}"
        said = f"{layout.rows} x {layout.columns} x {layout.samples}"
        raise DataError(f"the compressed picture is {inside}, the header says {said}")
    if shown.rows * shown.columns * shown.samples > MOST_UNPACKED:
        size = f"{shown.rows} x {shown.columns} x {shown.samples}"
        reason = f"the compressed picture has {size} samples, more than {MOST_UNPACKED:,}, which one frame may have"
        raise DataError(reason, do="Save it uncompressed, or cut it into tiles")
    if shown.bits > layout.allocated and layout.allocated > 1:
        raise DataError(f"the compressed picture has {shown.bits} bits, the header allocates {layout.allocated}")
    if syntax in syntaxes.JPEG_2000:
        return _by_pydicom(frame, syntax, layout, "pylibjpeg")
    if syntax in syntaxes.JPEG_LS:
        return _by_pydicom(frame, syntax, layout, "pyjpegls")
    if syntax in syntaxes.JPEG_LOSSY and shown.bits == 8:
        return _by_pydicom(frame, syntaxes.JPEG_BASELINE, layout, "pillow")
    return _by_gdcm(frame, syntax, layout)


def _by_pydicom(frame: bytes, syntax: str, layout: Layout, plugin: str) -> tuple[NDArray[Any], str]:
    from medprior.data.readers.dicom.library import encapsulate, get_decoder

    options: dict[str, Any] = {
        "number_of_frames": 1,
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
        "photometric_interpretation": layout.photometric.replace("PALETTE_COLOR", "PALETTE COLOR"),
        "planar_configuration": int(layout.planar),
        "pixel_keyword": "PixelData",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed = encapsulate([frame], has_bot=False)
        with _damage_said():
            values, said = get_decoder(syntax).as_array(packed, decoding_plugin=plugin, **options)
    return values, str(said["photometric_interpretation"]).replace(" ", "_")


@contextmanager
def _damage_said() -> Iterator[None]:
    """What decoders raise of damaged frames; a panic of one in Rust is no Exception, and would end the program."""
    try:
        yield
    except MemoryError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError("the compressed picture is damaged, or not what its transfer syntax says") from error


def _by_gdcm(frame: bytes, syntax: str, layout: Layout) -> tuple[NDArray[Any], str]:
    """JPEG of more than 8 bits, and lossless JPEG."""
    from medprior.data.readers.dicom.aside import decoded_aside

    raw = decoded_aside(without_remarks(frame), syntax, layout)
    shape = (layout.rows, layout.columns, 3)[: 2 + (layout.samples > 1)]
    return np.frombuffer(raw, layout.dtype).reshape(shape), layout.photometric


def _inflated(frame: bytes, layout: Layout) -> NDArray[Any]:
    needed = -(-layout.rows * layout.columns * layout.samples * layout.allocated // 8)
    raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, needed + 8)
    if len(raw) < needed:
        raise DataError(f"its pixel data are truncated: {len(raw):,} of {needed:,} bytes are there")
    return _samples(raw[:needed], layout, 0, layout.photometric, True)


def _run_lengths(frame: bytes, layout: Layout) -> bytes:
    """PackBits of one segment, for pixels of one bit."""
    needed = -(-layout.rows * layout.columns // 8)
    pos, found = int.from_bytes(frame[4:8], "little"), bytearray()
    while pos + 1 < len(frame) and len(found) < needed:
        code = frame[pos]
        if code < 128:
            found += frame[pos + 1 : pos + 2 + code]
            pos += 2 + code
        else:
            found += frame[pos + 1 : pos + 2] * (257 - code if code > 128 else 0)
            pos += 2 if code > 128 else 1
    if len(found) < needed:
        raise DataError(f"its pixel data are truncated: {len(found):,} of {needed:,} bytes are there")
    return bytes(found[:needed])
