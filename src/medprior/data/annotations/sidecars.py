"""Text files that stand beside scans, read with a limit and in whatever encoding they are."""

from __future__ import annotations

import codecs
from pathlib import Path

from medprior.errors import DataError


def read_limited(file: Path, where: str, limit: int) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: it cannot be read, or holds more than `limit` bytes; `where` names it.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"the file cannot be read ({type(error).__name__})", where=where) from error
    if len(data) > limit:
        raise DataError(f"the file is larger than {limit >> 10:,} KiB, which is too much to be read", where=where)
    return data


def decoded(data: bytes) -> str:
    """The text in UTF-8, UTF-16 with its mark, or else Latin-1, in which any bytes are letters."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
