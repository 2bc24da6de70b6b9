"""Windows of stored volumes on a device: cut there when the volumes lie there, else read from their files."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medprior.data.intensity import QUANTA
from medprior.data.store.placement import Asked, Placement, choose_placement
from medprior.data.store.reading import read_ahead
from medprior.data.store.transfer import Transfer
from medprior.data.volumestore.fill import volume_name
from medprior.data.volumestore.plan import stored_bytes
from medprior.errors import StoreError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from medprior.data.volumestore.volumes import VolumeStore

_CROPS, _SIDE = 64, 48  # how many windows tell mean and deviation, and how large they are
_LOADING = 4  # threads that unpack volumes for the device

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class ResidentVolumes:
    """A volume store bound to a device; wherever the volumes lie, the windows are the same. Threads may share it.

    Attributes:
        volumes: what it was made from.
        device: where windows appear.
        placement: where the volumes lie.
    """

    volumes: VolumeStore
    device: torch.device
    placement: Placement

    def __len__(self) -> int:
        return len(self.volumes)

    def windows(self, rows: NDArray[np.int64], corners: NDArray[np.int64], side: tuple[int, int, int]) -> Tensor:
        """(B, C, *side) stored values, int16 or uint8, the first voxel of each at its corner, which may lie outside.

        Outside of a volume all is black, as the intensity plan sees it. The tensor is ready for the stream that is
        current in the calling thread, see `Transfer.send`.

        Args:
            rows: (B,) of the catalog, all with the same number of channels.
            corners: (B, 3) voxels along D, H, W.

        Raises:
            StoreError: a row could not be stored, its file is gone or damaged, or rows differ in their channels.
        """
        channels = self._channels(rows)
        if self.placement.kind == "device":
            return self._cut(rows, corners, side, channels)
        staging = self._transfer.staging((len(rows), channels, *side), self._dtype)
        for target, row, corner in zip(staging.numpy(), rows.tolist(), corners.tolist(), strict=True):
            target[:] = self.volumes.crop(row, corner, side)
        return self._transfer.send(staging)[0]

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, 3) voxels along D, H, W of whole volumes."""
        return self._table.lengths[rows]

    def mapping(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(B, C) float32 scale and offset: stored * scale + offset, clamped, is 0 for black and 1 for white.

        Raises:
            StoreError: a row could not be stored, or rows differ in their channels.
        """
        channels, table = self._channels(rows), self._table
        both = (self._transfer.staged(values[rows, :channels]) for values in (table.scale, table.offset))
        scale, offset = self._transfer.send(*both)
        return scale, offset

    def moments(self, rows: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of the [0, 1] values; at least one of 256 steps, to divide by.

        Of 64 windows of at most 48^3 voxels, spread evenly over the rows and inside the volumes: always the same.

        Raises:
            StoreError: a row could not be stored, its file is gone or damaged, or rows differ in their channels.
        """
        channels = self._channels(rows)
        total, squares, voxels = np.zeros(channels), np.zeros(channels), 0
        for row, place in zip(rows[np.arange(_CROPS) * len(rows) // _CROPS].tolist(), _spread(_CROPS), strict=True):
            shape = np.array(self.volumes.shape(row))
            side = shape.clip(max=_SIDE)
            corner = (place * (shape - side + 1)).astype(int)
            scale, offset = (values.reshape(-1, 1, 1, 1) for values in to_unit(self.volumes, row))
            values = (self.volumes.crop(row, corner.tolist(), side.tolist()) * scale + offset).clip(0, 1)
            total += values.sum(axis=(1, 2, 3))
            squares += np.square(values).sum(axis=(1, 2, 3))
            voxels += math.prod(side.tolist())
        mean = total / voxels
        std = np.sqrt((squares / voxels - mean**2).clip(0)).clip(1 / QUANTA)
        return tuple(mean.tolist()), tuple(std.tolist())

    def prepare(self) -> None:
        """Begin to bring the volumes to their place: done at once on a device, in a thread of its own in memory."""
        if self.placement.kind == "device":
            _ = self._held
        elif self.placement.kind == "host":
            read_ahead([self.volumes.folder / volume_name(key) for key in _different(self.volumes)])

    def _cut(
        self, rows: NDArray[np.int64], corners: NDArray[np.int64], side: tuple[int, int, int], channels: int
    ) -> Tensor:
        """Copies of slices; where they lie is known on the host, so nothing waits for the device."""
        black = self._transfer.send(self._transfer.staged(self._table.black[rows, :channels]))[0]
        windows = black[..., None, None, None].expand(-1, -1, *side).contiguous()
        lengths = self.lengths(rows).tolist()
        for window, row, corner, length in zip(windows, rows.tolist(), corners.tolist(), lengths, strict=True):
            source, target = overlap(corner, side, length)
            window[(slice(None), *target)] = self._held[self._key(row)][(slice(None), *source)]
        return windows

    def _channels(self, rows: NDArray[np.int64]) -> int:
        found = np.unique(self._table.channels[rows])
        if len(found) == 1 and found[0]:
            return int(found[0])
        for row in rows.tolist():
            self.volumes.channels(row)  # says so where a row was not stored
        what = f"volumes of {' and '.join(map(str, found))} channels cannot stand in one batch"
        raise StoreError(what, where=str(self.volumes.folder), do="Train on scans with the same number of channels")

    def _key(self, row: int) -> str:
        found = self.volumes.index.rows[row]
        assert found is not None  # `_channels` has looked
        return found.key

    @property
    def _dtype(self) -> torch.dtype:
        import torch

        return torch.int16 if self.volumes.index.settings.dtype == "int16" else torch.uint8

    @cached_property
    def _held(self) -> dict[str, Tensor]:
        """Every different volume (C, D, H, W) on the device, unpacked a few at a time."""
        import torch

        rows = _different(self.volumes)
        with ThreadPoolExecutor(min(_LOADING, os.cpu_count() or 1)) as pool:
            tensors = pool.map(lambda row: torch.from_numpy(self.volumes.volume(row)).to(self.device), rows.values())
            return dict(zip(rows, tensors, strict=True))

    @cached_property
    def _table(self) -> _Table:
        return _tabulate(self.volumes)

    @cached_property
    def _transfer(self) -> Transfer:
        return Transfer(self.device)


def make_resident_volumes(volumes: VolumeStore, device: torch.device | str, asked: Asked = "auto") -> ResidentVolumes:
    """Bring the volumes to where they fit, or where they were asked for; see `choose_placement`."""
    import torch

    place, different = torch.device(device), _different(volumes)
    unpacked = stored_bytes([volumes.index.rows[row] for row in different.values()], volumes.index.settings.dtype)  # type: ignore[misc]
    packed = sum(volumes.index.lengths[key] for key in different)
    made = ResidentVolumes(volumes, place, choose_placement(packed, place, asked, unpacked=unpacked))
    made.prepare()
    return made


def overlap(corner: Sequence[int], side: Sequence[int], lengths: Sequence[int]) -> tuple[Slices, Slices]:
    """Where a window and a volume meet: slices of the volume, and of the window. Empty where they do not."""
    low = [max(0, at) for at in corner]
    high = [min(n, at + extent) for at, extent, n in zip(corner, side, lengths, strict=True)]
    if any(first >= end for first, end in zip(low, high, strict=True)):
        return (slice(0, 0),) * len(low), (slice(0, 0),) * len(low)
    inside = tuple(slice(first, end) for first, end in zip(low, high, strict=True))
    return inside, tuple(slice(part.start - at, part.stop - at) for part, at in zip(inside, corner, strict=True))


def to_unit(volumes: VolumeStore, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and offset (C,) of one row from stored values to 0 for black and 1 for white.

    A scan whose black is its white has 255 physical units between them, as `IntensityPlan.mappings` has it.
    """
    scale, offset = volumes.mapping(row)
    low, high = volumes.edges(row)
    width = np.where(high > low, high - low, QUANTA)
    return scale / width, (offset - low) / width


@dataclass(frozen=True)
class _Table:
    """What is known of N rows with at most C channels; 0 where a row was not stored or has fewer channels.

    Attributes:
        channels: (N,) int64.
        lengths: (N, 3) int64.
        black: (N, C) stored values.
        scale: (N, C) float32, with
        offset: (N, C) float32: to [0, 1].
    """

    channels: NDArray[np.int64]
    lengths: NDArray[np.int64]
    black: NDArray[np.int16 | np.uint8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]


def _tabulate(volumes: VolumeStore) -> _Table:
    stored = volumes.stored.tolist()
    most = max((volumes.channels(row) for row in stored), default=1)
    count = len(volumes)
    scale, offset = np.zeros((2, count, most), np.float32)
    black = np.zeros((count, most), volumes.index.settings.dtype)
    channels, lengths = np.zeros(count, np.int64), np.zeros((count, 3), np.int64)
    for row in stored:
        own = channels[row] = volumes.channels(row)
        lengths[row], black[row, :own] = volumes.shape(row), volumes.black(row)
        scale[row, :own], offset[row, :own] = to_unit(volumes, row)
    return _Table(channels, lengths, black, scale, offset)


def _different(volumes: VolumeStore) -> dict[str, int]:
    """The key of every different volume, and a row that holds it."""
    rows = ((volumes.index.rows[row], row) for row in volumes.stored.tolist())
    return {found.key: row for found, row in rows if found is not None}


def _spread(count: int) -> NDArray[np.float64]:
    """(count, 3) points in [0, 1), evenly spread and always the same.

    The additive recurrence of Martin Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences" (2018).
    """
    steps = 1.2207440846057596 ** -np.arange(1.0, 4.0)
    points: NDArray[np.float64] = (0.5 + np.arange(1, count + 1)[:, None] * steps) % 1
    return points
