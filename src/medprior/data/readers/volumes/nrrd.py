"""NRRD: .nrrd with its voxels, .nhdr with a file beside it. After the format's definition (teem, version 5).

An axis is of space where it has a space direction; without directions, where its kind says so; without kinds, the
first three are. One other axis may hold channels. `space` must be anatomical for the volume to be turned; otherwise it
is read as stored.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.readers.volumes.canonical import Grid, Stored, credible_spacing, located, require_volume
from medprior.data.readers.volumes.payload import MAX_HEADER, Payload, beside, checked, load
from medprior.errors import DataError

Fields = dict[str, str]
Vector = tuple[float, ...]

_WORDS = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPES = {word: code for code, words in _WORDS.items() for word in words.split("|")}
_PACKINGS = {
    "raw": "raw",
    "gz": "gzip",
    "gzip": "gzip",
    "bz2": "bzip2",
    "bzip2": "bzip2",
    "hex": "hex",
} | dict.fromkeys(("txt", "text", "ascii"), "text")
_TO_LPS = {"left-posterior-superior": (1, 1), "right-anterior-superior": (-1, -1), "left-anterior-superior": (1, -1)}
_SHORT = {
    f"{short}{time}": name for short, name in zip(("lps", "ras", "las"), _TO_LPS, strict=True) for time in ("", "t")
}
_MILLIMETRES = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001, "µm": 0.001, "micron": 0.001, "nm": 1e-6}
_NO_VALUES = re.compile("complex|quaternion|matrix")
_OF_SPACE = ("domain", "space")


@dataclass(frozen=True)
class _Axes:
    """Sizes of all stored axes, which of them are of space, and which one holds channels (-1: none)."""

    sizes: tuple[int, ...]
    space: tuple[int, ...]
    channel: int

    @property
    def channels(self) -> int:
        return self.sizes[self.channel] if self.channel >= 0 else 1


def companions(path: str, root: Path) -> tuple[str, ...]:
    """The data file that the header names, relative to the root; none where the voxels follow the header.

    Raises:
        DataError: the header cannot be read, or names a file that is not there or outside the root.
    """
    name = _fields(root / path)[0].get("data file")
    return () if name is None else (beside(name, path, root),)


def opened(path: str, root: Path) -> Stored:
    """Read the header.

    Raises:
        DataError: damaged, of a kind that is not read, or its data file is missing.
    """
    fields, after = _fields(root / path)
    directions = _vectors(fields.get("space directions", ""))
    axes = _axes(fields, directions)
    packing = _PACKINGS.get(fields.get("encoding", "").lower())
    if packing is None:
        raise DataError(f'its encoding "{fields.get("encoding", "")[:40]}" is not read')
    dtype = _dtype(fields, packing)
    name = fields.get("data file")
    file, start = (root / path, after) if name is None else (root / beside(name, path, root), 0)
    payload = _payload(fields, file, start, packing, dtype, math.prod(axes.sizes))
    grid = _grid(fields, axes, directions, dtype, checked(payload))
    return Stored(grid, partial(_values, payload, axes))


def _fields(file: Path) -> tuple[Fields, int]:
    """Fields by lower-case name, and where the voxels begin."""
    with file.open("rb") as stream:
        head = stream.read(MAX_HEADER)
    if not re.match(rb"NRRD000[1-5]\r?\n", head):
        raise DataError("the file is empty" if not head else "it is no NRRD, or its header is damaged")
    blank = re.search(rb"\n\r?\n", head)
    fields: Fields = {}
    for line in head[: blank.start() if blank else None].decode("utf-8", "replace").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    fields |= {"data file": fields["datafile"]} if "datafile" in fields else {}
    if blank is None and "data file" not in fields:
        raise DataError("the file is truncated: its header does not end")
    return fields, blank.end() if blank else len(head)


def _dtype(fields: Fields, packing: str) -> np.dtype[Any]:
    """As stored, with its byte order."""
    name = " ".join(fields.get("type", "").lower().split())
    if name not in _TYPES:
        raise DataError(f"its voxels are of type {name[:40] or 'unknown'}, which are no grey values")
    dtype = np.dtype(_TYPES[name])
    order = fields.get("endian", "").lower()
    if order not in ("little", "big") and dtype.itemsize > 1 and packing != "text":
        raise DataError("its header does not say the order of bytes (endian)")
    return dtype.newbyteorder(">" if order == "big" else "<")


def _axes(fields: Fields, directions: list[Vector | None]) -> _Axes:
    sizes = tuple(int(word) for word in fields.get("sizes", "").split())
    kinds = fields.get("kinds", "").lower().split()
    if not sizes or len(sizes) != int(fields.get("dimension", "0")) or len(sizes) > 16:
        raise DataError("its header is damaged: dimension and sizes do not fit")
    if any(given and len(given) != len(sizes) for given in (kinds, directions)):
        raise DataError("its header is damaged: an axis lacks its kind or its direction")
    if directions:
        space = tuple(axis for axis, direction in enumerate(directions) if direction is not None)
    elif any(kind in _OF_SPACE for kind in kinds):
        space = tuple(axis for axis, kind in enumerate(kinds) if kind in _OF_SPACE)
    else:
        space = tuple(range(min(3, len(sizes))))
    return _checked(sizes, space, kinds)


def _checked(sizes: tuple[int, ...], space: tuple[int, ...], kinds: list[str]) -> _Axes:
    space = space[:3]
    others = [axis for axis in range(len(sizes)) if axis not in space]
    long = [axis for axis in others if sizes[axis] != 1]
    require_volume(sizes, math.prod(sizes[axis] for axis in others))
    if len(space) < 2 or len(long) > 1:
        raise DataError(f"an NRRD of sizes {sizes} is no image or volume", do="Save volumes of three axes")
    if kinds and any(_NO_VALUES.search(kinds[axis]) for axis in long):
        raise DataError("it holds complex numbers or matrices, which are no grey values")
    return _Axes(sizes, space, long[0] if long else -1)


def _grid(
    fields: Fields, axes: _Axes, directions: list[Vector | None], dtype: np.dtype[Any], doubts: list[str]
) -> Grid:
    sides = tuple(axes.sizes[axis] for axis in axes.space)
    along = [direction for axis in axes.space if directions and (direction := directions[axis]) is not None]
    affine = _affine(fields, along) if len(sides) == 3 and along else None
    if affine is not None:
        affine, spacing, odd = located(affine)
    else:
        spacing, odd = _spacing(fields, axes, along)
        odd += ["its header does not say how the patient lies: the axes are as stored"] if len(sides) == 3 else []
    return Grid(sides, axes.channels, dtype, spacing, affine, (*doubts, *odd))


def _spacing(fields: Fields, axes: _Axes, along: list[Vector]) -> tuple[tuple[float, ...] | None, list[str]]:
    if along:
        return credible_spacing([math.hypot(*_in_millimetres(fields, vector)) for vector in along])
    if "spacings" not in fields:
        return None, []
    sizes = [float(word) for word in fields["spacings"].split()]
    return credible_spacing([sizes[axis] for axis in axes.space])


def _affine(fields: Fields, along: list[Vector]) -> NDArray[np.float64] | None:
    """(4, 4) to LPS mm, or None where `space` is not anatomical."""
    space = fields.get("space", "").lower().removesuffix("-time")
    signs = _TO_LPS.get(_SHORT.get(space, space))
    if signs is None or any(len(vector) < 3 for vector in along):
        return None
    origin = (_vectors(fields.get("space origin", "")) or [None])[0] or (0.0, 0.0, 0.0)
    affine = np.eye(4)
    for column, vector in enumerate([*along, origin]):
        affine[:3, column] = _in_millimetres(fields, vector)[:3]
    affine[:2] *= np.array(signs)[:, None]
    return affine


def _in_millimetres(fields: Fields, vector: Vector) -> Vector:
    units = re.findall(r'"([^"]*)"', fields.get("space units", "").lower())
    units += ["mm"] * (len(vector) - len(units))
    return tuple(x * _MILLIMETRES.get(unit, 1.0) for x, unit in zip(vector, units, strict=False))


def _vectors(text: str) -> list[Vector | None]:
    found = re.findall(r"(none)|\(([^)]*)\)", text.lower())
    return [None if none else tuple(float(number) for number in inside.split(",")) for none, inside in found]


def _payload(fields: Fields, file: Path, start: int, packing: str, dtype: np.dtype[Any], count: int) -> Payload:
    start = _after_lines(file, start, int(fields.get("line skip", fields.get("lineskip", "0"))))
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    if packing == "raw":
        return Payload(file, start + skip if skip >= 0 else -1, packing, dtype, count)
    return Payload(file, start, packing, dtype, count, skip)


def _values(payload: Payload, axes: _Axes) -> NDArray[Any]:
    """(*sides, channels)."""
    values = load(payload).reshape(axes.sizes[::-1]).transpose()
    order = (*axes.space, *(axis for axis in range(len(axes.sizes)) if axis not in axes.space))
    return values.transpose(order).reshape(*(axes.sizes[axis] for axis in axes.space), axes.channels)


def _after_lines(file: Path, start: int, lines: int) -> int:
    if lines <= 0:
        return start
    with file.open("rb") as stream:
        stream.seek(start)
        head = stream.read(MAX_HEADER)
    ends = [match.end() for match in re.finditer(rb"\n", head)]
    if len(ends) < lines:
        raise DataError("the file is truncated: fewer lines than its header says to pass by")
    return start + ends[lines - 1]
