"""The precision of losses, whatever the networks run in."""

from __future__ import annotations

import torch
from torch import Tensor


def full(values: Tensor) -> Tensor:
    """The values as float32, or as the float64 that they are. For losses, inside `torch.autocast(enabled=False)`."""
    return values if values.dtype == torch.float64 else values.float()
