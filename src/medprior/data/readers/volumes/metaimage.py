"""MetaImage: .mha with its voxels, .mhd with a file beside it. After MetaIO's format description.

`TransformMatrix` holds the direction of each stored axis, one after the other, and `Offset` the place of the first
voxel, in LPS mm. A header without a matrix is turned by `AnatomicalOrientation`, which names where each axis begins;
without that too it is read as stored. Channels are stored fastest.
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.readers.volumes.canonical import Grid, Stored, credible_spacing, located, require_volume
from medprior.data.readers.volumes.payload import MAX_HEADER, Payload, beside, checked, load
from medprior.errors import DataError

Fields = dict[str, str]

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_LONGEST = 2**16  # bytes of a line
_MATRIX = ("transformmatrix", "rotation", "orientation")
_OFFSET = ("offset", "position", "origin")
_BEGINS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "I": (2, 1), "S": (2, -1)}


def companions(path: str, root: Path) -> tuple[str, ...]:
    """The data file that the header names, relative to the root; none where the voxels follow the header.

    Raises:
        DataError: the header cannot be read, or names a file that is not there or outside the root.
    """
    name = _fields(root / path)[0]["elementdatafile"]
    return () if name.upper() == "LOCAL" else (beside(name, path, root),)


def opened(path: str, root: Path) -> Stored:
    """Read the header.

    Raises:
        DataError: damaged, of a kind that is not read, or its data file is missing.
    """
    fields, after = _fields(root / path)
    sides = _integers(fields, "dimsize")
    channels = int(fields.get("elementnumberofchannels", "1"))
    if len(sides) not in (2, 3) and (len(sides) != 4 or channels != 1):
        raise DataError(f"a MetaImage of {len(sides)} axes is no image", do="Save volumes of three axes")
    require_volume([*sides, channels], channels * math.prod(sides[3:]))
    dtype = _dtype(fields)
    payload = _payload(fields, path, root, after, dtype, math.prod(sides) * channels)
    grid = _grid(fields, sides, channels, dtype, checked(payload))
    return Stored(grid, partial(_values, payload, sides, channels))


def _fields(file: Path) -> tuple[Fields, int]:
    """Fields by lower-case name up to `ElementDataFile`, which is the last one, and where the header ends."""
    fields: Fields = {}
    with file.open("rb") as stream:
        while (line := stream.readline(_LONGEST)) and stream.tell() < MAX_HEADER:
            name, equals, value = line.decode("utf-8", "replace").partition("=")
            name = name.strip().lower()
            if name and not equals:
                break
            fields[name] = value.strip()
            if name == "elementdatafile":
                return fields, stream.tell()
    empty = file.stat().st_size == 0
    raise DataError("the file is empty" if empty else "it is no MetaImage, or its header is truncated or damaged")


def _dtype(fields: Fields) -> np.dtype[Any]:
    """As stored, with its byte order."""
    name = fields.get("elementtype", "")
    if name.upper() not in _TYPES:
        raise DataError(f"its voxels are of type {name[:40] or 'unknown'}, which are no grey values")
    big = _true(fields, "binarydatabyteordermsb") or _true(fields, "elementbyteordermsb")
    return np.dtype(_TYPES[name.upper()]).newbyteorder(">" if big else "<")


def _true(fields: Fields, name: str) -> bool:
    return fields.get(name, "").lower()[:1] in ("t", "1", "y")


def _packing(fields: Fields) -> str:
    if fields.get("binarydata", "true").lower()[:1] in ("f", "0", "n"):
        return "text"
    return "zlib" if _true(fields, "compresseddata") else "raw"


def _payload(fields: Fields, path: str, root: Path, after: int, dtype: np.dtype[Any], count: int) -> Payload:
    """Where the voxels lie; `after` is where the header ends."""
    name, packing = fields["elementdatafile"], _packing(fields)
    local = name.upper() == "LOCAL"
    file = root / (path if local else beside(name, path, root))
    skipped = int(fields.get("headersize", "0"))
    if skipped < 0 and packing != "raw":
        raise DataError("its header does not say where the packed voxels begin")
    return Payload(file, -1 if skipped < 0 else after if local else skipped, packing, dtype, count)


def _grid(fields: Fields, sides: tuple[int, ...], channels: int, dtype: np.dtype[Any], doubts: list[str]) -> Grid:
    slope, shift = (
        fields.get("elementtointensityfunctionslope", "1"),
        fields.get("elementtointensityfunctionoffset", "0"),
    )
    if (float(slope), float(shift)) != (1, 0):
        doubts.append("its header names a slope or offset of intensities, which is not applied")
    text = fields.get("elementspacing") or fields.get("elementsize")
    spacing, odd = credible_spacing(_numbers(text, len(sides))[:3]) if text else (None, [])
    doubts += odd
    affine = None
    if len(sides) > 2 and spacing is not None:
        affine, spacing, odd = _located(fields, len(sides), spacing)
        doubts += odd
    return Grid(sides[:3], channels * math.prod(sides[3:]), dtype, spacing, affine, tuple(doubts))


def _located(fields: Fields, axes: int, spacing: tuple[float, ...]) -> tuple[Any, tuple[float, ...] | None, list[str]]:
    directions = _directions(fields, axes)
    if directions is None:
        return None, spacing, ["its header does not say how the patient lies: the axes are as stored"]
    offset = next((fields[name] for name in _OFFSET if name in fields), None)
    affine = np.eye(4)
    affine[:3, :3] = directions.T * np.array(spacing)
    affine[:3, 3] = _numbers(offset, axes)[:3] if offset else 0
    return located(affine)


def _directions(fields: Fields, axes: int) -> NDArray[np.float64] | None:
    """(3, 3), one stored axis per row."""
    text = next((fields[name] for name in _MATRIX if name in fields), None)
    if text is not None:
        return np.array(_numbers(text, axes * axes)).reshape(axes, axes)[:3, :3]
    code = fields.get("anatomicalorientation", "").upper()
    if not re.fullmatch("[RLAPIS]{3}", code) or len({_BEGINS[letter][0] for letter in code}) != 3:
        return None
    directions = np.zeros((3, 3))
    for axis, letter in enumerate(code):
        directions[axis, _BEGINS[letter][0]] = _BEGINS[letter][1]
    return directions


def _integers(fields: Fields, name: str) -> tuple[int, ...]:
    if name not in fields:
        raise DataError(f"its header lacks {name}")
    return tuple(int(word) for word in fields[name].split())


def _numbers(text: str, count: int) -> list[float]:
    words = text.split()
    if len(words) != count:
        raise DataError(f"its header is damaged: {len(words)} numbers where {count} are needed")
    return [float(word) for word in words]


def _values(payload: Payload, sides: tuple[int, ...], channels: int) -> NDArray[Any]:
    """(*sides, channels); a fourth axis is one of channels."""
    values = load(payload).reshape(*sides[::-1], channels).transpose(*range(len(sides))[::-1], len(sides))
    return values[..., 0] if len(sides) == 4 else values
