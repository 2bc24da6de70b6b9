"""The elements of a DICOM file: where they lie and what stands in them, with no more parsed than is asked for.

A plain header is walked here, element by element, and only the wanted values are cut out; pydicom parses what is nested
and what this walk finds odd. Nothing is decoded, and no name or path that the file mentions is followed.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from medprior.data.readers.dicom import tags
from medprior.errors import DataError

DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
UNDEFINED = 0xFFFFFFFF
MOST_HEADER = 32 << 20
"""Bytes of a header that are parsed at most."""
MOST_INFLATED = 256 << 20
"""Bytes that a deflated data set unpacks to at most; at the peak it takes twice as many."""
_MOST_DEEP = 64
_LONG = frozenset(b"OB OW OF OD OL OV SQ UC UR UT UN SV UV".split())
SHORT_NAMES = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
"""VRs whose length takes two bytes."""
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_ABSENT = (b"", b"")
SERIES_REMEMBERED = 16
_REMEMBERED = 512  # values of 64 kB at most, which the slices of a series have in common
_BINARY = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d"}


class _Odd(Exception):  # noqa: N818 - the walk gives way to pydicom
    """Something the plain walk does not understand."""


@dataclass(frozen=True, eq=False)
class Elements:
    """The wanted elements of one file.

    Attributes:
        data: the bytes the offsets mean; the file's, or what its deflated part holds.
        start: where the data set begins.
        syntax: UID of the transfer syntax; guessed where the file does not say.
        values: raw value and VR (b"" where implicit) by tag.
        nested: the tags of `tags.NESTED` that are there.
        pixels: tag, VR, offset and length (`UNDEFINED` where encapsulated) of the pixel data, or None.
    """

    data: Any
    start: int
    syntax: str
    explicit: bool
    little: bool
    values: Mapping[int, tuple[bytes, bytes]]
    nested: frozenset[int]
    pixels: tuple[int, bytes, int, int] | None
    media_class: str = ""

    @cached_property
    def dataset(self) -> Any:
        """The whole header as pydicom's data set."""
        end = self.pixels[2] if self.pixels else len(self.data)
        return _parsed(self.data, self.start, end, self.explicit, self.little)[0]

    @cached_property
    def alike(self) -> Elements:
        """What files that differ in `tags.OWN` alone have in common, and nothing else; the same object for all of them,
        so that what follows from it is found once for a series."""
        common = tuple([item for item in self.values.items() if item[0] not in tags.OWN])
        return _alike(common, self.syntax, self.explicit, self.little, self.media_class)

    def text(self, tag: int) -> str:
        """The value as text, "" where absent."""
        return _text(self.values.get(tag, _ABSENT)[0])

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values as texts, () where absent or empty."""
        return _texts(self.values.get(tag, _ABSENT)[0])

    def numbers(self, tag: int) -> tuple[float, ...]:
        """The values as finite numbers; () where absent, empty or no numbers."""
        raw, vr = self.values.get(tag, _ABSENT)
        form = _BINARY.get(vr) or (tags.NUMBERS.get(tag) if vr in (b"", b"UN", b"OW") else None)
        return _numbers(raw, form, self.little) if raw else ()

    def number(self, tag: int) -> float | None:
        """The first value as a number, or None."""
        found = self.numbers(tag)
        return found[0] if found else None

    def integer(self, tag: int, default: int) -> int:
        """The first value as an integer, or `default`."""
        number = self.number(tag)
        return default if number is None else int(number)


@lru_cache(maxsize=SERIES_REMEMBERED)
def _alike(
    common: tuple[tuple[int, tuple[bytes, bytes]], ...], syntax: str, explicit: bool, little: bool, media_class: str
) -> Elements:
    return Elements(b"", 0, syntax, explicit, little, dict(common), frozenset(), None, media_class)


@lru_cache(maxsize=_REMEMBERED)
def _numbers(raw: bytes, form: str | None, little: bool) -> tuple[float, ...]:
    try:
        if form:
            size = struct.calcsize(form)
            count = len(raw) // size
            return struct.unpack(f"{'<' if little else '>'}{count}{form}", raw[: count * size])
        found = tuple(float(part) for part in _text(raw).split("\\") if part.strip())
    except (ValueError, struct.error):
        return ()
    return found if all(abs(number) < 1e300 for number in found) else ()


@lru_cache(maxsize=_REMEMBERED)
def _texts(value: bytes) -> tuple[str, ...]:
    text = _text(value)
    return tuple(part.strip() for part in text.split("\\")) if text else ()


@lru_cache(maxsize=_REMEMBERED)
def _text(value: bytes) -> str:
    try:
        return value.decode().strip("\0 \t\r\n")
    except UnicodeDecodeError:
        return value.decode("latin-1").strip("\0 \t\r\n")


def scan(data: Any) -> Elements:
    """Walk the elements of a file (bytes or a memory map) up to its pixel data.

    Raises:
        DataError: it is no DICOM, is truncated in its header, or its header is too large or too deep.
    """
    try:
        start, meta = _meta(data)
    except (_Odd, struct.error):
        raise DataError("its header is damaged or truncated") from None
    syntax = meta.get(tags.TRANSFER_SYNTAX_UID, "")
    if syntax == DEFLATED:
        data, start = _inflated(data, start), 0
    explicit, little = _encoding(data, start, syntax)
    syntax = syntax or ((BIG if not little else "1.2.840.10008.1.2.1") if explicit else IMPLICIT)
    try:
        values, nested, pixels = _walk(data, start, explicit, little)
    except (_Odd, struct.error):
        values, nested, pixels = _parse(data, start, explicit, little)
    return Elements(
        data, start, syntax, explicit, little, values, nested, pixels, meta.get(tags.MEDIA_STORAGE_SOP_CLASS_UID, "")
    )


def _meta(data: Any) -> tuple[int, dict[int, str]]:
    """Where the data set begins, and what the file's meta header says."""
    pos = 132 if data[128:132] == b"DICM" else 0
    found: dict[int, str] = {}
    while data[pos : pos + 2] == b"\2\0" and len(data) >= pos + 8:
        tag, _, at, length = _header(data, pos, True, "<")
        if length > len(data) - at:
            break
        found[tag] = _text(data[at : at + length]) if length <= 64 else ""
        pos = at + length
    return pos, found


