"""The voxels that a text header announces: found only inside the root, and never more bytes than announced."""

from __future__ import annotations

import bz2
import gzip
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from medprior.errors import DataError

MAX_HEADER = 2**20
_BLOCK = 2**24
_MOST_DEFLATED = 1040  # bytes out of one, a little above what deflate can reach
_PATTERN = re.compile(r"%\d*d|^LIST\b|\s-?\d+\s+-?\d+\s+-?\d+(\s+\d+)?\s*$")


@dataclass(frozen=True)
class Payload:
    """Where the voxels of a header lie.

    Attributes:
        file: that holds them, inside the root.
        offset: bytes before them; -1 when they are the last of the file.
        packing: raw, gzip, zlib, bzip2, hex or text.
        dtype: as stored, with its byte order.
        count: how many values.
        skip: bytes to pass by after unpacking.
    """

    file: Path
    offset: int
    packing: str
    dtype: np.dtype[Any]
    count: int
    skip: int = 0

    @property
    def wanted(self) -> int:
        """Bytes that are read, unpacked."""
        return self.skip + self.count * self.dtype.itemsize


def beside(name: str, header: str, root: Path) -> str:
    """The data file that `header` names, as a path relative to `root`.

    Raises:
        DataError: several files, none, or one outside the root, also by way of a link.
    """
    if _PATTERN.search(name):
        raise DataError("its voxels lie in several files, which is not read", do="Save header and voxels in one file")
    path = os.path.normpath(PurePosixPath(header).parent / name)
    apart = DataError("its header names a data file outside the folder", do="Put the data file beside its header")
    if Path(name).is_absolute() or "\0" in name or path.startswith(".."):
        raise apart
    try:
        file = ((root / header).parent / name).resolve(strict=True)
        plain = (root / path).resolve(strict=True)
    except (OSError, RuntimeError):
        raise DataError("the data file that its header names is not there", do="Put it beside its header") from None
    if file != plain or not file.is_relative_to(root.resolve()):
        raise apart
    if not file.is_file():
        raise DataError("the data file that its header names is no file")
    return PurePosixPath(path).as_posix()


def checked(payload: Payload) -> list[str]:
    """What is odd in the size of the file.

    Raises:
        DataError: it cannot hold what the header announces.
    """
    there = payload.file.stat().st_size - max(payload.offset, 0)
    wanted = payload.wanted
    if payload.skip < 0 or payload.skip > MAX_HEADER:
        raise DataError(f"its header is damaged: {payload.skip:,} bytes to pass by")
    least = {"raw": wanted, "hex": 2 * wanted, "text": 2 * payload.count - 1}.get(payload.packing, 1)
    if there < least:
        raise _short(wanted, max(there, 0))
    if payload.packing in ("gzip", "zlib"):
        require_packed(wanted, there)
    surplus = payload.packing == "raw" and payload.offset >= 0 and there > wanted
    return [f"behind its voxels follow {there - wanted:,} bytes that the header does not announce"] if surplus else []


def load(payload: Payload) -> NDArray[Any]:
    """The values (count,) in the byte order of the machine.

    Raises:
        DataError: fewer values than announced.
    """
    checked(payload)
    with payload.file.open("rb") as stream:
        if payload.offset < 0:
            stream.seek(-payload.wanted, os.SEEK_END)
        else:
            stream.seek(payload.offset)
        if payload.packing == "text":
            return _spelled(stream, payload)
        data = _unpacked(stream, payload.packing, payload.wanted)
    values = np.frombuffer(data, payload.dtype, payload.count, payload.skip)
    return values.astype(payload.dtype.newbyteorder("="), copy=False)


def require_packed(wanted: int, there: int) -> None:
    """Refuse what so few deflated bytes cannot hold, before memory is taken for it.

    Raises:
        DataError: more is announced than deflate can reach.
    """
    if wanted > _MOST_DEFLATED * there:
        raise _short(wanted, there)


def _short(wanted: int, there: int) -> DataError:
    return DataError(f"the file is truncated: its header announces {wanted:,} bytes of voxels, {there:,} are there")


def _unpacked(stream: IO[bytes], packing: str, wanted: int) -> bytes | bytearray:
    match packing:
        case "raw":
            data: bytes | bytearray = stream.read(wanted)
        case "gzip":
            data = _drained(gzip.GzipFile(fileobj=stream), wanted)
        case "bzip2":
            data = _drained(bz2.BZ2File(stream), wanted)
        case "zlib":
            data = _inflated(stream, wanted)
        case _:
            data = bytes.fromhex(stream.read(4 * wanted + MAX_HEADER).decode("ascii"))
    if len(data) < wanted:
        raise _short(wanted, len(data))
    return data


def _drained(stream: IO[bytes] | gzip.GzipFile | bz2.BZ2File, wanted: int) -> bytearray:
    """One byte more than wanted is asked for, so that the sum at the end is checked."""
    data = bytearray()
    while len(data) <= wanted and (block := stream.read(min(_BLOCK, wanted + 1 - len(data)))):
        data += block
    return data


def _inflated(stream: IO[bytes], wanted: int) -> bytearray:
    """A zlib or gzip stream, which MetaImage takes for one."""
    decoder = zlib.decompressobj(wbits=47)
    data = bytearray()
    while len(data) <= wanted and not decoder.eof and (block := decoder.unconsumed_tail or stream.read(_BLOCK)):
        data += decoder.decompress(block, min(_BLOCK, wanted + 1 - len(data)))
    return data


def _spelled(stream: IO[bytes], payload: Payload) -> NDArray[Any]:
    """Numbers written out."""
    words = stream.read(32 * payload.count + MAX_HEADER).split(maxsplit=payload.count)[: payload.count]
    if len(words) < payload.count:
        raise DataError(
            f"the file is truncated: its header announces {payload.count:,} values, {len(words):,} are there"
        )
    dtype = payload.dtype.newbyteorder("=")
    return np.array([int(word) for word in words] if dtype.kind in "iu" else [float(word) for word in words], dtype)
