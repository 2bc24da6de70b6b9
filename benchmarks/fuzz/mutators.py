"""Ways to damage a file: bytes at random, and changes that know the format and keep the rest of it in order.

An input is one byte that chooses the name of the file, then its content. A mutation takes content and gives content.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

import dicom_elements

T = TypeVar("T")
Mutation = Callable[[bytes, Random, Sequence[bytes]], bytes]

LIMIT = 1 << 16
_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 16, 17, 32, 64, 127, 128, 255, 256, 257, 1023, 32767, 32768, 65535, 65536, 2**24,
            2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
_WORDS = (b"0", b"-1", b"1", b"nan", b"inf", b"-inf", b"1e308", b"1e-320", b"4294967296", b"99999999999999999999", b"",
          b"../secret.raw", b"/etc/passwd", b"link.raw", b"LIST", b"scan%d.raw 1 3 1", b"none", b"\x00", b"\xff\xfe",
          b"True", b"(1,2,3)", b"()", b"[]", b"{}", b"null", b"short", b"double", b"gzip", b"raw", b"ascii", b"hex",
          b"1 1 1", b"0 0 0", b"65535 65535 65535", b"O", b"<f8", b"|V0", b">i2", b"S4", b"1" * 5000)  # fmt: skip


def mutate(data: bytes, rng: Random, pool: Sequence[bytes], limit: int = LIMIT) -> bytes:
    """A damaged copy of an input; `pool` holds other inputs to take parts from."""
    name, body = data[:1] or b"\0", data[1:]
    if rng.random() < 0.02:
        name = bytes([rng.randrange(256)])
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        change = aware(body) if rng.random() < 0.6 else havoc
        try:
            body = change(body, rng, pool)
        except Exception:  # what is damaged already need not be of its format any more
            body = havoc(body, rng, pool)
    return (name + body)[:limit]


def aware(body: bytes) -> Mutation:
    """The mutation that knows this format, told from its first bytes."""
    for mark, mutation in _BY_MARK:
        if body.startswith(mark):
            return mutation
    if body[128:132] == b"DICM" or body[:4] in (b"\x08\0\x05\0", b"\x08\0\x08\0", b"\x02\0\0\0", b"\x08\0\x16\0"):
        return dicom
    if body[:4] in (struct.pack("<i", 348), struct.pack(">i", 348), struct.pack("<i", 540), struct.pack(">i", 540)):
        return nifti
    return text if body and sum(32 <= b < 127 or b in b"\r\n\t" for b in body[:200]) > 0.9 * len(body[:200]) else havoc


def havoc(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """One change that knows nothing."""
    data = bytearray(body)
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 16, 64, 512))
    match rng.randrange(10):
        case 0 | 1 if data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        case 2:
            data[at : at + size] = rng.randbytes(len(data[at : at + size]))
        case 3 | 4:
            width = rng.choice((1, 2, 4, 8))
            data[at : at + width] = _number(rng, width)
        case 5:
            del data[at : at + size]
        case 6:
            data[at:at] = data[at : at + size] * rng.choice((1, 1, 2, 50))
        case 7:
            del data[at:]
        case 8 if pool:
            other = rng.choice(pool)[1:]
            start = rng.randrange(len(other) + 1)
            data[at : at + rng.choice((0, size))] = other[start : start + rng.choice((size, len(other)))]
        case _:
            data[at:at] = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size), rng.choice(_WORDS)))
    return bytes(data)


def _number(rng: Random, width: int) -> bytes:
    value = rng.choice(_NUMBERS) % (1 << 8 * width)
    return value.to_bytes(width, rng.choice(("little", "big")))  # type: ignore[arg-type]


def _within(body: bytes, start: int, end: int, rng: Random, pool: Sequence[bytes]) -> bytes:
    return body[:start] + havoc(body[start:end], rng, pool) + body[end:]


def _list_change(items: list[T], rng: Random) -> list[T]:
    """Delete, double, swap or move an element."""
    items = list(items)
    i, j = rng.randrange(len(items)), rng.randrange(len(items))
    match rng.randrange(4):
        case 0:
            del items[i]
        case 1:
            items.insert(j, items[i])
        case 2:
            items[i], items[j] = items[j], items[i]
        case _:
            items[i:i] = items[j:] if len(items) < 64 else []
    return items


def text(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """A line, a number, a word or a mark of a text; what follows it (voxels) stays."""
    cut = re.search(rb"\n\r?\n|LOCAL\s*\n|\x00", body)
    head, rest = (body[: cut.end()], body[cut.end() :]) if cut else (body, b"")
    match rng.randrange(8):
        case 0:
            return b"".join(_list_change(head.splitlines(keepends=True), rng)) + rest
        case 1 | 2 | 3:
            found = list(re.finditer(rb"-?[0-9]+(\.[0-9]+)?", head))
            new = rng.choice((str(rng.choice(_NUMBERS)).encode(), rng.choice(_WORDS), b"-" + rng.choice(found)[0]))
        case 4 | 5:
            found = list(re.finditer(rb"(?<=[:=>\"'])[^\n<\"']+", head))
            new = rng.choice((rng.choice(_WORDS), rng.choice(found)[0], b" " + rng.choice(_WORDS)))
        case 6:
            found = list(re.finditer(rb"[A-Za-z_]+", head))
            new = rng.choice((rng.choice(found)[0], rng.choice(_WORDS)))
        case _:
            return havoc(head, rng, pool) + rest
    spot = rng.choice(found)
    return head[: spot.start()] + new + head[spot.end() :] + rest


def png(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """One chunk, with its sum put right; pixels also before they are packed."""
    chunks, at = [], 8
    while at + 12 <= len(body):
        size = struct.unpack_from(">I", body, at)[0]
        chunks.append((body[at + 4 : at + 8], body[at + 8 : at + 8 + size]))
        at += 12 + size
    if rng.random() < 0.2:
        chunks = _list_change(chunks, rng)
    else:
        i = rng.choice((0, rng.randrange(len(chunks))))
        kind, data = chunks[i]
        if kind == b"IDAT" and rng.random() < 0.7:
            data = zlib.compress(havoc(zlib.decompress(data), rng, pool))
        elif kind == b"IHDR" and rng.random() < 0.8:
            field = rng.choice(((0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1)))
            data = data[: field[0]] + _number(rng, field[1]) + data[field[0] + field[1] :]
        elif rng.random() < 0.1:
            kind = rng.choice(
                (b"IDAT", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"zTXt", b"iCCP", b"eXIf", b"IEND")
            )
        else:
            data = havoc(data, rng, pool)
        chunks[i] = (kind, data)
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return body[:8] + b"".join(packed)


def gz(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """What is inside, packed again."""
    inner = zlib.decompressobj(31).decompress(body, 1 << 20)
    return gzip.compress(aware(inner)(inner, rng, pool), 1, mtime=0)


def archive(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """A member of a zip file: its content, its name, its packing; or a field of the directory."""
    with zipfile.ZipFile(io.BytesIO(body)) as old:
        members = [(i.filename, old.read(i), i.compress_type) for i in old.infolist() if i.file_size < 1 << 20]
    if rng.random() < 0.15:
        at = body.rfind(rng.choice((b"PK\1\2", b"PK\3\4", b"PK\5\6")))
        return _within(body, at + 4, min(at + 46, len(body)), rng, pool)
    if rng.random() < 0.2:
        members = _list_change(members, rng)
    i = rng.randrange(len(members))
    name, data, packing = members[i]
    if rng.random() < 0.2:
        name = rng.choice(("../secret.npy", "/etc/passwd", "images.npy", "train_images.npy", "labels.npy", "a\0b.npy",
                           "x" * 300 + ".npy", "ä.npy", ".npy", "masks.npy", name + ".npy"))  # fmt: skip
    elif rng.random() < 0.9:
        data = aware(data)(data, rng, pool)
    else:
        packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    members[i] = (name, data, packing)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, data, packing in members:
            new.writestr(zipfile.ZipInfo(name), data, packing)
    return out.getvalue()


def npy(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """The text of the header, with its length put right."""
    if rng.random() < 0.2:
        return havoc(body, rng, pool)
    wide = body[6] > 1
    size = struct.unpack_from("<I" if wide else "<H", body, 8)[0]
    start = 12 if wide else 10
    head = text(body[start : start + size], rng, pool)
    return body[:8] + struct.pack("<I" if wide else "<H", len(head)) + head + body[start + size :]


_NIFTI_1 = ((0, 4), *((40 + 2 * i, 2) for i in range(8)), (70, 2), (72, 2), *((76 + 4 * i, 4) for i in range(8)),
            (108, 4), (112, 4), (116, 4), (123, 1), (252, 2), (254, 2), *((256 + 4 * i, 4) for i in range(18)),
            (344, 4), (348, 4), (352, 4))  # fmt: skip
_NIFTI_2 = ((0, 4), (12, 2), (14, 2), *((16 + 8 * i, 8) for i in range(8)), *((104 + 8 * i, 8) for i in range(8)),
            (168, 8), (176, 8), (184, 8), (344, 4), (348, 4), *((352 + 8 * i, 8) for i in range(18)),
            (500, 4))  # fmt: skip


def nifti(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """A field of the header."""
    if rng.random() < 0.15:
        return havoc(body, rng, pool)
    at, width = rng.choice(
        _NIFTI_2 if 540 in struct.unpack_from("<i", body) + struct.unpack_from(">i", body) else _NIFTI_1
    )
    reals = (0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30, 0.5, 3.0)
    real = struct.pack(rng.choice("<>") + ("f" if width == 4 else "d"), rng.choice(reals)) if width > 2 else b""
    small = struct.pack("<h", rng.randrange(-2, 20)) if width == 2 else b""
    return body[:at] + rng.choice([v for v in (real, small, _number(rng, width)) if v]) + body[at + width :]


def tiff(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """A field of an entry of a directory."""
    order = "<" if body[:2] == b"II" else ">"
    directories, at = [], struct.unpack_from(order + "I", body, 4)[0]
    while at and at + 2 < len(body) and len(directories) < 8:
        count = struct.unpack_from(order + "H", body, at)[0]
        directories.append((at, count))
        after = at + 2 + 12 * count
        at = struct.unpack_from(order + "I", body, after)[0] if after + 4 <= len(body) else 0
    if not directories or rng.random() < 0.15:
        return havoc(body, rng, pool)
    at, count = rng.choice(directories)
    if rng.random() < 0.1:
        return _within(body, at + 2 + 12 * count, at + 6 + 12 * count, rng, pool)
    entry = at + 2 + 12 * rng.randrange(max(count, 1))
    field, width = rng.choice(((0, 2), (2, 2), (4, 4), (8, 4), (8, 4), (8, 2)))
    small = struct.pack(order + "H", rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 9, 16, 32, 34, 99, 34712)))
    tags = struct.pack(order + "H", rng.choice((256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 330, 338)))
    new = tags if field == 0 else rng.choice((small + bytes(width - 2), _number(rng, width)))
    return body[: entry + field] + new + body[entry + field + width :]


def jpeg(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """A segment of a JPEG, JPEG-LS or JPEG 2000 stream, wherever it lies in the file: its length or its fields."""
    marks = [m.start() for m in re.finditer(rb"\xff[\x4f-\x64\x90-\x93\xc0-\xfe]", body)][:200]
    if not marks:
        return havoc(body, rng, pool)
    at = rng.choice(marks)
    match rng.randrange(6):
        case 0:
            return body[: at + 1] + bytes([rng.choice((*range(0xC0, 0xFF), *range(0x4F, 0x65)))]) + body[at + 2 :]
        case 1:
            return body[: at + 2] + _number(rng, 2) + body[at + 4 :]
        case 2:
            other = rng.choice(marks)
            return body[:at] + body[other : other + rng.choice((4, 20, 200))] + body[at:]
        case _:
            field, width = at + 4 + rng.randrange(40), rng.choice((1, 2, 2, 4))
            return body[:field] + _number(rng, width) + body[field + width :]


def bmp(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """A field of the header."""
    if rng.random() < 0.4:
        return havoc(body, rng, pool)
    at, width = rng.choice(((10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4), (50, 4)))
    small = struct.pack("<H", rng.choice((0, 1, 2, 3, 4, 8, 12, 16, 24, 32, 40, 52, 56, 64, 108, 124)))
    return body[:at] + rng.choice((small + bytes(width - 2), _number(rng, width))) + body[at + width :]


def riff(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """A chunk of a WebP file: its name, its length, the first bytes of it."""
    places = [m.start() for m in re.finditer(rb"VP8[ LX]|ALPH|ANIM|ANMF|EXIF|ICCP", body)]
    if not places or rng.random() < 0.2:
        return havoc(body, rng, pool)
    at = rng.choice(places) + rng.choice((0, 4, 8, 8, 10, 12, 14, 16))
    return _within(body, at, at + 4, rng, pool)


def dicom(body: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """One element, or the stream of its pixels."""
    if rng.random() < 0.2 and (b"\xff\xd8" in body or b"\xff\x4f" in body):
        return jpeg(body, rng, pool)
    return dicom_elements.mutate(body, rng, pool)


_BY_MARK: tuple[tuple[bytes, Mutation], ...] = (
    (b"\x89PNG", png),
    (b"\xff\xd8", jpeg),
    (b"\x1f\x8b", gz),
    (b"PK\3\4", archive),
    (b"\x93NUMPY", npy),
    (b"II*\0", tiff),
    (b"MM\0*", tiff),
    (b"BM", bmp),
    (b"NRRD", text),
    (b"RIFF", riff),
)
