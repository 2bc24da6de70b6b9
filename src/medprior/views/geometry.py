"""Where a view lies in its scan: random crops, flips and rotations as affine maps, per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from medprior.views.choices import filled
from medprior.views.draws import Key, between, uniform
from medprior.views.recipe import ViewRecipe


def draw_affine(recipe: ViewRecipe, content: Tensor, lengths: Tensor, key: Key) -> Tensor:
    """(B, d, d+1) float32 maps from view to scan, in normalised coordinates.

    Args:
        content: (B, d, 2) edges of the content box in the scan, normalised.
        lengths: (B or 1, d) stored pixels of the scan along each axis.
    """
    if recipe.pitch is None:
        half, centre = _by_share(recipe, content, key)
        linear = torch.diag_embed(half * _signs(recipe, key))
        if recipe.rotation:
            linear = _rotation(recipe, key) @ linear
        return torch.cat([linear, centre.unsqueeze(-1)], dim=-1)
    half, centre = _by_pitch(recipe, content, lengths, key)
    linear = torch.diag_embed(half * _signs(recipe, key))
    if recipe.rotation:
        # In stored pixels, where a turn is one: the axes of a scan differ in length.
        linear = _rotation(recipe, key) @ linear
    stored = torch.cat([linear, (centre - lengths / 2).unsqueeze(-1)], dim=-1)
    return stored * 2 / lengths.unsqueeze(-1)


def lies_on_pixels(recipe: ViewRecipe) -> bool:
    """Whether every pixel of a view is a stored pixel, or none."""
    return recipe.pitch == (1.0, 1.0) and recipe.aspect == (1.0, 1.0) and not recipe.rotation


def extent(recipe: ViewRecipe, stored: int) -> tuple[float, ...]:
    """The most stored pixels that a view covers along each of its axes.

    Args:
        stored: pixels of the scan along each axis; without meaning where the recipe has a pitch.
    """
    low, high = recipe.aspect
    d = recipe.spatial_dims
    stretch = max(high, 1 / low) ** ((2 * d - 3) / d)
    if recipe.pitch is not None:
        return tuple(float(side * recipe.pitch[1] * stretch) for side in recipe.shape)
    return (min(1.0, float(stretch * recipe.scale[1] ** (1 / d))) * stored,) * d


def widest(geometry: ViewRecipe, shape: Sequence[int], stored: int) -> float:
    """The most stored pixels that a pixel of a view of this shape covers along an axis; `stored` as in `extent`."""
    return max(covered / side for covered, side in zip(extent(geometry, stored), shape, strict=True))


def reach(recipe: ViewRecipe, stored: int = 0) -> tuple[int, ...]:
    """Pixels of a window, along each axis of the scan, that holds whatever a view may read; `stored` as in `extent`."""
    covered = extent(recipe, stored)
    if lies_on_pixels(recipe):
        return tuple(round(side) for side in covered)
    sine = math.sin(math.radians(min(recipe.rotation, 90.0)))
    # What a turn may lend an axis of the others, at most, its own share taken as 1.
    lent = sine if recipe.spatial_dims == 2 else sine + sine**2
    # No box is longer than its diagonal.
    turned = [min(side + lent * (sum(covered) - side), math.hypot(*covered)) for side in covered]
    # Half a pixel on each side to interpolate, and one since the window begins on a whole pixel.
    return tuple(math.ceil(side - 1e-6) + 2 for side in turned)


def corner_of(affine: Tensor, lengths: Tensor, window: Sequence[int]) -> Tensor:
    """(B, d) float32 whole pixels at which the window of `reach` around a view begins; it may lie outside."""
    return ((affine[..., -1] + 1) * lengths / 2 - filled(window, affine.device) / 2).round()


def frame_of(content: Tensor) -> Tensor:
    """(B, d, 2) edges of the smallest square or cube around the content, moved to lie inside the stored image."""
    low, high = content.unbind(-1)
    half = ((high - low) / 2).amax(dim=1, keepdim=True)
    centre = torch.minimum(torch.maximum((low + high) / 2, half - 1), 1 - half)
    return torch.stack([centre - half, centre + half], dim=-1)


def _by_share(recipe: ViewRecipe, content: Tensor, key: Key) -> tuple[Tensor, Tensor]:
    """(B, d) half sides and centres, normalised: a share of content or frame, somewhere in it.

    As torchvision's random resized crop, without its rejection loop: a side too long is cut to the box.
    """
    low, high = (frame_of(content) if recipe.within == "frame" else content).unbind(-1)
    most = (high - low) / 2
    share = between(key, "scale", *recipe.scale).unsqueeze(1)
    even = (share.log() + most.log().sum(dim=1, keepdim=True)) / recipe.spatial_dims
    half = torch.minimum((even + _stretch(recipe, key)).exp().expand_as(most), most)
    return half, (low + high) / 2 + _shift(recipe, key) * (most - half)


def _by_pitch(recipe: ViewRecipe, content: Tensor, lengths: Tensor, key: Key) -> tuple[Tensor, Tensor]:
    """(B, d) half sides and centres in stored pixels: anywhere in the content, centred where that is shorter."""
    assert recipe.pitch is not None
    low, high = ((content + 1) / 2 * lengths.unsqueeze(-1)).unbind(-1)
    finest, coarsest = (math.log(value) for value in recipe.pitch)
    pitch = between(key, "pitch", finest, coarsest).unsqueeze(1)
    side = filled(recipe.shape, low.device) * (pitch + _stretch(recipe, key)).exp().expand_as(low)
    shift = _shift(recipe, key)
    if not lies_on_pixels(recipe):
        return side / 2, (low + high) / 2 + shift * ((high - low - side) / 2).clamp(min=0)
    free = (high - low).round() - side
    steps = torch.where(free > 0, torch.minimum(((shift + 1) / 2 * (free + 1)).floor(), free), (free / 2).floor())
    return side / 2, low.round() + steps + side / 2


def _stretch(recipe: ViewRecipe, key: Key) -> Tensor:
    """(B, d) or () logarithms of what the aspect makes of each side."""
    if recipe.aspect == (1.0, 1.0):
        return torch.zeros((), device=key.rows.device)
    low, high = (math.log(value) for value in recipe.aspect)
    ratio = between(key, "aspect", low, high, (recipe.spatial_dims - 1,))
    stretch = torch.cat([torch.zeros_like(ratio[:, :1]), ratio], dim=1)
    return stretch - stretch.mean(dim=1, keepdim=True)


def _shift(recipe: ViewRecipe, key: Key) -> Tensor:
    """(B, d) in [-1, 1): where in the room that is left."""
    return between(key, "position", -1.0, 1.0, (recipe.spatial_dims,))


def _signs(recipe: ViewRecipe, key: Key) -> Tensor:
    """(B, d) or (d,): -1 along mirrored axes, else 1."""
    if not recipe.flips:
        return torch.ones(recipe.spatial_dims, device=key.rows.device)
    toss = uniform(key, "flip", (recipe.spatial_dims,)).unbind(1)
    odds = [0.5 if axis in recipe.flips else 0.0 for axis in range(recipe.spatial_dims)]
    return torch.stack([torch.where(t < odd, -1.0, 1.0) for t, odd in zip(toss, odds, strict=True)], dim=1)


def _rotation(recipe: ViewRecipe, key: Key) -> Tensor:
    """(B, d, d): one turn in each plane of two axes, in the order (0, 1), (0, 2), (1, 2)."""
    d = recipe.spatial_dims
    planes = list(combinations(range(d), 2))
    most = math.radians(recipe.rotation)
    angles = between(key, "rotation", -most, most, (len(planes),))
    matrix = torch.eye(d, device=angles.device).expand(len(angles), d, d)
    for plane, angle in zip(planes, angles.unbind(1), strict=True):
        matrix = matrix @ _turn(plane, angle, d)
    return matrix


def _turn(plane: tuple[int, int], angle: Tensor, d: int) -> Tensor:
    """(B, d, d) rotations that carry axis `plane[0]` towards axis `plane[1]`."""
    first, second = plane
    cosine, sine = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    entries = {(first, first): cosine, (second, second): cosine, (second, first): sine, (first, second): -sine}
    rows = [torch.stack([entries.get((i, j), one if i == j else zero) for j in range(d)], dim=-1) for i in range(d)]
    return torch.stack(rows, dim=-2)
