"""Readers, one module per family of formats; a module is imported only when a file of its family is met.

A reader module offers `suffixes`, `group(paths, root) -> list[Source]`, `describe(source, root) -> ScanInfo` (header
only) and `read(source, root) -> Scan`. Only `DataError` leaves it, with the path relative to the root.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Protocol, cast

from medprior.data.scan import Scan, ScanInfo, Source
from medprior.errors import DataError

FORMATS: dict[str, tuple[str, ...]] = {
    "raster": (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif"),
    "arrays": (".npy", ".npz"),
    "dicom": (".dcm", ".dicom", ".ima"),
    "volume": (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"),
}
READABLE = (
    "DICOM, PNG, JPEG, TIFF, BMP, WebP, GIF, NumPy (.npy, .npz), NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), "
    "MetaImage (.mha, .mhd)"
)


class Reader(Protocol):
    """What a reader module offers."""

    suffixes: tuple[str, ...]

    def group(self, paths: Sequence[str], root: Path) -> list[Source]:
        """The scans that lie in `paths` (relative to `root`)."""

    def describe(self, source: Source, root: Path) -> ScanInfo:
        """What the header says, without decoding pixels."""

    def read(self, source: Source, root: Path) -> Scan:
        """Decode one scan."""


def format_of(path: str | PurePath) -> str | None:
    """The family a file belongs to by its name, or None."""
    name = PurePath(path).name.lower()
    return next((family for family, suffixes in FORMATS.items() if name.endswith(suffixes)), None)


def format_inside(file: Path) -> str | None:
    """The family a file belongs to by its content, for names that say nothing; DICOM files often have no ending."""
    from medprior.data.readers.dicom import is_dicom

    return "dicom" if is_dicom(file) else None


def stem_of(path: str | PurePath) -> str:
    """The file name without the ending of a known format: "a/scan.1.nii.gz" gives "scan.1"."""
    name = PurePath(path).name
    endings = [s for suffixes in FORMATS.values() for s in suffixes if name.lower().endswith(s)]
    return name[: -max(map(len, endings))] if endings else name


def reader_for(path: str | PurePath) -> Reader | None:
    """The reader of a file, by its name, or None when none reads it."""
    family = format_of(path)
    return None if family is None else reader(family)


def reader(family: str) -> Reader:
    """The reader module of a family.

    Raises:
        DataError: no such family, which a catalog from a newer medprior may hold.
    """
    if family not in FORMATS:
        raise DataError(f'no reader is named "{family}"', do=f"Readable are: {', '.join(FORMATS)}")
    return cast(Reader, importlib.import_module(f"{__name__}.{family}"))


def read(source: Source, root: Path) -> Scan:
    """Decode one scan, by the reader its source names.

    Raises:
        DataError: the file is absent, truncated, corrupt or not what its name says.
    """
    return reader(source.reader).read(source, root)
