"""Pixels decoded once: one array for a whole catalog, from which every batch of every run is cut.

A folder holds three files: `store.json` (what it is), `pixels-<key>.npy` (N, C, *A) uint8 in the layout of
`medprior.data.store.pyramid`, and `rows-<key>.npz` (content boxes, and the scale and offset that lead back to physical
values). `store.json` is written last and names the others, so that a build that was killed is never believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medprior.data.intensity import CT_WINDOW, QUANTA, dequantise
from medprior.data.store import files
from medprior.data.store.fill import Rows, can_be_stored, fill
from medprior.data.store.letterbox import box_index
from medprior.data.store.placement import Asked
from medprior.data.store.plan import StorePlan, plan_store
from medprior.data.store.pyramid import atlas_layout
from medprior.data.store.reading import PixelFile
from medprior.data.store.resident import ResidentStore, Stored, make_resident
from medprior.errors import StoreError
from medprior.files import make_folder
from medprior.progress import Progress, silent

if TYPE_CHECKING:
    import torch

    from medprior.data.catalog import Catalog

__all__ = ["PixelStore", "ResidentStore", "Stored", "atlas_layout"]


@dataclass(frozen=True)
class PixelStore:
    """The pixels of a catalog, row by row.

    Attributes:
        folder: where it lies.
        plan: what it holds.
        rows: content boxes and mappings, by catalog row.
        failures: the reason of each row that could not be stored.
    """

    folder: Path
    plan: StorePlan
    rows: Rows
    failures: dict[int, str]

    @classmethod
    def build(
        cls,
        catalog: Catalog,
        folder: Path | str,
        *,
        size: int,
        channels: int | None = None,
        spatial_dims: int = 2,
        ct_window: tuple[float, float] = CT_WINDOW,
        workers: int | None = None,
        progress: Progress = silent,
    ) -> PixelStore:
        """The store of a catalog: the one in `folder` when it holds just this, else a new one.

        Args:
            size: side S in pixels; larger scans are reduced to it, smaller ones stay as they are.
            channels: 1 turns colour to grey, 3 repeats grey; by default 1 where every scan is grey.
            ct_window: HU that become 0 and 255.
            workers: threads that decode, by default one per core.

        Raises:
            DataError: scans with another number of axes, or none that can be stored.
            OutputError: no space (it says how much is needed) or no permission.
        """
        place = Path(folder)
        plan = plan_store(catalog, size=size, channels=channels, spatial_dims=spatial_dims, ct_window=ct_window)
        found = _reusable(place, plan)
        if found is not None and not any(can_be_stored(catalog, plan, row) for row in found.failures):
            return found
        make_folder(place)
        files.clear_killed(place)
        rows, failures = fill(catalog, plan, files.pixels_file(place, plan), workers, progress)
        files.write_about(place, plan, rows, failures)
        return cls(place, plan, rows, failures)

    @classmethod
    def open(cls, folder: Path | str) -> PixelStore:
        """The store in `folder`.

        Raises:
            StoreError: none there, or damaged.
        """
        store = cls(Path(folder), *files.read_about(Path(folder)))
        files.check_length(store.folder, store.plan)
        return store

    @property
    def count(self) -> int:
        """Rows N, those that failed included."""
        return self.plan.count

    @property
    def size(self) -> int:
        """Side S of level 0."""
        return self.plan.size

    @property
    def channels(self) -> int:
        """Channels C."""
        return self.plan.channels

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return self.plan.spatial_dims

    @property
    def levels(self) -> int:
        """Half-size levels, level 0 included."""
        return self.plan.levels

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self.count * self.plan.row_bytes

    @property
    def content(self) -> NDArray[np.float32]:
        """(N, d, 2) edges of the content boxes in level 0, normalised: outer edges of the whole at -1 and +1."""
        return self.rows.content

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """(N,) rows that could not be stored; they are black."""
        failed = np.zeros(self.count, bool)
        failed[list(self.failures)] = True
        return failed

    @cached_property
    def mean(self) -> tuple[float, ...]:
        """Per channel, of the stored values as [0, 1], inside the content of all rows."""
        return self.moments()[0]

    @cached_property
    def std(self) -> tuple[float, ...]:
        """Like `mean`; at least one step of 256, so that it can be divided by."""
        return self.moments()[1]

    def moments(self, rows: NDArray[np.int64] | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of some rows, for instance those an encoder may see."""
        mean, std = self.rows.moments(np.arange(self.count) if rows is None else rows)
        return tuple((mean / QUANTA).tolist()), tuple((std.clip(1) / QUANTA).tolist())

    def pixels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(B, C, *A) atlases of some rows, read from the file.

        Raises:
            StoreError: the file was deleted or cut short meanwhile, or it holds no such row.
        """
        read = np.empty((len(rows), *self.plan.row_shape), np.uint8)
        self._file.read(rows, read)
        return read

    def load(self) -> NDArray[np.uint8]:
        """(N, C, *A) all atlases, in memory.

        Raises:
            StoreError: the file was deleted or cut short meanwhile.
        """
        return self.pixels(np.arange(self.count))

    def physical(self, row: int) -> NDArray[np.float64]:
        """(C, *S) the content of one row in physical values, to half a step where they lie in the stored range."""
        (atlas,) = self.pixels(np.array([row]))
        values = atlas[(slice(None), *box_index(self.content[row], self.size))]
        return dequantise(values, self.rows.scale[row], self.rows.offset[row])

    def resident(self, device: torch.device | str, asked: Asked = "auto") -> ResidentStore:
        """The store for batches on a device, its pixels where they fit or where they were asked for.

        Raises:
            SettingsError: the memory of a GPU was asked for, which has no room.
            StoreError: the file was deleted or cut short meanwhile.
        """
        return make_resident(self, device, asked)

    @cached_property
    def _file(self) -> PixelFile:
        return PixelFile(self.folder, self.plan)


def _reusable(folder: Path, plan: StorePlan) -> PixelStore | None:
    try:
        found = PixelStore.open(folder)
    except StoreError:
        return None
    return found if found.plan.key == plan.key else None
