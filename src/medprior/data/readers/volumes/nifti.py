"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz), through nibabel.

The sform places the volume where its code says that there is one, else the qform, as most programs do; where both are
coded and differ, a doubt says by how much. Without either nothing says how the patient lies. A fourth axis of up to
`MAX_CHANNELS` becomes channels (contrasts of one examination); a longer one is a time series and is refused. Values are
rescaled as the header says, and stay integers where that keeps them whole.
"""

from __future__ import annotations

import gzip
import math
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from medprior.data.readers.volumes.canonical import Grid, Stored, credible_spacing, located, require_volume
from medprior.data.readers.volumes.payload import require_packed
from medprior.errors import DataError

nib: Any = nibabel  # it leaves what is used here untyped
Affine = NDArray[np.float64]

_MILLIMETRES = {1: 1000.0, 3: 0.001}  # xyzt_units: metre, micron; all others are taken for mm
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from NIfTI's RAS
_NO_VALUES = {
    1004: "matrices", 1005: "matrices", 1006: "displacements", 1007: "vectors", 1008: "points", 1009: "triangles",
    1010: "quaternions", 2003: "colours", 2004: "colours",
}  # fmt: skip
_SAME = 0.1  # mm between corners placed by sform and by qform that are not worth a word


def companions(path: str, root: Path) -> tuple[str, ...]:
    """None: a NIfTI file is whole."""
    return ()


def opened(path: str, root: Path) -> Stored:
    """Read the header.

    Raises:
        DataError: damaged, a time series, colours or vectors, or too large.
    """
    header = _header(root / path)
    shape, stored = _shape(header), np.dtype(header.get_data_dtype())
    slope, shift = (
        float(default if x is None else x) for x, default in zip(header.get_slope_inter(), (1, 0), strict=True)
    )
    dtype = _physical_type(stored, slope, shift)
    doubts = _mark(header)
    offset = _offset(header)
    _require_room(root / path, math.prod(shape) * stored.itemsize, offset)
    affine, spacing, odd = _geometry(header, shape[:3])
    proxy = nib.arrayproxy.ArrayProxy(root / path, (shape, header.get_data_dtype(), offset, slope, shift), mmap=False)
    grid = Grid(shape[:3], shape[3], dtype, spacing, affine, (*doubts, *odd))
    return Stored(grid, partial(_values, proxy, dtype))


def _header(file: Path) -> Any:
    """As stored: nibabel mends what is odd in a header, and what is mended cannot be told."""
    if file.stat().st_size == 0:
        raise DataError("the file is empty")
    try:
        with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as stream:
            head = stream.read(540)
    except gzip.BadGzipFile:
        head = b"?"
    if not head:
        raise DataError("the file is empty: it unpacks to nothing")
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    if len(head) == 540 and 540 in sizes:
        return nib.Nifti2Header(head, check=False)
    if len(head) >= 348 and 348 in sizes:
        return nib.Nifti1Header(head[:348], check=False)
    raise DataError("the file is truncated or damaged, or no NIfTI")


def _mark(header: Any) -> list[str]:
    """What is odd in the magic string, and in a slope that is none."""
    magic = bytes(header["magic"])[:3]
    if magic not in (b"n+1", b"n+2", b"ni1", b"ni2"):
        reason = "it carries no mark of NIfTI: an Analyze file, which does not tell left from right"
        raise DataError(reason, do="Convert it with a program that knows how it was taken")
    doubts = ["it is marked as half of a pair of files"] if magic[:2] == b"ni" else []
    slope, shift = float(header["scl_slope"]), float(header["scl_inter"])
    if (slope == 0 or not math.isfinite(slope)) and math.isfinite(shift) and shift != 0:
        doubts.append("its header names an intercept and no slope: values are as stored")
    return doubts


def _offset(header: Any) -> int:
    least = 544 if int(header["sizeof_hdr"]) == 540 else 352
    offset = int(header.get_data_offset())
    if 0 < offset < least - 4:
        raise DataError("its header is damaged: the voxels would begin inside it")
    return offset or least


def _shape(header: Any) -> tuple[int, ...]:
    """(x, y, z, channels) of a file; refuses what is no volume."""
    stored = [int(n) for n in header.get_data_shape()]
    code = int(header["intent_code"])
    rest = [n for n in stored[3:] if n > 1]
    require_volume(stored, 10**9 if len(rest) > 1 else math.prod(rest))
    if rest and code in _NO_VALUES:
        raise DataError(f"its header says that it holds {_NO_VALUES[code]}, which are no grey values")
    return (*stored[:3], *[1] * (3 - len(stored)), math.prod(rest))


def _physical_type(stored: np.dtype[Any], slope: float, shift: float) -> np.dtype[Any]:
    """An integer type where slope and intercept keep integers whole."""
    stored = stored.newbyteorder("=")
    if stored.names:
        what = "its voxels are colours, which are no grey values: save it in grey, or its colours along a fourth axis"
        raise DataError(what, do="Save it in grey, or red, green and blue as three volumes along a fourth axis")
    if stored.kind not in "iuf":
        raise DataError(f"its voxels are of type {stored}, which are no grey values")
    if stored.kind == "f" or not (slope.is_integer() and shift.is_integer()):
        return np.dtype(np.float32)
    if (slope, shift) == (1, 0):
        return stored
    limits = [int(edge) * int(slope) + int(shift) for edge in (np.iinfo(stored).min, np.iinfo(stored).max)]
    return np.dtype(np.int32 if max(map(abs, limits)) < 2**31 else np.float32)


def _require_room(file: Path, wanted: int, offset: int) -> None:
    there = file.stat().st_size
    if file.name.lower().endswith(".gz"):
        require_packed(wanted, there)
    elif there - offset < wanted:
        raise DataError(
            f"the file is truncated: {wanted:,} bytes of voxels announced, {max(there - offset, 0):,} there"
        )


def _values(proxy: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    values: NDArray[Any] = np.asanyarray(proxy)
    if dtype.kind in "iu" and values.dtype.kind == "f":
        values = np.rint(values)
    return values.astype(dtype, copy=False)


def _geometry(header: Any, sides: tuple[int, ...]) -> tuple[Affine | None, tuple[float, ...] | None, list[str]]:
    """Affine to LPS mm, spacing in mm, and what is odd in them."""
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    axes = min(3, int(header["dim"][0]))
    sizes, unsized = credible_spacing([float(size) * unit for size in header["pixdim"][1 : axes + 1]])
    forms = {"sform": _sform(header), "qform": _qform(header)}
    placed = {name: _LPS @ (np.diag([unit] * 3 + [1.0]) @ form) for name, form in forms.items() if form is not None}
    good = {name: found for name, form in placed.items() if (found := located(form))[0] is not None}
    doubts = [f"its {name} is no geometry (singular or not finite)" for name in placed if name not in good]
    if int(header["qform_code"]) > 0 and forms["qform"] is None:
        doubts.append("its qform cannot be made out")
    if not good:
        doubts += [*unsized, "its header does not say how the patient lies: the axes are as stored"]
        return None, None if sizes is None else (*sizes, *[1.0] * (3 - axes)), doubts
    if unsized:
        doubts.append(f"its voxel sizes are not all positive numbers: those of the {next(iter(good))} are used")
    if len(good) == 2:
        doubts += _apart(placed["sform"], placed["qform"], sides)
    affine, spacing, odd = next(iter(good.values()))
    return affine, spacing, doubts + odd


def _sform(header: Any) -> Affine | None:
    return np.asarray(header.get_sform(), np.float64) if int(header["sform_code"]) > 0 else None


def _qform(header: Any) -> Affine | None:
    """None also where its quaternion is none."""
    if int(header["qform_code"]) <= 0:
        return None
    header = header.copy()
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    try:
        return np.asarray(header.get_qform(), np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None


def _apart(sform: Affine, qform: Affine, sides: tuple[int, ...]) -> list[str]:
    """By how much the two differ, where it matters."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(sides) - 1)
    places = [corners @ form[:3, :3].T + form[:3, 3] for form in (sform, qform)]
    distance = float(np.linalg.norm(places[0] - places[1], axis=1).max())
    turn = np.linalg.solve(*[form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform)])
    if np.linalg.det(turn) < 0:
        return [f"its sform and qform are mirror images, {distance:.1f} mm apart: the sform is used"]
    if distance <= _SAME:
        return []
    angle = math.degrees(math.acos(min(1.0, max(-1.0, (float(np.trace(turn)) - 1) / 2))))
    return [f"its sform and qform differ by up to {distance:.1f} mm and {angle:.1f} degrees: the sform is used"]
