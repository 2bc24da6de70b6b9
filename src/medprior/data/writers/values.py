"""What stands in a file of a label map: the values of the classes, in the smallest type that holds them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.errors import DataError

Labels = NDArray[np.integer[Any]]


def in_values(labels: Labels, values: Sequence[int]) -> Labels:
    """Labels with the value of each class instead of its index; the indices themselves where no values are given.

    They are uint8, uint16 or int32.

    Raises:
        DataError: a label has no value.
    """
    most = len(values) - 1 if values else 2**31 - 1
    if labels.min() < 0 or labels.max() > most:
        raise DataError(f"the label map holds {labels.min()} to {labels.max()}, which are not all classes")
    largest = max(values) if values else int(labels.max())
    dtype = np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.int32
    if not values:
        return labels.astype(dtype)
    table: Labels = np.array(values, dtype)
    return table[labels]
