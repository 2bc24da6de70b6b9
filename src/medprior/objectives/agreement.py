"""How far a prediction is from what it should agree with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medprior.objectives.precision import full


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Minus the cosine between each prediction and its target: -1 where they point the same way, 1 where opposite.

    Chen and He, CVPR 2021, arXiv 2011.10566, equation 1. BYOL's squared distance of vectors scaled to unit length is
    2 + 2 * this (Grill et al., NeurIPS 2020, arXiv 2006.07733, equation 2). Gradient runs to both: who wants none in
    the target hands in a target without.

    Args:
        prediction, target: (B, D), of any length; a vector of length 0 counts as at right angles.

    Returns:
        The mean over this process's B pairs.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        return -F.cosine_similarity(full(prediction), full(target), dim=1).mean()
