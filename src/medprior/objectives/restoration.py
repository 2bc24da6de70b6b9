"""How far restored images are from the true ones, over every pixel that is no padding."""

from __future__ import annotations

import torch
from torch import Tensor

from medprior.objectives.gather import average
from medprior.objectives.precision import full


def squared_error(restored: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean of (restored - target)² over the valid pixels of all scans and processes; 0 when there is none.

    Args:
        restored, target: (B, C, *S).
        valid: (B, 1, *S) bool, false on padding.
    """
    with torch.autocast(restored.device.type, enabled=False):
        return _mean((full(restored) - full(target)).square(), valid)


def absolute_error(restored: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean of |restored - target| over the valid pixels, as in `squared_error`."""
    with torch.autocast(restored.device.type, enabled=False):
        return _mean((full(restored) - full(target)).abs(), valid)


def _mean(error: Tensor, valid: Tensor) -> Tensor:
    # Processes average their gradients, so each divides by the mean of their counts, not by its own.
    count = average(valid.sum().to(error.dtype)) * error.shape[1]
    return (error * valid).sum() / count.clamp(min=1 / valid.numel())
