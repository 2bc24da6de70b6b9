"""What answers that need no model would score: everything marked as one class, or nothing marked at all.

Dice rewards size: of a class that covers most of an image, marking everything scores high. A model that does not lie
above that has not been shown to have learnt anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.evaluation.segmentation import METRICS

Array = NDArray[Any]


def class_sizes(truth: Array, classes: int) -> Array:
    """(C,) voxels of each class of a label map (*S), the background first; those below 0 were not judged."""
    return np.bincount(truth[truth >= 0].ravel(), minlength=classes)


def marked(sizes: Array, label: int) -> Array:
    """Scores (N, K, M) of N label maps in which every voxel is `label` (0: none is marked), as `yardstick.packed` gives
    them.

    By the conventions of `segmentation`: a class that neither map has is not counted, one that only one of them has
    scores 0. Distances are not measured: NaN.

    Args:
        sizes: (N, C) of the truths, see `class_sizes`; C = K + 1.
    """
    classes = np.arange(1, sizes.shape[1])
    there = sizes[:, 1:] > 0
    whole = 2 * sizes[:, 1:] / (sizes[:, 1:] + sizes.sum(1, keepdims=True))
    dice = np.where(classes == label, whole, np.where(there, 0.0, np.nan))
    scores = np.full((*dice.shape, len(METRICS)), np.nan)
    scores[:, :, METRICS.index("dice")] = dice
    return scores
