"""Stored pixels where batches are cut: on the device when they fit there, else read from the file row by row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from medprior.data.store.pixels import PixelStore

SHARE = 0.5
"""How much of the free memory the pixels may take; the rest is for the model and its batches."""


@dataclass
class Stored:
    """Some rows of a store, as tensors on one device; d spatial axes.

    Attributes:
        index: (B,) int64, rows of the catalog.
        pixels: (B, C, *A) uint8, all levels packed as `medprior.data.store.pyramid` lays them out.
        content: (B, d, 2) float32, low and high edges of the content box in level 0, normalised: axes in the order
            of S, the outer edges of the first and last pixel at -1 and +1.
        size: side S of level 0.
        levels: how many levels there are.
    """

    index: Tensor
    pixels: Tensor
    content: Tensor
    size: int
    levels: int


@dataclass(frozen=True)
class ResidentStore:
    """A store bound to a device. Rows cost the same words whether its pixels lie there or in the file.

    Attributes:
        store: what it was made from.
        device: where batches appear.
        in_memory: whether all pixels lie in the device's memory.
    """

    store: PixelStore
    device: torch.device
    in_memory: bool

    def __len__(self) -> int:
        return self.store.count

    def batch(self, rows: Tensor) -> Stored:
        """The rows (B,) of the catalog, int64, on any device; a row that failed is black.

        Raises:
            StoreError: the file was deleted or cut short meanwhile.
        """
        index = rows.to(self.device)
        pixels = self._pixels.index_select(0, index) if self.in_memory else self._read(rows)
        content = self._content.index_select(0, index)
        return Stored(index, pixels, content, self.store.size, self.store.levels)

    @cached_property
    def _pixels(self) -> Tensor:
        import torch

        return torch.from_numpy(self.store.load()).to(self.device)

    @cached_property
    def _content(self) -> Tensor:
        import torch

        return torch.from_numpy(self.store.content).to(self.device)

    def _read(self, rows: Tensor) -> Tensor:
        import torch

        return torch.from_numpy(self.store.pixels(rows.cpu().numpy())).to(self.device)


def make_resident(store: PixelStore, device: torch.device | str) -> ResidentStore:
    """Load the pixels to `device` where they fit into `SHARE` of its free memory, else leave them in the file."""
    import torch

    place = torch.device(device)
    made = ResidentStore(store, place, store.nbytes <= SHARE * free_memory(place))
    if made.in_memory:
        _ = made._pixels
    return made


def free_memory(device: torch.device) -> int:
    """Free bytes of a device; for the CPU what the machine, and the container around us, still allow."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return min(_machine_free(), _container_free())


def _machine_free() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return _pages_free()


def _pages_free() -> int:
    """Half of the memory where the system does not say what is free."""
    import os

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _container_free() -> int:
    """What the control group (version 2) leaves; pages that can be dropped count as free."""
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return int(np.iinfo(np.int64).max)
    return max(0, most - used + int(stat.get("inactive_file", 0)))
