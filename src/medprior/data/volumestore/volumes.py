"""Scans decoded once, at full resolution: one Blosc2 file each, from which crops are read without decoding the rest.

A folder holds `volumes.json` (what it is, written last) and one file for every different scan and mask, named by
what it holds. Each is whole or absent, so a build that was stopped goes on where it was.

A store holds volumes (C, D, H, W) or images (C, H, W), never both. All images of one have the same channels: one where
all show grey, whatever their format; else grey is repeated. With "int16" physical = offset + scale * stored: whole
numbers that span at most 65,536 steps are exact, Hounsfield units are whole ones, anything else has 65,536 steps. With
"uint8" scans are stored by the intensity plan, which leaves images of 8 bits as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.intensity import CT_WINDOW, dequantise
from medprior.data.store.placement import Asked
from medprior.data.volumestore.file import VolumeFiles
from medprior.data.volumestore.fill import fill_volumes, volume_name
from medprior.data.volumestore.index import VolumeIndex, clear_volumes, read_index, write_index
from medprior.data.volumestore.plan import VolumeRow, VolumeSettings, most_axes, plan_volumes
from medprior.data.volumestore.resample import Spacing
from medprior.data.volumestore.resident import ResidentVolumes, make_resident_volumes, overlap
from medprior.errors import DataError, StoreError
from medprior.files import make_folder
from medprior.progress import Progress, silent

if TYPE_CHECKING:
    import torch

    from medprior.data.catalog import Catalog


@dataclass(frozen=True)
class VolumeStore:
    """The volumes, or the images, of a catalog, row by row; threads may read from it at once.

    Attributes:
        folder: where it lies.
        index: what it holds.
    """

    folder: Path
    index: VolumeIndex

    @classmethod
    def build(
        cls,
        catalog: Catalog,
        folder: Path | str,
        *,
        spacing: Spacing = None,
        dtype: str = "int16",
        masks: bool = False,
        spatial_dims: int | None = None,
        ct_window: tuple[float, float] = CT_WINDOW,
        workers: int | None = None,
        progress: Progress = silent,
    ) -> VolumeStore:
        """The store of the volumes or images of a catalog; what already lies in `folder` and holds the same is kept.

        Args:
            spacing: mm to resample to: one number, where axes more than three times as coarse stay as they are, or
                one for each axis of S, which all are followed. Scans of unknown spacing keep their grid.
            dtype: "int16" or "uint8".
            masks: whether to store the masks that the catalog knows.
            spatial_dims: 3 for its volumes, 2 for its images; by default what most scans are.
            ct_window: HU that become black and white.
            workers: threads that read, by default one per core, fewer where scans are large beside the memory.

        Raises:
            DataError: no such scans, or none that can be stored.
            SettingsError: a spacing, a type or a window that makes no store.
            OutputError: no space (it says how much is needed) or no permission.
        """
        place = Path(folder)
        axes = most_axes(catalog) if spatial_dims is None else spatial_dims
        plan = plan_volumes(catalog, VolumeSettings(dtype, spacing, masks, ct_window, axes))
        make_folder(place)
        failures, unmasked = fill_volumes(catalog, plan, place, workers, progress)
        failures = dict(sorted((plan.failures | failures).items()))
        if len(failures) == len(plan.rows):
            raise _none_stored(catalog, failures)
        index = VolumeIndex.of(plan, place, failures, dict(sorted(unmasked.items())))
        write_index(place, index)
        clear_volumes(place, index)
        return cls(place, index)

    @classmethod
    def open(cls, folder: Path | str) -> VolumeStore:
        """The store in `folder`.

        Raises:
            StoreError: none there, or damaged.
        """
        return cls(Path(folder), read_index(Path(folder)))

    def __len__(self) -> int:
        return len(self.index.rows)

    @property
    def spatial_dims(self) -> int:
        """3, it holds volumes, or 2, images."""
        return self.index.settings.spatial_dims

    @property
    def failures(self) -> dict[int, str]:
        """The reason of each row that could not be stored; images among volumes, and volumes among images, too."""
        return self.index.failures

    @property
    def mask_failures(self) -> dict[int, str]:
        """The reason of each mask that could not be stored."""
        return self.index.mask_failures

    @property
    def classes(self) -> tuple[int, ...]:
        """The value in the masks of each class index, see `Catalog.mask_classes`; () without masks.

        Of DICOM segmentations the index is the number of the segment.
        """
        return self.index.classes

    @property
    def nbytes(self) -> int:
        """Bytes of all files, compressed."""
        return sum(self.index.lengths.values())

    @cached_property
    def stored(self) -> NDArray[np.int64]:
        """Rows that can be read."""
        return np.array([i for i in range(len(self)) if i not in self.failures], np.int64)

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """(N,) rows that could not be stored."""
        failed = np.ones(len(self), bool)
        failed[self.stored] = False
        return failed

    def channels(self, row: int) -> int:
        """C."""
        return self._row(row).channels

    def shape(self, row: int) -> tuple[int, ...]:
        """(H, W) or (D, H, W)."""
        return self._row(row).grid.shape

    def spacing(self, row: int) -> tuple[float, ...] | None:
        """mm per axis of the stored pixels, or None."""
        return self._row(row).grid.spacing

    def affine(self, row: int) -> NDArray[np.float64] | None:
        """(4, 4) from the index (d, h, w, 1) of a stored voxel to mm (x, y, z, 1) in DICOM's LPS, or None; images have
        none."""
        rows = self._row(row).grid.affine
        return None if rows is None else np.array([*rows, 0, 0, 0, 1], np.float64).reshape(4, 4)

    def mapping(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scale and offset (C,): physical = offset + scale * stored."""
        found = self._row(row)
        return np.array(found.scale), np.array(found.offset)

    def edges(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(C,) physical values that the intensity plan shows black and white: 0 and 1 of a view."""
        found = self._row(row)
        return np.array(found.low), np.array(found.high)

    def black(self, row: int) -> NDArray[Any]:
        """(C,) the stored value of black, which lies outside of a scan."""
        found = self._row(row)
        limits = np.iinfo(self.index.settings.dtype)
        steps = (np.array(found.low) - found.offset) / found.scale
        return np.rint(steps).clip(limits.min, limits.max).astype(limits.dtype)

    def volume(self, row: int) -> NDArray[Any]:
        """(C, *S) as stored.

        Raises:
            StoreError: the row could not be stored, or its file is damaged.
        """
        return self._read(self._row(row).key, (slice(None),) * self.spatial_dims)

    def crop(self, row: int, corner: Sequence[int], shape: Sequence[int]) -> NDArray[Any]:
        """(C, *shape) pixels as stored, the first of them at `corner` (d,), which may lie outside.

        Nothing is clipped: outside of the scan all is black, as the intensity plan sees it.

        Raises:
            StoreError: the row could not be stored, or its file is damaged.
        """
        found = self._row(row)
        return self._cut(found.key, found, corner, shape, self.black(row))

    def physical(self, row: int) -> NDArray[np.float64]:
        """(C, *S) in physical values, to half a step where they lie in the stored range."""
        return dequantise(self.volume(row), *self.mapping(row))

    def has_mask(self, row: int) -> bool:
        """Whether a mask is stored for it."""
        return bool(self._row(row).mask) and row not in self.mask_failures

    def mask(self, row: int) -> NDArray[np.uint8 | np.uint16]:
        """(*S) class indices, 0 the background.

        Raises:
            StoreError: there is none, or its file is damaged.
        """
        indices: NDArray[np.uint8 | np.uint16] = self._read(self.mask_key(row), (slice(None),) * self.spatial_dims)[0]
        return indices

    def mask_crop(self, row: int, corner: Sequence[int], shape: Sequence[int]) -> NDArray[np.uint8 | np.uint16]:
        """`shape` class indices, the first of them at `corner`; outside of the scan all is background.

        Raises:
            StoreError: there is none, or its file is damaged.
        """
        key, outside = self.mask_key(row), np.zeros(1, np.uint8)
        indices: NDArray[np.uint8 | np.uint16] = self._cut(key, self._row(row), corner, shape, outside)[0]
        return indices

    def mask_key(self, row: int) -> str:
        """What names the mask of a row; equal masks are stored once.

        Raises:
            StoreError: there is none.
        """
        if not self.has_mask(row):
            reason = self.mask_failures.get(row, "the catalog knows none, or none were asked for")
            raise StoreError(f"row {row} has no stored mask: {reason}", where=str(self.folder), do="See `has_mask`")
        return self._row(row).mask

    def resident(self, device: torch.device | str, asked: Asked = "auto") -> ResidentVolumes:
        """The store for windows on a device, its scans where they fit or where they were asked for.

        Raises:
            SettingsError: the memory of a GPU was asked for, which has no room.
            StoreError: a file is gone or damaged.
        """
        return make_resident_volumes(self, device, asked)

    def _row(self, row: int) -> VolumeRow:
        found = self.index.rows[row]
        if found is None or row in self.failures:
            what = f"row {row} is not in the store: {self.failures[row]}"
            raise StoreError(what, where=str(self.folder), do="Leave out the rows in `failures`")
        return found

    def _cut(
        self, key: str, row: VolumeRow, corner: Sequence[int], shape: Sequence[int], outside: NDArray[Any]
    ) -> NDArray[Any]:
        inside, place = overlap(corner, shape, row.grid.shape)
        found = self._read(key, inside)
        if found.shape[1:] == tuple(shape):
            return found
        padded = np.broadcast_to(outside.reshape(-1, *[1] * len(shape)), (len(outside), *shape)).astype(found.dtype)
        padded[(slice(None), *place)] = found
        return padded

    def _read(self, key: str, index: tuple[slice, ...]) -> NDArray[Any]:
        return self._files.read(volume_name(key), self.index.lengths[key], index)

    @cached_property
    def _files(self) -> VolumeFiles:
        return VolumeFiles(self.folder)


def _none_stored(catalog: Catalog, failures: dict[int, str]) -> DataError:
    row, reason = min(failures.items())
    several = f"none of the {len(failures):,} scans could be stored; the first: "
    what = several + reason if len(failures) > 1 else reason
    return DataError(what, where=str(catalog.table["path"].iat[row]), do="Check that the files are there and whole")
