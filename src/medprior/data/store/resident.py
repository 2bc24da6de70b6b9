"""Stored pixels where batches are cut: gathered on the device when they lie there, else read from the file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from medprior.data.store.placement import Asked, Placement, choose_placement
from medprior.data.store.reading import PixelFile, read_ahead
from medprior.data.store.transfer import Transfer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from medprior.data.store.pixels import PixelStore

_AT_ONCE = 1 << 26  # bytes of pixels that are on their way to the device together


@dataclass
class Stored:
    """Some rows of a store, as tensors on one device; d spatial axes.

    Attributes:
        index: (B,) int64, rows of the catalog.
        source: (B, C, *A) uint8, all levels packed as `medprior.data.store.pyramid` lays them out; or
            (N, C, *A), those of the whole store, when they lie on the device.
        content: (B, d, 2) float32, low and high edges of the content box in level 0, normalised: axes in the order
            of S, the outer edges of the first and last pixel at -1 and +1.
        size: side S of level 0.
        levels: how many levels there are.
        whole: whether `source` is the whole store's.
    """

    index: Tensor
    source: Tensor
    content: Tensor
    size: int
    levels: int
    whole: bool = False

    @property
    def pixels(self) -> Tensor:
        """(B, C, *A) uint8, all levels. Of a whole store they are gathered at every call."""
        return self._rows(self.source)

    def level0(self) -> Tensor:
        """(B, C, *S) uint8, nothing else gathered."""
        return self._rows(self.source[..., : self.size])

    def _rows(self, tensor: Tensor) -> Tensor:
        return tensor.index_select(0, self.index) if self.whole else tensor


@dataclass(frozen=True)
class ResidentStore:
    """A store bound to a device; wherever its pixels lie, the batches are the same. Threads may share it.

    Attributes:
        store: what it was made from.
        device: where batches appear.
        placement: where the pixels lie.
    """

    store: PixelStore
    device: torch.device
    placement: Placement

    def __len__(self) -> int:
        return self.store.count

    def batch(self, rows: Tensor) -> Stored:
        """The rows (B,) of the catalog, int64, on any device (on this machine's nothing waits); failed ones are black.

        The tensors are ready for the stream that is current in the calling thread, see `Transfer.send`.

        Raises:
            StoreError: the file was deleted or cut short meanwhile, or it holds no such row.
        """
        return self._gathered(rows) if self.placement.kind == "device" else self._read(rows)

    def prepare(self) -> None:
        """Begin to bring the pixels to their place: done at once on a device, in a thread of its own in memory."""
        if self.placement.kind == "device":
            _ = self._pixels
        elif self.placement.kind == "host":
            read_ahead([self._file.path])

    def _gathered(self, rows: Tensor) -> Stored:
        on_host = rows.device.type == "cpu"
        (index,) = self._transfer.send(self._transfer.staged(rows.numpy())) if on_host else (rows.to(self.device),)
        content = self._content.index_select(0, index)
        return Stored(index, self._pixels, content, self.store.size, self.store.levels, whole=True)

    def _read(self, rows: Tensor) -> Stored:
        import torch

        numbers = rows.cpu().numpy()
        pixels = self._transfer.staging((len(numbers), *self.store.plan.row_shape), torch.uint8)
        self._file.read(numbers, pixels.numpy())
        content = self._transfer.staged(self.store.content[numbers])
        index, pixels, content = self._transfer.send(self._transfer.staged(numbers), pixels, content)
        return Stored(index, pixels, content, self.store.size, self.store.levels)

    @cached_property
    def _pixels(self) -> Tensor:
        import torch

        plan, together = self.store.plan, max(1, _AT_ONCE // self.store.plan.row_bytes)
        held = torch.empty((plan.count, *plan.row_shape), dtype=torch.uint8, device=self.device)
        for first in range(0, plan.count, together):
            rows = np.arange(first, min(plan.count, first + together))
            held[first : first + len(rows)].copy_(torch.from_numpy(self.store.pixels(rows)))
        return held

    @cached_property
    def _content(self) -> Tensor:
        import torch

        return torch.from_numpy(self.store.content).to(self.device)

    @cached_property
    def _file(self) -> PixelFile:
        return PixelFile(self.store.folder, self.store.plan)

    @cached_property
    def _transfer(self) -> Transfer:
        return Transfer(self.device)


def make_resident(store: PixelStore, device: torch.device | str, asked: Asked = "auto") -> ResidentStore:
    """Bring the pixels to where they fit, or where they were asked for; see `choose_placement`."""
    import torch

    place = torch.device(device)
    made = ResidentStore(store, place, choose_placement(store.nbytes, place, asked))
    made.prepare()
    return made
