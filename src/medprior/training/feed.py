"""Batches in the order of the steps: gathered at once where that costs nothing, else made ahead by threads."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.data.store.prefetch import Prefetch
from medprior.data.store.resident import ResidentStore, Stored
from medprior.training.sampler import Sampler
from medprior.views.crops import cut
from medprior.views.plan import ViewPlan
from medprior.views.window import Crops

if TYPE_CHECKING:
    from medprior.data.volumestore.foreground import Foreground
    from medprior.data.volumestore.resident import ResidentVolumes

MOST_THREADS = 8


class Feed:
    """The scans of every step from `first` to `last` (exclusive), taken in order.

    A store of images whose pixels lie where they are used is read when a step asks; any other one, and volumes, whose
    crops have to be decoded, by `threads` ahead of the steps. What comes out is the same.

    Args:
        store: where scans lie.
        sampler: which of them make up a step.
        plan, seed: of the views, by which crops of volumes are drawn.
        threads: by default one for each core but one.
        foreground: where labelled voxels lie, to learn label maps from crops that are aimed at them.
    """

    def __init__(
        self,
        store: ResidentStore | ResidentVolumes,
        sampler: Sampler,
        plan: ViewPlan,
        seed: int,
        *,
        first: int,
        last: int,
        threads: int | None = None,
        foreground: Foreground | None = None,
    ) -> None:
        self.store, self.sampler, self.plan, self.seed = store, sampler, plan, seed
        self.foreground = foreground
        self._read = 0.0
        self._queue: Prefetch[Stored | Crops] | None = None
        if not _at_hand(store):
            count = threads or max(1, min(MOST_THREADS, (os.cpu_count() or 1) - 1))
            depth = 2 * (count + 1) if store.placement.kind == "disk" else count + 1
            self._queue = Prefetch(self._make, first, last, threads=count, depth=depth)

    @property
    def waited(self) -> float:
        """Seconds that `take` took, all calls together."""
        return self._read if self._queue is None else self._queue.waited

    def take(self, step: int) -> Stored | Crops:
        """The scans of `step`.

        Raises:
            StoreError: the store was deleted or cut short meanwhile.
        """
        if self._queue is not None:
            return self._queue.take(step)
        began = time.perf_counter()
        made = self._make(step)
        self._read += time.perf_counter() - began
        return made

    def close(self) -> None:
        """End the threads and drop what they made."""
        if self._queue is not None:
            self._queue.close()

    def _make(self, step: int) -> Stored | Crops:
        rows = self.sampler.batch(step)
        return gather(self.store, rows, self.plan, seed=self.seed, step=step, foreground=self.foreground)


def gather(
    store: ResidentStore | ResidentVolumes,
    rows: NDArray[np.int64],
    plan: ViewPlan,
    *,
    seed: int,
    step: int,
    foreground: Foreground | None = None,
) -> Stored | Crops:
    """What the views of these rows are cut from at `step`, on the device of the store; see `cut`.

    Raises:
        StoreError: the store was deleted or cut short meanwhile.
    """
    if isinstance(store, ResidentStore):
        return store.batch(torch.from_numpy(rows))
    return cut(store, rows, plan, seed=seed, step=step, foreground=foreground)


def _at_hand(store: ResidentStore | ResidentVolumes) -> bool:
    if not isinstance(store, ResidentStore):
        return False
    return store.placement.kind == "device" or (store.placement.kind == "host" and store.device.type == "cpu")
