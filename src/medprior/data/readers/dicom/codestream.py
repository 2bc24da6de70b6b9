"""What the picture inside a compressed frame says of its own size, before anything is unpacked."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}  # the markers that begin a frame in JPEG(-LS)


@dataclass(frozen=True)
class Picture:
    """Size of a compressed picture; `bits` per sample."""

    rows: int
    columns: int
    samples: int
    bits: int


def picture(frame: bytes) -> Picture | None:
    """The size that a JPEG, JPEG-LS or JPEG 2000 stream states, or None where it cannot be found."""
    try:
        if frame[:2] == b"\xff\xd8":
            return _jpeg(frame)
        at = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
        return _j2k(frame, at) if at >= 0 else None
    except (struct.error, IndexError):
        return None


def without_remarks(frame: bytes) -> bytes:
    """A JPEG stream without its application segments and comments, but for Adobe's, which tells the colours.

    What GDCM finds odd in them ends the process.
    """
    kept, pos = [frame[:2]], 2
    while frame[pos] == 0xFF and frame[pos + 1] != 0xDA:
        marker = frame[pos + 1]
        end = pos + 1 if marker == 0xFF else pos + 2 + struct.unpack_from(">H", frame, pos + 2)[0]
        remark = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if marker != 0xFF and (not remark or marker == 0xEE):
            kept.append(frame[pos:end])
        pos = end
    return b"".join([*kept, frame[pos:]])


def _jpeg(frame: bytes) -> Picture | None:
    pos = 2
    while frame[pos] == 0xFF:
        marker = frame[pos + 1]
        if marker == 0xFF:
            pos += 1
            continue
        if marker in _FRAMES:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, pos + 4)
            return Picture(rows, columns, samples, bits)
        pos += 2 + struct.unpack_from(">H", frame, pos + 2)[0]
    return None


def _j2k(frame: bytes, at: int) -> Picture:
    right, bottom, left, top = struct.unpack_from(">4I", frame, at + 8)
    samples, depth = struct.unpack_from(">HB", frame, at + 40)
    return Picture(bottom - top, right - left, samples, (depth & 0x7F) + 1)
