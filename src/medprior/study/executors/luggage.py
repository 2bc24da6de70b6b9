"""What another process is given to work on cells: everything but the pixels, which it opens itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from medprior.data.store.pixels import PixelStore
from medprior.data.volumestore.volumes import VolumeStore
from medprior.study.cells import Bench


@dataclass(frozen=True)
class Luggage:
    """A bench without pixels, and where they lie; paths are absolute, for processes that stand elsewhere."""

    bench: Bench
    kind: type[PixelStore | VolumeStore]
    folder: Path

    @classmethod
    def of(cls, bench: Bench) -> Luggage:
        """What lies on `bench`, to be carried."""
        store = bench.ground.volumes if bench.ground.outlined else bench.ground.whole
        bare = replace(bench.ground, store=None)  # type: ignore[arg-type]
        light = replace(bench, ground=bare, store=None, out=bench.out.resolve())  # type: ignore[arg-type]
        return cls(light, type(store), store.folder.resolve())

    def unpack(self, device: torch.device) -> Bench:
        """The same bench, its pixels where batches are cut on `device`.

        Raises:
            StoreError: the pixels are not there, or damaged.
        """
        if device.type == "cuda":
            torch.cuda.set_device(device)
        store = self.kind.open(self.folder)
        pixels = store.resident(device, self.bench.settings.data.placement)
        return replace(self.bench, store=pixels, ground=replace(self.bench.ground, store=store))
