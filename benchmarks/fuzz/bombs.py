"""Small files that claim, or unpack to, far more than they hold: each must be refused with a reason, at little cost.

    python benchmarks/fuzz/bombs.py [--quick]

Each in a process of its own; --quick takes those that are made in no time, in one.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import resource
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

GIBIBYTE = 1 << 30
MOST_ADDED = 1 << 30
"""Bytes of resident memory that refusing a bomb may take."""
MOST_SECONDS = 20.0
_HUGE = 65_535
Row = dict[str, Any]


def _zeros(count: int, pack: Callable[[], Any]) -> bytes:
    """`count` zeros packed piece by piece, so that making a bomb takes no memory."""
    packer, block, out = pack(), bytes(1 << 24), []
    for _ in range(count // len(block)):
        out.append(packer.compress(block))
    return b"".join([*out, packer.flush()])


def _gzip(count: int) -> bytes:
    return _zeros(count, lambda: zlib.compressobj(9, zlib.DEFLATED, 31))


def _deflated(count: int) -> bytes:
    return _zeros(count, lambda: zlib.compressobj(9, zlib.DEFLATED, -15))


def png(width: int = _HUGE, height: int = _HUGE) -> bytes:
    """One bit per pixel, so that the whole of it could be packed into little."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
              (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b""))  # fmt: skip
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def png_text() -> bytes:
    """A small picture with a comment that unpacks to a gibibyte."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG")
    data = b"Comment\0\0" + _zeros(GIBIBYTE, lambda: zlib.compressobj(9))
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    whole = out.getvalue()
    return whole[:33] + chunk + whole[33:]


def jpeg() -> bytes:
    """8 x 8 pixels that say they are 65,500 x 65,500."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    content = out.getvalue()
    at = content.index(b"\xff\xc0")
    return content[: at + 5] + struct.pack(">HH", 65_500, 65_500) + content[at + 9 :]


def tiff(packing: int = 8) -> bytes:
    """One strip of packed zeros that says it is 65,535 x 65,535."""
    strip = zlib.compress(bytes(1 << 24))
    entries = ((256, 4, 1, _HUGE), (257, 4, 1, _HUGE), (258, 3, 1, 8), (259, 3, 1, packing), (262, 3, 1, 1),
               (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, _HUGE), (279, 4, 1, len(strip)))  # fmt: skip
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + body


def tiff_pages() -> bytes:
    """Directories that point to each other in a circle."""
    one = struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 8)
    return b"II*\0" + struct.pack("<I", 8) + one + struct.pack("<I", 26) + one + struct.pack("<I", 8)


def bmp() -> bytes:
    """A header alone."""
    head = struct.pack("<IiiHHIIiiII", 40, _HUGE, _HUGE, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + head + bytes(1000)


def bmp_thread() -> bytes:
    """One row of run lengths that never ends."""
    import seeds

    content = bytearray(seeds._run_length_bmp())
    struct.pack_into("<ii", content, 18, 1 << 25, 1)
    return bytes(content) + b"\xff\1" * 500


def gif() -> bytes:
    """A small picture on a large screen."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "GIF")
    return out.getvalue()[:6] + struct.pack("<HH", _HUGE, _HUGE) + out.getvalue()[10:]


def nifti(sides: tuple[int, int, int] = (2000, 2000, 2000), kind: int = 4, bits: int = 16) -> bytes:
    """A header, and nothing behind it."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *sides, 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, kind, bits)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    return bytes(head)


def _text(kind: str, encoding: str, content: bytes, sides: str = "2000 2000 2000") -> bytes:
    if kind == "nrrd":
        head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sides}\nendian: little\nencoding: {encoding}\n\n"
    else:
        head = (
            f"ObjectType = Image\nNDims = 3\nDimSize = {sides}\nElementType = MET_SHORT\nCompressedData = {encoding}\n"
        )
        head += f"CompressedDataSize = {len(content)}\nElementDataFile = LOCAL\n"
    return head.encode() + content


