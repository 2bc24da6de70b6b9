"""In the place of stored pixels that are gone: what is known of them, so that a report can be written without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from medprior.errors import StoreError

if TYPE_CHECKING:
    import torch

    from medprior.data.store.placement import Asked


@dataclass(frozen=True)
class LostStore:
    """Stands where a PixelStore or a VolumeStore stood.

    Attributes:
        reason: why that cannot be read.
        size: side of its pictures; of those that crops are cut from, of a crop.
        failed: (N,) catalog rows that it could not store.
    """

    reason: StoreError
    size: int
    failed: NDArray[np.bool_]

    @classmethod
    def of(cls, reason: StoreError, size: int, count: int, failed: tuple[int, ...]) -> LostStore:
        """The store of `count` scans of which the rows `failed` could not be stored."""
        mask = np.zeros(count, bool)
        mask[list(failed)] = True
        return cls(reason, size, mask)

    def resident(self, device: torch.device | str, asked: Asked = "auto") -> NoReturn:
        """There are no pixels.

        Raises:
            StoreError: why.
        """
        raise self.reason
