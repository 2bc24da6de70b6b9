"""Windows of stored scans on a device: cut there when the scans lie there, else read from their files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.intensity import QUANTA
from medprior.data.store.placement import Asked, Placement, choose_placement
from medprior.data.store.reading import read_ahead
from medprior.data.store.transfer import Transfer
from medprior.data.volumestore.fill import volume_name
from medprior.data.volumestore.plan import VolumeRow, stored_bytes
from medprior.errors import StoreError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from medprior.data.volumestore.volumes import VolumeStore

_LOOKED_AT = {2: (256, 96), 3: (64, 48)}  # how many windows tell mean and deviation, and how large they are
_STEP = {2: 1.324717957244746, 3: 1.2207440846057596}  # the roots of x^(d + 1) = x + 1, see `_spread`
_LOADING = 4  # threads that unpack volumes for the device

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class ResidentVolumes:
    """A `VolumeStore` bound to a device; wherever the scans lie, the windows are the same. Threads may share it.

    Attributes:
        volumes: what it was made from.
        device: where windows appear.
        placement: where the scans and their masks lie.
    """

    volumes: VolumeStore
    device: torch.device
    placement: Placement

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return self.volumes.spatial_dims

    @property
    def channels(self) -> int:
        """C, which all stored rows share.

        Raises:
            StoreError: they differ.
        """
        return self._channels(self.volumes.stored)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(N,) rows that could not be stored."""
        return self.volumes.failed

    def windows(self, rows: NDArray[np.int64], corners: NDArray[np.int64], side: tuple[int, ...]) -> Tensor:
        """(B, C, *side) stored values, int16 or uint8, the first voxel of each at its corner, which may lie outside.

        Outside of a scan all is black, as the intensity plan sees it. The tensor is ready for the stream that is
        current in the calling thread, see `Transfer.send`.

        Args:
            rows: (B,) of the catalog, all with the same number of channels.
            corners: (B, d) pixels along the axes of S.

        Raises:
            StoreError: a row could not be stored, its file is gone or damaged, or rows differ in their channels.
        """
        channels = self._channels(rows)
        if self.placement.kind == "device":
            black = self._transfer.send(self._transfer.staged(self._table.black[rows, :channels]))[0]
            windows = black.view(*black.shape, *[1] * len(side)).expand(-1, -1, *side).contiguous()
            return self._filled(windows, [self._held[self._row(row).key] for row in rows.tolist()], rows, corners)
        staging = self._transfer.staging((len(rows), channels, *side), self._dtype)
        for target, row, corner in zip(staging.numpy(), rows.tolist(), corners.tolist(), strict=True):
            target[:] = self.volumes.crop(row, corner, side)
        return self._transfer.send(staging)[0]

    def masks(self, rows: NDArray[np.int64], corners: NDArray[np.int64], side: tuple[int, ...]) -> Tensor:
        """(B, *side) class indices where `windows` has pixels; outside of a scan all is background, 0.

        They are uint8, or int32 where a mask of the batch knows more than 256 classes.

        Args:
            rows: (B,) of the catalog.
            corners: (B, d) pixels along the axes of S.

        Raises:
            StoreError: a row has no stored mask, or its file is gone or damaged.
        """
        import torch

        if self.placement.kind == "device":
            held = [self._held_masks[self.volumes.mask_key(row)] for row in rows.tolist()]
            dtype = torch.uint8 if all(mask.dtype == torch.uint8 for mask in held) else torch.int32
            windows = torch.zeros((len(rows), 1, *side), dtype=dtype, device=self.device)
            return self._filled(windows, held, rows, corners)[:, 0]
        both = zip(rows.tolist(), corners.tolist(), strict=True)
        read = np.stack([self.volumes.mask_crop(row, corner, side) for row, corner in both])
        return self._transfer.send(self._transfer.staged(_as_indices(read)))[0]

    def unit(self, row: int) -> Tensor:
        """(C, *S) float32 on the device: the whole scan, 0 for black and 1 for white.

        Raises:
            StoreError: it could not be stored, or its file is gone or damaged.
        """
        import torch

        scale, offset = (values[0].view(-1, *[1] * self.spatial_dims) for values in self.mapping(np.array([row])))
        on_device = self.placement.kind == "device"
        stored = self._held[self._row(row).key] if on_device else torch.from_numpy(self.volumes.volume(row))
        return stored.to(self.device).float().mul_(scale).add_(offset).clamp_(0, 1)

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, d) pixels along the axes of whole scans."""
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

        Of 64 windows of at most 48^3 voxels, or 256 of at most 96^2 pixels, spread evenly over the rows and inside the
        scans: always the same.

        Raises:
            StoreError: a row could not be stored, its file is gone or damaged, or rows differ in their channels.
        """
        channels, d = self._channels(rows), self.spatial_dims
        total, squares, voxels = np.zeros(channels), np.zeros(channels), 0
        count, most = _LOOKED_AT[d]
        for row, place in zip(rows[np.arange(count) * len(rows) // count].tolist(), _spread(count, d), strict=True):
            shape = np.array(self.volumes.shape(row))
            side = shape.clip(max=most)
            corner = (place * (shape - side + 1)).astype(int)
            scale, offset = (values[:, None] for values in to_unit(self.volumes, row))
            read = self.volumes.crop(row, corner.tolist(), side.tolist()).reshape(channels, -1)
            values = (read * scale + offset).clip(0, 1)
            total += values.sum(axis=1)
            squares += np.square(values).sum(axis=1)
            voxels += values.shape[1]
        mean = total / voxels
        std = np.sqrt((squares / voxels - mean**2).clip(0)).clip(1 / QUANTA)
        return tuple(mean.tolist()), tuple(std.tolist())

    def prepare(self) -> None:
        """Begin to bring all to its place: done at once on a device, in a thread of its own in memory."""
        if self.placement.kind == "device":
            _ = self._held, self._held_masks
        elif self.placement.kind == "host":
            read_ahead([self.volumes.folder / volume_name(key) for key in self.volumes.index.lengths])

    def _filled(
        self, windows: Tensor, held: Sequence[Tensor], rows: NDArray[np.int64], corners: NDArray[np.int64]
    ) -> Tensor:
        """Windows (B, C, *side) with copies of the parts of scans (C, *S) that lie in them; where they lie is known on
        the host, so nothing waits for the device."""
        side, lengths = windows.shape[2:], self.lengths(rows).tolist()
        for window, whole, corner, length in zip(windows, held, corners.tolist(), lengths, strict=True):
            source, target = overlap(corner, side, length)
            window[(slice(None), *target)] = whole[(slice(None), *source)]
        return windows

    def _channels(self, rows: NDArray[np.int64]) -> int:
        found = np.unique(self._table.channels[rows])
        if len(found) == 1 and found[0]:
            return int(found[0])
        for row in rows.tolist():
            self.volumes.channels(row)  # says so where a row was not stored
        what = f"scans of {' and '.join(map(str, found))} channels cannot stand in one batch"
        raise StoreError(what, where=str(self.volumes.folder), do="Train on scans with the same number of channels")

    def _row(self, row: int) -> VolumeRow:
        found = self.volumes.index.rows[row]
        assert found is not None  # `_channels` has looked
        return found

    @property
    def _dtype(self) -> torch.dtype:
        import torch

        return torch.int16 if self.volumes.index.settings.dtype == "int16" else torch.uint8

    @cached_property
    def _held(self) -> dict[str, Tensor]:
        """Every different scan (C, *S) on the device."""
        return self._brought(_different(self.volumes), self.volumes.volume)

    @cached_property
    def _held_masks(self) -> dict[str, Tensor]:
        """Every different mask (1, *S) on the device."""
        return self._brought(_different_masks(self.volumes), lambda row: _as_indices(self.volumes.mask(row))[None])

    def _brought(self, rows: dict[str, int], unpack: Callable[[int], NDArray[Any]]) -> dict[str, Tensor]:
        """What `unpack` reads of each row on the device, a few at a time."""
        import torch

        with ThreadPoolExecutor(min(_LOADING, os.cpu_count() or 1)) as pool:
            tensors = pool.map(lambda row: torch.from_numpy(unpack(row)).to(self.device), rows.values())
            return dict(zip(rows, tensors, strict=True))

    @cached_property
    def _table(self) -> _Table:
        return _tabulate(self.volumes)

    @cached_property
    def _transfer(self) -> Transfer:
        return Transfer(self.device)


def make_resident_volumes(volumes: VolumeStore, device: torch.device | str, asked: Asked = "auto") -> ResidentVolumes:
    """Bring the scans to where they fit, or where they were asked for; see `choose_placement`."""
    import torch

    place = torch.device(device)
    made = ResidentVolumes(volumes, place, choose_placement(volumes.nbytes, place, asked, unpacked=_unpacked(volumes)))
    made.prepare()
    return made


def overlap(corner: Sequence[int], side: Sequence[int], lengths: Sequence[int]) -> tuple[Slices, Slices]:
    """Where a window and a scan meet: slices of the scan, and of the window. Empty where they do not."""
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
        lengths: (N, d) int64.
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
    channels, lengths = np.zeros(count, np.int64), np.zeros((count, volumes.spatial_dims), np.int64)
    for row in stored:
        own = channels[row] = volumes.channels(row)
        lengths[row], black[row, :own] = volumes.shape(row), volumes.black(row)
        scale[row, :own], offset[row, :own] = to_unit(volumes, row)
    return _Table(channels, lengths, black, scale, offset)


def _different(volumes: VolumeStore) -> dict[str, int]:
    """The key of every different scan, and a row that holds it."""
    rows = ((volumes.index.rows[row], row) for row in volumes.stored.tolist())
    return {found.key: row for found, row in rows if found is not None}


def _different_masks(volumes: VolumeStore) -> dict[str, int]:
    """The key of every different mask, and a row that holds it."""
    return {volumes.mask_key(row): row for row in volumes.stored.tolist() if volumes.has_mask(row)}


def _as_indices(mask: NDArray[np.uint8 | np.uint16]) -> NDArray[np.uint8 | np.int32]:
    """In a type that PyTorch does all with."""
    return mask if mask.dtype == np.uint8 else mask.astype(np.int32)  # type: ignore[return-value]


def _unpacked(volumes: VolumeStore) -> int:
    """Bytes of scans and masks on a device."""
    rows = [row for number in _different(volumes).values() if (row := volumes.index.rows[number]) is not None]
    pixels = sum(math.prod(volumes.shape(row)) for row in _different_masks(volumes).values())
    return stored_bytes(rows, volumes.index.settings.dtype) + pixels * (1 if len(volumes.classes) <= 2**8 else 4)


def _spread(count: int, d: int) -> NDArray[np.float64]:
    """(count, d) points in [0, 1), evenly spread and always the same.

    The additive recurrence of Martin Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences" (2018).
    """
    steps = _STEP[d] ** -np.arange(1.0, d + 1)
    points: NDArray[np.float64] = (0.5 + np.arange(1, count + 1)[:, None] * steps) % 1
    return points
