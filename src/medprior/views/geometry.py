"""Where a view lies in its scan: random crops, flips and rotations as affine maps, per sample."""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor

from medprior.views.draws import Key, between, uniform
from medprior.views.recipe import ViewRecipe


def draw_affine(recipe: ViewRecipe, content: Tensor, key: Key) -> Tensor:
    """(B, d, d+1) float32 maps from view to stored image, in normalised coordinates.

    Args:
        content: (B, d, 2) edges of the content box in the stored image.
    """
    low, high = (frame_of(content) if recipe.within == "frame" else content).unbind(-1)
    half = _crop_half(recipe, (high - low) / 2, key)
    slack = (high - low) / 2 - half
    shift = between(key, "position", -1.0, 1.0, (recipe.spatial_dims,))
    centre = (low + high) / 2 + shift * slack
    linear = torch.diag_embed(half * _signs(recipe, key))
    if recipe.rotation:
        linear = _rotation(recipe, key) @ linear
    return torch.cat([linear, centre.unsqueeze(-1)], dim=-1)


def frame_of(content: Tensor) -> Tensor:
    """(B, d, 2) edges of the smallest square or cube around the content, moved to lie inside the stored image."""
    low, high = content.unbind(-1)
    half = ((high - low) / 2).amax(dim=1, keepdim=True)
    centre = torch.minimum(torch.maximum((low + high) / 2, half - 1), 1 - half)
    return torch.stack([centre - half, centre + half], dim=-1)


def _crop_half(recipe: ViewRecipe, half: Tensor, key: Key) -> Tensor:
    """(B, d) half sides of a crop with the drawn share and aspect, no longer than the box it lies in.

    As torchvision's random resized crop, without its rejection loop: a side too long is cut to the box.
    """
    d = recipe.spatial_dims
    share = between(key, "scale", *recipe.scale).unsqueeze(1)
    side = (share.log() + half.log().sum(dim=1, keepdim=True)) / d
    if recipe.aspect != (1.0, 1.0):
        low, high = (math.log(value) for value in recipe.aspect)
        ratio = between(key, "aspect", low, high, (d - 1,))
        stretch = torch.cat([torch.zeros_like(share), ratio], dim=1)
        side = side + stretch - stretch.mean(dim=1, keepdim=True)
    return torch.minimum(side.exp().expand_as(half), half)


def _signs(recipe: ViewRecipe, key: Key) -> Tensor:
    """(B, d): -1 along mirrored axes, else 1."""
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
