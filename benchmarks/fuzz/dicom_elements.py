"""Damage to DICOM files, element by element; sequences are seen flat, so that nothing is too deep to be reached."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_SHORT = (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL",
          b"SS", b"ST", b"TM", b"UI", b"UL", b"US")  # fmt: skip
_UNDEFINED = 0xFFFFFFFF
_DEFLATED = b"1.2.840.10008.1.2.1.99"
SYNTAXES = (b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2", _DEFLATED, b"1.2.840.10008.1.2.5",
            b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.51", b"1.2.840.10008.1.2.4.57", b"1.2.840.10008.1.2.4.70",
            b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.4.81", b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.91",
            b"1.2.840.10008.1.2.4.100", b"1.2.840.10008.1.2.4.201", b"1.2.840.10008.1.2.1.98", b"1.2.3")  # fmt: skip
_TEXTS = (b"", b"0", b"1", b"-1", b"2", b"16", b"99999", b"2147483648", b"1e400", b"nan", b"1\\2\\3",
          b"1\\0\\0\\0\\1\\0",
          b"0\\0\\0\\0\\0\\0", b"\\", b"\\\\", b"abc", b"MONOCHROME1", b"MONOCHROME2", b"RGB", b"YBR_FULL",
          b"YBR_FULL_422", b"YBR_ICT", b"PALETTE COLOR", b"ORIGINAL\\PRIMARY\\LOCALIZER", b"ISO_IR 192",
          b"ISO 2022 IR 87",
          b"../../etc/passwd", b"\xff\xfe\x00", b"x" * 400, b"20240101", b"000Y", b"1.2.840.10008.5.1.4.1.1.66.4",
          b"1.2.840.10008.5.1.4.1.1.2.1", b"1.2.840.10008.1.3.10")  # fmt: skip
_SHORTS = (0, 1, 2, 3, 4, 7, 8, 9, 11, 12, 15, 16, 17, 24, 32, 64, 255, 256, 32767, 32768, 65535)


@dataclass(frozen=True)
class Element:
    """Group, number, value representation (b"" in implicit files), value; `undefined` has no length of its own."""

    tag: tuple[int, int]
    vr: bytes
    value: bytes
    undefined: bool = False
    lie: int | None = None

    def packed(self) -> bytes:
        """As it lies in a little-endian file."""
        length = self.lie if self.lie is not None else _UNDEFINED if self.undefined else len(self.value)
        tag = struct.pack("<HH", *self.tag)
        if self.vr in _SHORT:
            return tag + self.vr + struct.pack("<H", length % 65536) + self.value
        return tag + self.vr + (b"\0\0" if self.vr else b"") + struct.pack("<I", length % 2**32) + self.value


def mutate(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """A file with one element changed."""
    start = 132 if body[128:132] == b"DICM" else 0
    meta, rest = _meta(body, start)
    if rng.random() < 0.08:
        meta = [_with_syntax(e, rng) for e in meta]
    deflated = any(e.tag == (2, 0x10) and e.value.rstrip(b"\0 ") == _DEFLATED for e in meta)
    data = zlib.decompressobj(-15).decompress(body[rest:], 1 << 20) if deflated else body[rest:]
    elements, tail = split(data)
    if rng.random() < 0.1 and meta:
        meta = _changed(meta, rng, pool)
    else:
        elements = _changed(elements, rng, pool)
    packed = b"".join(e.packed() for e in elements) + tail
    if deflated:
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        packed = packer.compress(packed) + packer.flush()
    return body[:start] + b"".join(e.packed() for e in meta) + packed


def _meta(body: bytes, start: int) -> tuple[list[Element], int]:
    """The elements of group 2, and where the others begin."""
    elements, at = [], start
    while body[at : at + 2] == b"\2\0" and (found := _one(body, at)):
        element, at = found
        elements.append(element)
    return elements, at


def _with_syntax(element: Element, rng: Random) -> Element:
    return Element(element.tag, element.vr, rng.choice(SYNTAXES)) if element.tag == (2, 0x10) else element


def split(data: bytes) -> tuple[list[Element], bytes]:
    """Elements, and what could not be cut into some."""
    elements, at = [], 0
    while len(elements) < 2000 and (found := _one(data, at)):
        element, at = found
        elements.append(element)
    return elements, data[at:]


def _one(data: bytes, at: int) -> tuple[Element, int] | None:
    if at + 8 > len(data):
        return None
    group, number = struct.unpack_from("<HH", data, at)
    vr = data[at + 4 : at + 6]
    if group == 0xFFFE or vr not in _LONG + _SHORT:
        vr, length, start = b"", struct.unpack_from("<I", data, at + 4)[0], at + 8
    elif vr in _SHORT:
        length, start = struct.unpack_from("<H", data, at + 6)[0], at + 8
    elif at + 12 <= len(data):
        length, start = struct.unpack_from("<I", data, at + 8)[0], at + 12
    else:
        return None
    if (
        vr == b"SQ"
        or length == _UNDEFINED
        or (group == 0xFFFE and number == 0xE000 and length > 0 and _nested(data, start))
    ):
        return Element((group, number), vr, b"", length == _UNDEFINED, None if length == _UNDEFINED else length), start
    if start + length > len(data):
        return None
    return Element((group, number), vr, data[start : start + length]), start + length


def _nested(data: bytes, start: int) -> bool:
    """Whether an item holds elements rather than a stream of pixels."""
    return data[start + 4 : start + 6] in _LONG + _SHORT and data[start + 1] < 0x80


def _changed(elements: list[Element], rng: Random, pool: Sequence[bytes]) -> list[Element]:
    images = [i for i, e in enumerate(elements) if e.tag[0] in (0x28, 0x20, 0x5200, 0x7FE0)]
    i = rng.choice(images) if images and rng.random() < 0.6 else rng.randrange(len(elements))
    one, out = elements[i], list(elements)
    match rng.randrange(12):
        case 0:
            del out[i]
        case 1:
            out.insert(rng.randrange(len(out)), one)
        case 2:
            out[i] = Element(one.tag, rng.choice(_SHORT + _LONG), one.value, one.undefined)
        case 3:
            lie = rng.choice((0, 1, 2, len(one.value) + 1, len(one.value) * 2, 65535, 2**31, _UNDEFINED, 2**32 - 2))
            out[i] = Element(one.tag, one.vr, one.value, lie=lie)
        case 4:
            out[i] = Element(rng.choice(elements).tag, one.vr, one.value, one.undefined)
        case 5 if pool:
            out.insert(i, rng.choice(_of_another(rng, pool) or elements))
        case 6:
            value = bytearray(one.value or b"\0\0")
            value[rng.randrange(len(value))] = rng.randrange(256)
            out[i] = Element(one.tag, one.vr, bytes(value), one.undefined)
        case 7:
            j = rng.randrange(len(out))
            out[i], out[j] = out[j], out[i]
        case 8:
            out[i] = Element(one.tag, one.vr, one.value[: rng.randrange(len(one.value) + 1)])
        case _:
            out[i] = Element(one.tag, one.vr, _value(one, rng))
    return out


def _value(one: Element, rng: Random) -> bytes:
    if one.vr in (b"US", b"SS", b"OW", b"OB") or (not one.vr and len(one.value) == 2):
        return struct.pack("<H", rng.choice(_SHORTS)) * rng.choice((1, 1, 1, 1, 2, 3, 0))
    if one.vr in (b"UL", b"SL", b"FL", b"AT", b"OL", b"OF"):
        return struct.pack("<I", rng.choice((0, 1, 255, 0x7FC00000, 0x7F800000, 2**31, 2**32 - 1))) * rng.choice(
            (1, 2, 3)
        )
    if one.vr in (b"FD", b"OD"):
        return struct.pack("<d", rng.choice((0.0, -1.0, 1e308, float("nan"), float("inf")))) * rng.choice((1, 3, 6))
    text = rng.choice(_TEXTS)
    return text + b" " * (len(text) % 2)


def _of_another(rng: Random, pool: Sequence[bytes]) -> list[Element]:
    other = rng.choice(pool)[1:]
    return split(other[_meta(other, 132 if other[128:132] == b"DICM" else 0)[1] :])[0]
