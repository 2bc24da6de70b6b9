"""What a trained model says of test images whose quality was lowered, before the model is forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.data.store.resident import ResidentStore
from medprior.training.adapt import plain_views
from medprior.training.interrupt import Stop, check, never
from medprior.views.degrading import degraded
from medprior.views.draws import Key
from medprior.views.recipe import ViewRecipe

AT_ONCE = 1 << 22
"""Pixels that are corrupted together: every number of noise takes some fifty bytes while it is drawn."""


@torch.inference_mode()
def under_corruptions(
    chances: Callable[[torch.Tensor], NDArray[np.float64]],
    store: ResidentStore,
    rows: NDArray[np.int64],
    base: ViewRecipe,
    *,
    seed: int,
    stop: Stop = never,
) -> NDArray[np.float64]:
    """Probabilities (J, N, K) of `rows` under each of the J corruptions of `views.degrading.SUITE`.

    What is drawn for an image depends on `seed` and its row alone: every model is shown the same.

    Args:
        chances: of pixels (B, C, *S) in [0, 1], (B, K).

    Raises:
        Interrupted: a stop was asked for.
    """
    size = max(1, min(128, AT_ONCE // (store.store.channels * math.prod(base.shape))))
    found = []
    for index, view in plain_views(store, rows, base, size):
        check(stop)
        corrupted = degraded(view.pixels, view.valid, Key(seed, 0, index, 0))
        found.append(np.stack([chances(pixels) for pixels in corrupted]))
    return np.concatenate(found, axis=1)
