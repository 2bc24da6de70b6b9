"""Which scans make up which step: a pure function of the seed, so that a resumed run sees what it would have seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medprior.errors import SettingsError


@dataclass(frozen=True)
class Sampler:
    """Shuffled epochs over `rows`, cut into full batches; the ragged end of an epoch is left out.

    Args:
        rows: catalog rows to draw from.
        batch_size: rows per step; at most all of them.
        seed: each epoch's order is drawn from (seed, epoch) alone.
    """

    rows: NDArray[np.int64]
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if len(self.rows) < 2:
            raise SettingsError(f"{len(self.rows)} scans are too few to train on", do="At least two scans are needed")
        object.__setattr__(self, "batch_size", min(self.batch_size, len(self.rows)))

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass."""
        return len(self.rows) // self.batch_size

    def epoch(self, step: int) -> int:
        """The pass over the data that `step` belongs to."""
        return step // self.steps_per_epoch

    def batch(self, step: int) -> NDArray[np.int64]:
        """The rows of `step`, whatever was asked before."""
        order = _order(self.seed, self.epoch(step), len(self.rows))
        start = (step % self.steps_per_epoch) * self.batch_size
        return self.rows[order[start : start + self.batch_size]]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    # Kept for the steps of its epoch: shuffling a million rows takes longer than many a step.
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
