"""Label maps of volumes as NIfTI, where the scan lies that they were predicted from.

Of a NIfTI file the shape, the order of the axes and every number that places it are taken over, bit by bit, so that
the affine is equal. NRRD and MetaImage keep their shape and order too, and their affine is said in NIfTI's way. A DICOM
series has no order of its own: its label map has the axes left, back, head, and lies where the series does. What says
nothing of its place gets none. Nothing else of a header is taken over: a description may hold a name.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from medprior.data.readers.guard import refusing
from medprior.data.readers.volumes import metaimage, nifti, nrrd
from medprior.data.readers.volumes.canonical import Grid
from medprior.data.scan import Source
from medprior.data.volumestore.resample import nearest
from medprior.data.writers.values import Labels, in_values
from medprior.errors import DataError, SettingsError
from medprior.files import replace_file, said_plainly

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

nib: Any = nibabel  # it leaves what is used here untyped

_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from LPS
_PLACE = (
    "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
    "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_LONGEST = 2**15 - 1  # voxels along an axis of NIfTI-1
_AGAIN = "Index the scans again"


@dataclass(frozen=True)
class _Place:
    """The axes of the file as those of the scan, whether each runs backwards, and a header that says where they lie."""

    axes: tuple[int, ...]
    backwards: tuple[bool, ...]
    header: Any


def write_labels(path: Path, labels: Labels, catalog: Catalog, row: int, values: Sequence[int] = ()) -> None:
    """Write the label map of a volume as `path`, whole or not at all; read again, it lies on the scan voxel by voxel.

    Labels on another grid of the same box, such as that of a resampled store, take the label that lies nearest. Scores
    that are brought to the shape of the scan first (`letterbox.resize`) give smoother borders.

    Args:
        path: its name ends in .nii or .nii.gz.
        labels: (D, H, W) class indices, in the orientation of `Scan`.
        catalog, row: the scan.
        values: what stands in the file for every class index, such as `Catalog.mask_classes`; without it the indices.

    Raises:
        DataError: the scan is no volume, is not what it was when it was indexed, or a label has no value.
        SettingsError: a name that is none of a NIfTI file.
        OutputError: no space, no permission.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise SettingsError("a label map is written as NIfTI", where=path.name, do="Let its name end in .nii.gz")
    table: Any = catalog.table
    shape = tuple(int(n) for n in table["shape"].iat[row])
    source = catalog.source(row)
    if len(shape) != 3 or labels.ndim != 3:
        raise DataError("it is an image: label maps are written of volumes", where=source.paths[0])
    with refusing(source.paths[0], catalog.root):
        place = _place(catalog, row, source, shape)
    numbers = in_values(nearest(labels, shape), values)
    backwards = tuple(axis for axis, back in enumerate(place.backwards) if back)
    _save(path, place.header, np.flip(numbers.transpose(place.axes), backwards))


def _place(catalog: Catalog, row: int, source: Source, shape: tuple[int, ...]) -> _Place:
    table: Any = catalog.table
    lies, spacing = table["affine"].iat[row], table["spacing"].iat[row]
    affine = None if lies is None else np.array([*lies, 0, 0, 0, 1], np.float64).reshape(4, 4)
    if source.reader != "volume":
        grid = Grid(shape[::-1], 1, np.dtype(np.uint8), None if spacing is None else tuple(spacing)[::-1])
        columns = None if affine is None else affine[:, [2, 1, 0, 3]]
        return _Place((2, 1, 0), (False,) * 3, _made(grid, columns))
    path = source.paths[0]
    grid, header = _stored(path, catalog.root)
    axes, backwards = _order(grid, affine)
    if tuple(shape[axis] for axis in axes) != grid.sides:
        raise DataError(f"it has the shape {grid.sides} now, another than when it was indexed", do=_AGAIN)
    return _Place(axes, backwards, _made(grid, grid.affine) if header is None else _taken_over(header))


def _stored(path: str, root: Path) -> tuple[Grid, Any]:
    """What the header says, and of a NIfTI file the header itself."""
    match PurePath(path).suffix.lower():
        case ".nrrd" | ".nhdr":
            return nrrd.opened(path, root).grid, None
        case ".mha" | ".mhd":
            return metaimage.opened(path, root).grid, None
    return nifti.opened(path, root).grid, _header(root / path)


def _order(grid: Grid, affine: NDArray[np.float64] | None) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Which axis of the scan each stored axis is, and whether backwards: the affines of both say it."""
    if (grid.affine is None) != (affine is None):
        raise DataError("what it says of its place is not what it said when it was indexed", do=_AGAIN)
    if affine is None or grid.affine is None:
        return (2, 1, 0), (False,) * 3
    between = np.linalg.solve(grid.affine, affine)[:3, :3]
    turn = np.rint(between)
    if np.abs(between - turn).max() > 1e-3 or not np.array_equal(np.abs(turn) @ np.abs(turn).T, np.eye(3)):
        raise DataError("it does not lie where it lay when it was indexed", do=_AGAIN)
    return tuple(np.abs(turn).argmax(1).tolist()), tuple((turn.sum(1) < 0).tolist())


def _header(file: Path) -> Any:
    """As it stands in the file, with nothing mended; `nifti.opened` has seen that it is one."""
    with nib.openers.ImageOpener(str(file), "rb") as stream:
        head = stream.read(540)
    second = 540 in (int.from_bytes(head[:4], order) for order in ("little", "big"))
    return nib.Nifti2Header(head, check=False) if second else nib.Nifti1Header(head[:348], check=False)


def _taken_over(source: Any) -> Any:
    """A header of the same place, and of nothing else."""
    header = type(source)()
    header.set_data_shape(source.get_data_shape()[:3])
    header["pixdim"][:4] = source["pixdim"][:4]
    for name in _PLACE:
        header[name] = source[name]
    return header


def _made(grid: Grid, affine: NDArray[np.float64] | None) -> Any:
    """A header for axes (i, j, k) with an affine to LPS mm, or without."""
    header = (nib.Nifti1Header if max(grid.sides) <= _LONGEST else nib.Nifti2Header)()
    header.set_data_shape(grid.sides)
    header.set_xyzt_units("mm")
    if affine is not None:
        placed = _RAS @ affine
        header.set_sform(placed, code=1)
        header.set_qform(placed, code=1, strip_shears=True)
        if not np.allclose(header.get_qform(), placed, atol=1e-3):
            header["qform_code"] = 0  # a quaternion knows no shear, such as a tilted gantry's
    elif grid.spacing is not None:
        header["pixdim"][1:4] = grid.spacing
    return header


def _save(path: Path, header: Any, numbers: Labels) -> None:
    """The time of writing is left out of the gzip stream: the same labels give the same bytes."""
    begins = -(-(int(header["sizeof_hdr"]) + 4) // 16) * 16
    header.set_data_dtype(numbers.dtype)
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = begins, 1, 0
    head: bytes = header.binaryblock
    data = head + bytes(begins - len(head)) + numbers.tobytes(order="F")
    with said_plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as aside:
        aside.write_bytes(gzip.compress(data, 6, mtime=0) if path.name.endswith(".gz") else data)
