"""Volumes: NIfTI, NRRD and MetaImage, turned to one orientation.

Axes of every volume: D runs from the feet to the head (superior), H from front to back (posterior), W from the
patient's right to left. That is DICOM's LPS with the slowest axis first, so a slice `pixels[:, d]` is an axial image
as a radiologist looks at it. `Scan.orientation` is "SPL", and `Scan.affine` gives the place of every voxel. Voxels are
permuted and flipped, never interpolated. A file that does not say how the patient lies, or whose affine is no geometry
(singular, not finite), is read in its stored order, without affine and orientation, and with a doubt.

A fourth axis of up to `MAX_CHANNELS` becomes channels (contrasts of one examination); a longer one is a time series
and is refused. NRRD and MetaImage may hold flat images: (C, H, W). Their voxels may lie in a file of their own, which
is opened only where it lies inside the root, also after links are followed.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from medprior.data.readers import FORMATS
from medprior.data.readers.guard import refusing
from medprior.data.readers.volumes.canonical import Stored, info_of, scan_of
from medprior.data.scan import Scan, ScanInfo, Source
from medprior.errors import DataError

suffixes = FORMATS["volume"]

_MODULES = {".nrrd": "nrrd", ".nhdr": "nrrd", ".mha": "metaimage", ".mhd": "metaimage"}


class Format(Protocol):
    """What the module of a format offers."""

    def companions(self, path: str, root: Path) -> tuple[str, ...]:
        """The files, relative to `root`, that hold the voxels of a header."""

    def opened(self, path: str, root: Path) -> Stored:
        """Read the header."""


def companions(path: str, root: Path) -> tuple[str, ...]:
    """The files, relative to `root`, that belong to a header and are no scans of their own; () where it is damaged."""
    try:
        with refusing(path, root):
            return _format(path).companions(path, root)
    except DataError:
        return ()


def group(paths: Sequence[str], root: Path) -> list[Source]:
    """One source per file, with the file of its voxels behind it; of a NIfTI nothing is opened."""
    return [Source("volume", (path, *companions(path, root))) for path in paths]


def describe(source: Source, root: Path) -> ScanInfo:
    """Size, channels, type and geometry as `read` will give them, from the header.

    Raises:
        DataError: the header cannot be read, or the file is one that `read` refuses.
    """
    path = source.paths[0]
    with refusing(path, root):
        return info_of(_format(path).opened(path, root))


def read(source: Source, root: Path) -> Scan:
    """Decode to pixels (C, D, H, W) in the orientation above, spacing in mm as (D, H, W); (C, H, W) where flat.

    Raises:
        DataError: absent, truncated, corrupt, a time series, colours, or above `MAX_VOXELS`.
    """
    path = source.paths[0]
    with refusing(path, root):
        return scan_of(_format(path).opened(path, root), path)


def _format(path: str) -> Format:
    name = _MODULES.get(Path(path).suffix.lower(), "nifti")
    return cast(Format, importlib.import_module(f"medprior.data.readers.volumes.{name}"))
