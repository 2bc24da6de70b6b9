"""Images as patches, in any number of dimensions, and the loss of restoring the hidden ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from medprior.objectives.gather import average


def patchify(images: Tensor, patch: int | Sequence[int]) -> Tensor:
    """Cut (B, C, *S) into (B, L, Π sides * C): patches in raster order, channels running fastest inside each.

    Args:
        patch: the side of a patch in pixels, or one for each axis.
    """
    batch, channels, *extents = images.shape
    dims = len(extents)
    sides = _sides(patch, dims)
    halves = [length for extent, side in zip(extents, sides, strict=True) for length in (extent // side, side)]
    cut = images.reshape(batch, channels, *halves)
    cells, inside = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return cut.permute(0, *cells, *inside, 1).reshape(batch, -1, math.prod(sides) * channels)


def unpatchify(patches: Tensor, patch: int | Sequence[int], grid: Sequence[int]) -> Tensor:
    """Undo `patchify`: (B, L, Π sides * C) on a grid of L = Π grid cells to (B, C, *S), S = sides * grid."""
    batch, dims = len(patches), len(grid)
    sides = _sides(patch, dims)
    cut = patches.reshape(batch, *grid, *sides, -1)
    halves = [axis for d in range(dims) for axis in (1 + d, 1 + dims + d)]
    extents = [cells * side for cells, side in zip(grid, sides, strict=True)]
    return cut.permute(0, 1 + 2 * dims, *halves).reshape(batch, -1, *extents)


def _sides(patch: int | Sequence[int], dims: int) -> Sequence[int]:
    return [patch] * dims if isinstance(patch, int) else patch


class Standardised(NamedTuple):
    """Patches of mean 0 and deviation 1, and what restores them: values * deviation + mean."""

    values: Tensor
    mean: Tensor
    deviation: Tensor


def standardise_patches(patches: Tensor, valid: Tensor, floor: float) -> Standardised:
    """Scale every patch by the mean and deviation of its own valid pixels, so that texture counts and not brightness.

    He et al., CVPR 2022, arXiv 2111.06377 (unbiased variance + 1e-6, which is a `floor` of 1e-3). Air and other flat
    regions hold nothing but noise: deviations much below `floor` are not blown up to 1.

    Args:
        patches: (B, L, P).
        valid: (B, L, P) bool, false on padding; a patch without a valid pixel comes back as it is.
        floor: in units of intensity.
    """
    count = valid.sum(-1, keepdim=True)
    mean = (patches * valid).sum(-1, keepdim=True) / count.clamp(min=1)
    squares = ((patches - mean) * valid).square().sum(-1, keepdim=True)
    deviation = (squares / (count - 1).clamp(min=1) + floor**2).sqrt()
    return Standardised((patches - mean) / deviation, mean, deviation)


def patch_loss(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error over the valid pixels of all patches and all processes; 0 when there is none.

    Args:
        prediction, target, valid: (B, M, P), the M hidden patches of each scan.
    """
    error = ((prediction - target) * valid).square().sum()
    return error / average(valid.sum().to(error.dtype)).clamp(min=1 / math.prod(valid.shape))


def masked_patch_loss(prediction: Tensor, target: Tensor, masked: Tensor, valid: Tensor) -> Tensor:
    """`patch_loss` over the patches where `masked` (B, L) is true; prediction, target and valid are (B, L, P)."""
    return patch_loss(prediction, target, valid & masked.unsqueeze(-1))
