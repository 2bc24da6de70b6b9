"""NIfTI volumes, through nibabel, turned to one orientation.

Axes of every volume: D runs from the feet to the head (superior), H from front to back (posterior), W from the
patient's right to left. That is DICOM's LPS with the slowest axis first, so a slice `pixels[:, d]` is an axial image
as a radiologist looks at it. `Scan.orientation` is "SPL". Voxels are permuted and flipped, never interpolated. A file
whose affine is no geometry (singular, not finite) is read in its stored order, without spacing and orientation.

A fourth axis of up to `MAX_CHANNELS` becomes channels (contrasts of one examination); a longer one is a time series
and is refused. Values are rescaled as the header says, and stay integers where that keeps them whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medprior.data.readers import FORMATS
from medprior.data.readers.guard import physical, refusing
from medprior.data.scan import Scan, ScanInfo, Source
from medprior.errors import DataError

suffixes = FORMATS["volume"]
MAX_CHANNELS = 8
MAX_VOXELS = 2**30
"""Larger volumes (1,024 x 1,024 x 1,024) are refused, so that a small damaged file cannot fill the memory."""

T = TypeVar("T")
_orientations: Any = nib.orientations  # nibabel leaves these functions untyped
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def group(paths: Sequence[str], root: Path) -> list[Source]:
    """One source per file; nothing is opened."""
    return [Source("volume", (path,)) for path in paths]


def describe(source: Source, root: Path) -> ScanInfo:
    """Size, channels, type and spacing as `read` will give them, from the header.

    Raises:
        DataError: the header cannot be read, or the file is one that `read` refuses.
    """
    with refusing(source.paths[0], root):
        image = nib.load(root / source.paths[0], mmap=False)
        *sides, channels = _shape(image)
        order, spacing = _geometry(image)
        return ScanInfo(_turned(sides, order)[::-1], channels, _dtype(image).name, spacing=spacing)


def read(source: Source, root: Path) -> Scan:
    """Decode to pixels (C, D, H, W) in the orientation above, spacing in mm as (D, H, W).

    Raises:
        DataError: absent, truncated, corrupt, a time series, colours, or above `MAX_VOXELS`.
    """
    with refusing(source.paths[0], root):
        image = nib.load(root / source.paths[0], mmap=False)
        shape, dtype = _shape(image), _dtype(image)
        order, spacing = _geometry(image)
        values = _rescaled(image, dtype).reshape(shape)
        if order is not None:
            values = _orientations.apply_orientation(values, order)
        pixels = physical(np.ascontiguousarray(values.T))
        return Scan(pixels, source.paths[0], spacing=spacing, orientation=None if order is None else "SPL")


def _shape(image: Any) -> tuple[int, ...]:
    """(x, y, z, channels) of a file; refuses what is no volume."""
    stored = [int(n) for n in image.shape]
    if not stored or min(stored) < 1 or math.prod(stored) > MAX_VOXELS:
        raise DataError(f"a volume of shape {tuple(stored)} cannot be used (at most {MAX_VOXELS:,} voxels, none empty)")
    x, y, z, *rest = stored + [1] * (3 - len(stored))
    channels = math.prod(rest)
    if sum(n > 1 for n in rest) > 1 or channels > MAX_CHANNELS:
        reason = f"a volume of shape {tuple(stored)} is a time series or has more than {MAX_CHANNELS} channels"
        raise DataError(reason, do="Save each time point, or a mean over time, as a file of its own")
    return x, y, z, channels


def _dtype(image: Any) -> np.dtype[Any]:
    """The type of the physical values: an integer type where slope and intercept keep integers whole."""
    stored: np.dtype[Any] = np.dtype(image.get_data_dtype()).newbyteorder("=")
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    if stored.kind not in "iuf":
        raise DataError(f"its voxels are of type {stored}, which are no grey values")
    if stored.kind == "f" or not (float(slope).is_integer() and float(intercept).is_integer()):
        return np.dtype(np.float32)
    if (slope, intercept) == (1, 0):
        return stored
    limits = [int(edge) * int(slope) + int(intercept) for edge in (np.iinfo(stored).min, np.iinfo(stored).max)]
    return np.dtype(np.int32 if max(map(abs, limits)) < 2**31 else np.float32)


def _rescaled(image: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    values: NDArray[Any] = np.asanyarray(image.dataobj)
    if dtype.kind in "iu" and values.dtype.kind == "f":
        values = np.rint(values)
    return values.astype(dtype, copy=False)


def _geometry(image: Any) -> tuple[NDArray[Any] | None, tuple[float, ...] | None]:
    """How to turn the axes (x, y, z) to L, P, S, and the spacing in mm of the turned axes, slowest first."""
    affine = np.asarray(image.affine, dtype=np.float64)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * sizes.prod():
        return None, None
    order = _orientations.ornt_transform(_orientations.io_orientation(affine), _orientations.axcodes2ornt("LPS"))
    unit = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    return order, _turned([float(size) * unit for size in sizes], order)[::-1]


def _turned(values: Sequence[T], order: NDArray[Any] | None) -> tuple[T, ...]:
    """One value per stored axis, moved to where that axis goes."""
    if order is None:
        return tuple(values)
    return tuple(value for _, value in sorted(zip(order[:, 0], values, strict=True), key=lambda pair: int(pair[0])))
