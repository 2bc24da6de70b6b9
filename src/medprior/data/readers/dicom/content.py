"""Telling a DICOM file by its first bytes, whatever its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medprior.data.readers.dicom.elements import SHORT_NAMES

_FIRST_LENGTH = 1024
_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content: marked "DICM", or beginning like a data set of group 2 or 8."""
    try:
        with path.open("rb") as stream:
            head = stream.read(140)
    except OSError:
        return False
    return head[128:132] == b"DICM" or _begins(head)


def _begins(head: bytes) -> bool:
    """Whether the first element is one that a data set without preamble begins with."""
    group, element, rest = head[:2], head[2:4], head[4:8]
    if len(rest) < 4 or group not in _GROUPS:
        return False
    order: Literal["big", "little"] = "big" if group == b"\x00\x08" else "little"
    number = int.from_bytes(element, order)
    if number > 0x0070:
        return False
    if rest[:2] in SHORT_NAMES:
        return int.from_bytes(rest[2:], order) <= _FIRST_LENGTH
    if rest[:2] in (b"OB", b"UN"):
        return rest[2:] == b"\0\0"
    return order == "little" and group == b"\x08\x00" and int.from_bytes(rest, "little") <= _FIRST_LENGTH