def _encoding(data: Any, start: int, syntax: str) -> tuple[bool, bool]:
    """Whether VRs are explicit and numbers little-endian: what the first element shows, whatever the syntax says."""
    first = bytes(data[start : start + 6])
    if len(first) < 6:
        raise DataError("the file is truncated: its header ends before the first element")
    little = syntax != BIG if syntax else first[0] != 0
    return first[4:6] in _LONG or first[4:6] in SHORT_NAMES, little


def _inflated(data: Any, start: int) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    found = unpacker.decompress(data[start:], MOST_INFLATED)
    if unpacker.unconsumed_tail and not unpacker.eof:
        reason = f"its deflated data set unpacks to more than {MOST_INFLATED >> 20:,} MiB"
        raise DataError(reason, do="Save it in explicit VR little endian (dcmconv)")
    return found


_SHORT = {order: struct.Struct(f"{order}HH2sH") for order in "<>"}
_WIDE = {order: struct.Struct(f"{order}HHI") for order in "<>"}


def _header(data: Any, pos: int, explicit: bool, order: str) -> tuple[int, bytes, int, int]:
    """(tag, VR, offset of the value, its length) of the element at `pos`."""
    group, element, vr, length = _SHORT[order].unpack_from(data, pos)
    tag = group << 16 | element
    if not explicit or group == 0xFFFE:
        return tag, b"", pos + 8, _WIDE[order].unpack_from(data, pos)[2]
    if vr in SHORT_NAMES:
        return tag, vr, pos + 8, length
    if vr not in _LONG:
        raise _Odd
    return tag, vr, pos + 12, struct.unpack_from(f"{order}I", data, pos + 8)[0]