def npz(packing: int, count: int = 3 * GIBIBYTE) -> bytes:
    """A stack of images of zeros, `count` bytes in all."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head,
        {"descr": "|u1", "fortran_order": False, "shape": (max(1, count >> 30), 1 << 15, min(count, 1 << 30) >> 15)},
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive, archive.open("images.npy", "w", force_zip64=True) as stream:
        stream.write(head.getvalue())
        for _ in range(count >> 24):
            stream.write(bytes(1 << 24))
    return out.getvalue()


def dicom(
    rows: int = _HUGE,
    columns: int = _HUGE,
    syntax: str = "1.2.840.10008.1.2.1",
    pixels: bytes = b"\0" * 64,
    frames: int = 1,
) -> bytes:
    """A header that claims a large image."""
    import dicom_seeds

    data = dicom_seeds._copy(dicom_seeds.slice_of_series(0))
    data.Rows, data.Columns, data.NumberOfFrames = rows, columns, frames
    if syntax.startswith("1.2.840.10008.1.2.4") or syntax.endswith(".5"):
        return dicom_seeds.encapsulated(data, [pixels], syntax)
    data.PixelData = pixels
    return dicom_seeds._written(data, syntax)


def dicom_deflated() -> bytes:
    """Elements that unpack to four gibibytes."""
    whole = dicom(8, 8, "1.2.840.10008.1.2.1", bytes(128))
    plain = whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    start = 132 + 12 + struct.unpack_from("<I", whole, 140)[0]
    meta = plain[: start + 2] if len(plain) > len(whole) else whole[:start]
    at = meta.index(b"1.2.840.10008.1.2.1.99") - 2
    meta = meta[:at] + struct.pack("<H", 22) + meta[at + 2 :]
    meta = meta[:140] + struct.pack("<I", struct.unpack_from("<I", meta, 140)[0] + 2) + meta[144:]
    return meta + _deflated(4 * GIBIBYTE)


def _stream(kind: str, sides: tuple[int, int]) -> bytes:
    """A small JPEG 2000, JPEG-LS, JPEG or RLE stream that says it is of those sides."""
    import dicom_seeds
    import pydicom

    uids = {"j2k": "1.2.840.10008.1.2.4.90", "jls": "1.2.840.10008.1.2.4.80", "rle": "1.2.840.10008.1.2.5"}
    if kind == "jpeg":
        packed = dicom_seeds.transcoded(dicom_seeds.slice_of_series(0), "1.2.840.10008.1.2.4.70")
    else:
        packed = dicom_seeds.compressed(dicom_seeds.slice_of_series(0, (32, 32)), uids[kind])
    stream = next(pydicom.encaps.generate_frames(pydicom.dcmread(io.BytesIO(packed)).PixelData, number_of_frames=1))
    rows, columns = sides
    if kind == "j2k":
        at = stream.index(b"\xff\x51") + 6
        wide = struct.pack(">II", columns, rows)
        return stream[:at] + wide + stream[at + 8 : at + 16] + wide + stream[at + 24 :]
    if kind in ("jls", "jpeg"):
        at = stream.index(b"\xff\xf7" if kind == "jls" else b"\xff\xc3")
        return stream[: at + 5] + struct.pack(">HH", rows, columns) + stream[at + 9 :]
    return stream


def _xml() -> bytes:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    return f"<!DOCTYPE annotation [{entities}]><annotation><filename>&a11;</filename></annotation>".encode()


def all_bombs() -> dict[str, tuple[str, Callable[[], bytes]]]:
    """What each is called, the name of its file, and how it is made."""
    j2k, jls, jpg = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70"
    wide, tall = (_HUGE, _HUGE), (1 << 15, 1 << 15)
    return {
        "PNG that says 65,535 x 65,535": ("scan.png", png),
        "PNG that says 2^31 x 1": ("scan.png", lambda: png(2**31 - 1, 1)),
        "PNG whose comment unpacks to 1 GiB": ("scan.png", png_text),
        "JPEG that says 65,500 x 65,500": ("scan.jpg", jpeg),
        "TIFF that says 65,535 x 65,535, deflated": ("scan.tif", tiff),
        "TIFF that says 65,535 x 65,535, plain": ("scan.tif", lambda: tiff(1)),
        "TIFF whose pages run in a circle": ("scan.tif", tiff_pages),
        "BMP that says 65,535 x 65,535": ("scan.bmp", bmp),
        "BMP, 2 KB of run lengths that say 33,554,432 x 1": ("scan.bmp", bmp_thread),
        "GIF that says 65,535 x 65,535": ("scan.gif", gif),
        "npy that says (10^6, 10^6)": ("scan.npy", _npy),
        "npz of 12 GiB, deflated": ("scan.npz", lambda: npz(zipfile.ZIP_DEFLATED, 12 * GIBIBYTE)),
        "npz of 12 GiB, bzip2": ("scan.npz", lambda: npz(zipfile.ZIP_BZIP2, 12 * GIBIBYTE)),
        "NIfTI without its 8 gigavoxels": ("scan.nii", nifti),
        "NIfTI without its 0.9 gigavoxels of float64": ("scan.nii", lambda: nifti((1000, 1000, 900), 64, 64)),
        "NIfTI, gzip of 4 GiB, 8 gigavoxels": ("scan.nii.gz", lambda: gzip.compress(nifti()) + _gzip(4 * GIBIBYTE)),
        "NIfTI, gzip without its 0.9 gigavoxels": (
            "scan.nii.gz",
            lambda: gzip.compress(nifti((1000, 1000, 900), 64, 64)),
        ),
        "gzip of 4 GiB that is no NIfTI": ("scan.nii.gz", lambda: _gzip(4 * GIBIBYTE)),
        "NRRD, gzip of 4 GiB, 8 gigavoxels": ("scan.nrrd", lambda: _text("nrrd", "gzip", _gzip(4 * GIBIBYTE))),
        "NRRD, gzip without its 0.9 gigavoxels": (
            "scan.nrrd",
            lambda: _text("nrrd", "gzip", _gzip(1 << 24), "1000 1000 900"),
        ),
        "NRRD, bzip2 without its 0.9 gigavoxels": (
            "scan.nrrd",
            lambda: _text("nrrd", "bzip2", bz2.compress(bytes(1 << 24)), "1000 1000 900"),
        ),
        "NRRD, written out, without its 0.9 gigavoxels": (
            "scan.nrrd",
            lambda: _text("nrrd", "ascii", b"0 " * 1000, "1000 1000 900"),
        ),
        "MetaImage, zlib of 4 GiB, 8 gigavoxels": (
            "scan.mha",
            lambda: _text("mha", "True", _zeros(4 * GIBIBYTE, lambda: zlib.compressobj(9))),
        ),
        "MetaImage, zlib without its 0.9 gigavoxels": (
            "scan.mha",
            lambda: _text("mha", "True", zlib.compress(bytes(1 << 20)), "1000 1000 900"),
        ),
        "DICOM that says 65,535 x 65,535": ("scan.dcm", dicom),
        "DICOM that says 2^31 frames": ("scan.dcm", lambda: dicom(8, 8, frames=2**31 - 1)),
        "DICOM, deflated, of 4 GiB": ("scan.dcm", dicom_deflated),
        "DICOM, JPEG 2000 that says 65,535 x 65,535": ("scan.dcm", lambda: dicom(*wide, j2k, _stream("j2k", wide))),
        "DICOM, JPEG 2000 of 32 x 32 that says 32,768 x 32,768": (
            "scan.dcm",
            lambda: dicom(*tall, j2k, _stream("j2k", tall)),
        ),
        "DICOM, JPEG 2000 that says more than its header": (
            "scan.dcm",
            lambda: dicom(32, 32, j2k, _stream("j2k", wide)),
        ),
        "DICOM, JPEG-LS that says 65,535 x 65,535": ("scan.dcm", lambda: dicom(*wide, jls, _stream("jls", wide))),
        "DICOM, lossless JPEG that says 65,535 x 65,535": (
            "scan.dcm",
            lambda: dicom(*wide, jpg, _stream("jpeg", wide)),
        ),
        "DICOM, lossless JPEG that says more than its header": (
            "scan.dcm",
            lambda: dicom(8, 8, jpg, _stream("jpeg", wide)),
        ),
        "DICOM, RLE that says 65,535 x 65,535": (
            "scan.dcm",
            lambda: dicom(*wide, "1.2.840.10008.1.2.5", _stream("rle", wide)),
        ),
        "Pascal VOC with entities of 2 x 10^11 letters": ("scan.xml", _xml),
        "COCO nested 100,000 deep": ("boxes.json", lambda: b'{"images":' + b"[" * 100_000),
        "npz, LZMA, that says 4,096 MiB": ("scan.npz", _npz_lzma),
    }


def _npy() -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    return out.getvalue()


def _npz_lzma() -> bytes:
    """A directory that says 12 GiB over a stream of little."""
    content = npz(zipfile.ZIP_LZMA, 1 << 24)
    at = content.rindex(b"PK\1\2") + 24
    return content[:at] + struct.pack("<I", 0xFFFFFFF0) + content[at + 4 :]


def all_refused() -> list[Row]:
    """A row per bomb: how large its file is, what was said of it, and what that took; each in a process of its own."""
    rows = []
    for title in all_bombs():
        done = subprocess.run([sys.executable, __file__, title], capture_output=True, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        row = (
            json.loads(lines[-1]) if lines else {"refused": False, "said": f"the process ended with {done.returncode}"}
        )
        rows.append({"bomb": title, **row})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def defuse(title: str, folder: Path) -> Row:
    """Make one, hand it to its reader and say what came of it."""
    import seeds
    import targets
    import watch

    from medprior.data import readers
    from medprior.errors import MedpriorError

    name, make = all_bombs()[title]
    (folder / name).write_bytes(make())
    family = readers.format_of(name) or "boxes"
    warm = next(seed for seed in seeds.seeds(family) if seeds.NAMES[family][seed[0]] == name)
    (folder / "warm").mkdir()
    (folder / "warm" / name).write_bytes(warm[1:])
    for beside, content in seeds.companions(family).items():
        (folder / "warm" / beside).write_bytes(content)
    targets.target(family)(folder / "warm", name)
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        watch.limit_addresses()
    gauge, started = watch.Gauge(), time.monotonic()
    gauge.start()
    try:
        said = targets.said(family, folder, name)
    except MedpriorError as error:
        said = error.what
    _, memory = gauge.stop()
    seconds = time.monotonic() - started
    good = said != "read" and memory < MOST_ADDED and seconds < MOST_SECONDS
    size, added = (folder / name).stat().st_size, round(memory / 2**20, 1)
    return {"refused": good, "bytes": size, "said": said, "added_mib": added, "seconds": round(seconds, 2)}


def quick() -> list[str]:
    """Those that are not gibibytes to make."""
    return [title for title in all_bombs() if "GiB" not in title]


def _main() -> None:
    import tempfile
    import warnings

    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(__file__).parent))
    if len(sys.argv) < 2:
        sys.exit(not all(row["refused"] for row in all_refused()))
    titles = quick() if sys.argv[1] == "--quick" else sys.argv[1:]
    refused = True
    for title in titles:
        with tempfile.TemporaryDirectory() as folder:
            row = defuse(title, Path(folder))
        refused &= bool(row["refused"])
        print(json.dumps({"bomb": title, **row}), flush=True)
    sys.exit(not refused)


if __name__ == "__main__":
    _main()
