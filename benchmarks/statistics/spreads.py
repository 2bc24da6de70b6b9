"""The luck of seeds of a batch of studies: `medprior.evaluation.luck` with arrays in place of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.evaluation.luck import BORROWED

Array = NDArray[Any]


@dataclass(frozen=True)
class Spreads:
    """`luck.Spread` of S studies: (S,) or (S, K) each, degrees of freedom too."""

    observed: Array
    by_patients: Array
    freedom: Array

    def moderated(self, others: Spreads) -> Spreads:
        borrowed = np.minimum(others.freedom, BORROWED)
        whole = self.freedom + borrowed
        observed, by_patients = (
            (self.freedom * own + borrowed * lent) / whole
            for own, lent in ((self.observed, others.observed), (self.by_patients, others.by_patients))
        )
        return Spreads(observed, by_patients, whole)

    @property
    def luck(self) -> Array:
        return self.observed - self.by_patients


def lent(here: Spreads | None, everywhere: Spreads) -> Spreads:
    """`luck.lent`."""
    if here is None:
        return Spreads(everywhere.observed, everywhere.by_patients, np.minimum(everywhere.freedom, 1))
    more = here.luck >= everywhere.luck
    return Spreads(
        np.where(more, here.observed, everywhere.observed),
        np.where(more, here.by_patients, everywhere.by_patients),
        np.where(more, here.freedom, everywhere.freedom),
    )


def together(one: Spreads, other: Spreads) -> Spreads:
    """`luck.together`."""
    luck = np.maximum(one.luck, 0) + np.maximum(other.luck, 0)
    return Spreads(luck, np.zeros_like(luck), np.minimum(one.freedom, other.freedom))
