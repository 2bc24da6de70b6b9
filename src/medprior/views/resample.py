"""The resample of rotated views: a few linear taps in the half-size levels of a stored image, without aliasing.

A view pixel covers some number of stored pixels along each of its axes, its footprint. It is read from the level in
which its longest footprint is 1.5 to 3 pixels (or from level 0), by two linear taps along each axis. The taps
stand apart so that their joint weights have the variance of the exact area average, (f^2 + 1) / 12 for a footprint
f: at f <= 1 they meet, which is linear interpolation; at f = 2 on pixel borders they are the area average itself.
Levels are Williams' pyramid (SIGGRAPH 1983).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from medprior.views.choices import filled
from medprior.views.window import Place

COARSEST = 1.5  # pixels of its level that the longest footprint has at least, above level 0


@dataclass(frozen=True)
class Levels:
    """Stored pixels and their reductions.

    Attributes:
        atlas: (B, C, *A) float: level 0 at the origin, the others beside it; or level 0 alone, or a window of it.
        count: number of levels in the atlas.
        place: where in their scans the pixels of level 0 lie.
    """

    atlas: Tensor
    count: int
    place: Place


def resample(
    levels: Levels, content: Tensor, affine: Tensor, shape: Sequence[int], *, reduced: bool
) -> tuple[Tensor, Tensor]:
    """Each view pixel read at its place in the level of its scale.

    Args:
        levels: the stored pixels; they hold all that the views see of the content.
        content: (B, d, 2) edges of the content box, normalised to the scan.
        affine: (B, d, d+1) from view to scan, normalised.
        shape: S, pixels of the view along each axis.
        reduced: whether any footprint may exceed one pixel; if not, one tap is enough.

    Returns:
        Pixels (B, C, *S) in the units of the atlas, 0 where not valid; valid (B, 1, *S) bool: the centre of the view
        pixel lies in the content.
    """
    d, sides, centres = len(shape), filled(shape, affine.device), centres_of(shape, affine.device)
    valid = inside(lay(affine, centres), content)
    footprint = (affine[..., :-1] * levels.place.lengths.unsqueeze(-1)).norm(dim=1) / sides
    level = (footprint.amax(dim=1) / COARSEST).log2().floor().clamp(0, levels.count - 1)
    matrix, bounds = _to_atlas(levels, level, affine, content)
    spread = _spread(footprint, level) * (2 / sides)
    taps = list(product((-1, 1), repeat=d)) if reduced else [(0,) * d]
    pixels = torch.zeros((), device=affine.device)
    for signs in taps:
        points = [centres[axis] + sign * spread[:, axis, None] for axis, sign in enumerate(signs)]
        pixels = pixels + _sample(levels.atlas, lay(matrix, points), bounds)
    return pixels / len(taps) * valid, valid


def centres_of(shape: Sequence[int], device: torch.device) -> list[Tensor]:
    """(1, n) normalised places of the centres of a view's pixels, along each of its axes."""
    return [((2 * torch.arange(side, device=device) + 1) / side - 1).unsqueeze(0) for side in shape]


def level_origin(level: Tensor, stored: int | Tensor, d: int) -> Tensor:
    """(B, d) pixel at which a level (B,) of the atlas begins: level 0 at 0, the others beside it, below each other."""
    down = (stored - 2 * stored * torch.exp2(-level)).clamp(min=0)
    across = (level > 0).to(level) * stored
    return torch.stack([down, *[torch.zeros_like(down)] * (d - 2), across], dim=1)


def _spread(footprint: Tensor, level: Tensor) -> Tensor:
    """(B, d) distance of the taps from the centre of the view pixel, as a share of it."""
    in_level = footprint * torch.exp2(-level).unsqueeze(1)
    return ((1 - in_level**-2).clamp(min=0) / 12).sqrt()


def _to_atlas(levels: Levels, level: Tensor, affine: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
    """The map (B, d, d+1) from view to normalised atlas, and bounds (B, d, 2) there.

    The bounds are the outermost pixel centres wholly in the content: beyond them the border pixel is repeated, so
    that neither padding nor the next level is mixed in.
    """
    lengths = levels.place.lengths
    # Only level 0 is ever cut, so that its corner is that of the atlas.
    origin = level_origin(level, lengths[:, 0], affine.shape[1]) - levels.place.corner
    scale = torch.exp2(-level).unsqueeze(1) * lengths
    extent = torch.stack([torch.full((), float(n), device=affine.device) for n in levels.atlas.shape[2:]])
    edges = (content + 1) / 2 * scale.unsqueeze(-1)
    low, high = (edges[..., 0] - 1e-3).ceil() + 0.5, (edges[..., 1] + 1e-3).floor() - 0.5
    middle = edges.mean(dim=-1)
    bounds = torch.stack([torch.minimum(low, middle), torch.maximum(high, middle)], dim=-1)
    bounds = (bounds + origin.unsqueeze(-1)) * 2 / extent.unsqueeze(-1) - 1
    matrix = affine * (scale / extent).unsqueeze(-1)
    shift = (origin * 2 + scale) / extent - 1
    return torch.cat([matrix[..., :-1], (matrix[..., -1] + shift).unsqueeze(-1)], dim=-1), bounds


def lay(matrix: Tensor, points: Sequence[Tensor]) -> list[Tensor]:
    """Where the product of `points` (B or 1, n), one per view axis, falls along each stored axis: (B, *S) each."""
    d = len(points)
    laid = [p.view(p.shape[0], *[-1 if axis == i else 1 for i in range(d)]) for axis, p in enumerate(points)]
    entry = matrix.view(*matrix.shape, *[1] * d)
    return [sum((entry[:, a, j] * laid[j] for j in range(d)), start=entry[:, a, d]) for a in range(d)]


def inside(places: Sequence[Tensor], content: Tensor) -> Tensor:
    """(B, 1, *S) bool: inside the box along every axis."""
    edges = content.view(*content.shape, *[1] * len(places))
    inside = [(place > edges[:, a, 0]) & (place < edges[:, a, 1]) for a, place in enumerate(places)]
    return reduce(torch.logical_and, inside).unsqueeze(1)


def _sample(atlas: Tensor, places: Sequence[Tensor], bounds: Tensor) -> Tensor:
    """(B, C, *S) linear interpolation at `places`, one tensor per stored axis."""
    edges = bounds.view(*bounds.shape, *[1] * len(places))
    kept = [torch.clamp(place, edges[:, a, 0], edges[:, a, 1]) for a, place in enumerate(places)]
    grid = torch.stack(kept[::-1], dim=-1)  # the sampler wants the last axis first
    return F.grid_sample(atlas, grid, mode="bilinear", padding_mode="border", align_corners=False)
