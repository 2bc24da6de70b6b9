"""What a view shows of a label map: of every pixel of the view the class of the stored pixel that it lies on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medprior.objectives.segmentation import IGNORED
from medprior.views.resample import centres_of, inside, lay
from medprior.views.window import Place


def see_labels(labels: Tensor, place: Place, affine: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, *S) int64 classes under the centres of the pixels of a view, nearest neighbour; `IGNORED` outside the scan.

    Classes are never mixed, so a view that is coarser than what is stored may lose what is thin.

    Args:
        labels: (B, *W) whole numbers.
        place: where they lie in their scans; they hold all that the views see.
        affine: (B, d, d+1) from view to scan, normalised.
        shape: S, pixels of the view along each axis.
    """
    d = len(shape)
    laid = lay(affine, centres_of(shape, affine.device))
    flat = torch.zeros((), dtype=torch.int64, device=affine.device)
    for axis, (normalised, given) in enumerate(zip(laid, labels.shape[1:], strict=True)):
        length, corner = (each[:, axis].view(-1, *[1] * d) for each in (place.lengths, place.corner))
        stored = ((normalised + 1) * length / 2 - corner).floor().long().clamp(0, given - 1)
        flat = flat * given + stored
    found = labels.flatten(1).gather(1, flat.flatten(1)).view(flat.shape).long()
    edges = torch.tensor([-1.0, 1.0], device=affine.device).expand(len(affine), d, 2)
    return torch.where(inside(laid, edges).squeeze(1), found, IGNORED)
