"""The precision of losses, whatever the networks run in, and what of a step may be remembered."""

from __future__ import annotations

import torch
from torch import Tensor


def full(values: Tensor) -> Tensor:
    """The values as float32, or as the float64 that they are. For losses, inside `torch.autocast(enabled=False)`."""
    return values if values.dtype == torch.float64 else values.float()


def sound(new: Tensor, old: Tensor) -> Tensor:
    """`new` if all of it is finite, else `old`: a step that is not moves no weight, and no average may keep it."""
    return torch.where(new.isfinite().all(), new, old)