_Walked = tuple[dict[int, tuple[bytes, bytes]], frozenset[int], tuple[int, bytes, int, int] | None]


def _walk(data: Any, pos: int, explicit: bool, little: bool) -> _Walked:
    values: dict[int, tuple[bytes, bytes]] = {}
    nested: set[int] = set()
    order, end = "<" if little else ">", len(data)
    unpack, short = _SHORT[order].unpack_from, SHORT_NAMES if explicit else ()
    while pos + 8 <= end:
        group, element, vr, length = unpack(data, pos)
        tag, at = group << 16 | element, pos + 8
        if vr not in short:
            tag, vr, at, length = _header(data, pos, explicit, order)
        if tag in tags.LANDMARKS:
            if tag in tags.PIXELS:
                return values, frozenset(nested), (tag, vr, at, length)
            nested.add(tag)
        if length == UNDEFINED:
            pos = _past(data, at, explicit and vr != b"UN", order, 0)
            continue
        pos = at + length
        if pos > end:
            raise _Odd
        if tag in tags.WANTED:
            values[tag] = (bytes(data[at:pos]), vr)
    return values, frozenset(nested), None


def _past(data: Any, pos: int, explicit: bool, order: str, depth: int) -> int:
    """Where the sequence of undefined length, whose first item is at `pos`, ends."""
    if depth > _MOST_DEEP:
        raise DataError(f"its header nests sequences more than {_MOST_DEEP} deep")
    while True:
        tag, _, pos, length = _header(data, pos, False, order)
        if tag == _SEQUENCE_END:
            return pos
        if tag != _ITEM:
            raise _Odd
        pos = pos + length if length != UNDEFINED else _past_item(data, pos, explicit, order, depth)


def _past_item(data: Any, pos: int, explicit: bool, order: str, depth: int) -> int:
    while True:
        tag, vr, at, length = _header(data, pos, explicit, order)
        if tag == _ITEM_END:
            return at
        inner = explicit and vr != b"UN"
        pos = at + length if length != UNDEFINED else _past(data, at, inner, order, depth + 1)


def _parse(data: Any, start: int, explicit: bool, little: bool) -> _Walked:
    """The same through pydicom, which forgives more."""
    dataset, end = _parsed(data, start, len(data), explicit, little)
    values = {}
    for tag in tags.WANTED:
        if tag in dataset:
            element = dataset.get_item(tag)
            if isinstance(element.value, bytes):
                values[tag] = (element.value, (element.VR or "").encode())
    nested = frozenset(tag for tag in tags.NESTED if tag in dataset)
    order = "<" if little else ">"
    try:
        found = _header(data, end, explicit, order) if end + 8 <= len(data) else None
    except (_Odd, struct.error):
        found = None
    return values, nested, found if found and found[0] in tags.PIXELS else None


def _at_pixels(tag: Any, _vr: Any, _length: int) -> bool:
    return int(tag) in tags.PIXELS


def _parsed(data: Any, start: int, end: int, explicit: bool, little: bool) -> tuple[Any, int]:
    """pydicom's data set, and where it stopped."""
    from medprior.data.readers.dicom.library import read_dataset

    part = bytes(data[start : min(end, start + MOST_HEADER)])
    stream = io.BytesIO(part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read_dataset(stream, not explicit, little, stop_when=_at_pixels)
        except Exception as error:  # nearly anything, from OSError to RecursionError
            raise DataError("its header is damaged or truncated") from error
    if stream.tell() >= MOST_HEADER:
        raise DataError(f"its header is longer than {MOST_HEADER >> 20} MiB")
    return found, start + stream.tell()
