"""Learning a label map: soft Dice and cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medprior.objectives.gather import average, gather
from medprior.objectives.precision import full

IGNORED = -1
"""The target of a voxel that was not judged, or lies outside of the volume: it counts nowhere."""
SMOOTH = 1e-5


def dice_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss plus cross-entropy, each counted alike (Isensee et al., Nat Methods 2021; nnU-Net).

    The Dice of a class is taken over all judged voxels of the batch, and of all processes, together: a class that one
    small crop lacks is found in another. The background counts in the cross-entropy alone. A class that the whole batch
    lacks adds a constant. Computed in float32, or in float64 where the logits are; 0 where nothing was judged.

    Args:
        logits: (B, K, *S), one class of which, number 0, is the background.
        target: (B, *S) int64 classes; `IGNORED`, or anything below 0, was not judged.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits, judged = full(logits), target >= 0
        classes = target.clamp(min=0)
        each = F.cross_entropy(logits, classes, reduction="none") * judged
        count = average(judged.sum().to(each.dtype))
        dice = _dice(logits.softmax(1) * judged.unsqueeze(1), classes, judged)
        return each.sum() / count.clamp(min=1 / judged.numel()) + (1 - dice[1:]).mean() * (count > 0)


def supervised_at_every_scale(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """`dice_cross_entropy` of logits at several resolutions, each half the weight of the next finer; weights sum to 1.

    Lee et al., AISTATS 2015, with the weights of nnU-Net. The target takes the label at the centre of each voxel.

    Args:
        outputs: (B, K, *S_i) of the same classes, in any order.
        target: (B, *S), S the finest of the S_i.
    """
    finest_first = sorted(outputs, key=lambda logits: -logits[0, 0].numel())
    weights = [0.5**level for level in range(len(finest_first))]
    losses = [dice_cross_entropy(logits, _nearest(target, logits.shape[2:])) for logits in finest_first]
    return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum() / sum(weights)


def _dice(chances: Tensor, classes: Tensor, judged: Tensor) -> Tensor:
    """(K,) soft Dice of probabilities (B, K, *S), which are 0 where nothing was judged."""
    kinds = torch.arange(chances.shape[1], device=chances.device).view(1, -1, *[1] * (classes.dim() - 1))
    member = (classes.unsqueeze(1) == kinds) & judged.unsqueeze(1)
    voxels = [0, *range(2, chances.dim())]
    sums = torch.stack([(chances * member).sum(voxels), chances.sum(voxels), member.sum(voxels).to(chances.dtype)])
    shared, ours, theirs = gather(sums.unsqueeze(0)).sum(0)
    dice: Tensor = (2 * shared + SMOOTH) / (ours + theirs + SMOOTH)
    return dice


def _nearest(target: Tensor, shape: Sequence[int]) -> Tensor:
    if target.shape[1:] == torch.Size(shape):
        return target
    for axis, (before, after) in enumerate(zip(target.shape[1:], shape, strict=True), start=1):
        centres = ((torch.arange(after, device=target.device) + 0.5) * before / after).long()
        target = target.index_select(axis, centres)
    return target
