"""What a network does not get to see, in exact shares: blocks of the image, or channels of its embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medprior.errors import SettingsError
from medprior.views.draws import Key, uniform

EPSILON = 1e-6
"""0.29 * 100 is less than 29 to a computer."""


def mask_channels(tokens: Tensor, key: Key, ratio: float = 0.6, scope: Literal["sample", "batch"] = "sample") -> Tensor:
    """Embedded patches (B, C, *S) with `ratio` of their channels 0, rounded down: 28 of 48; gradients pass the others.

    The local masking of Disruptive Autoencoders (arXiv 2307.16896). Channels that are kept are not made greater.

    Args:
        scope: whether each sample loses channels of its own, or all samples and views of a step the same ones, as the
            authors' code does.

    Raises:
        SettingsError: the ratio is not from 0 to 1.
    """
    channels = tokens.shape[1]
    step = Key(key.seed, key.step, torch.zeros_like(key.rows[:1]), 0)
    drawn = uniform(key if scope == "sample" else step, "channels", (channels,))
    hidden = lowest(drawn, math.floor(_part(ratio, channels) + EPSILON))
    return tokens.masked_fill(hidden.view(*hidden.shape, *[1] * (tokens.dim() - 2)), 0.0)


def mask_blocks(key: Key, size: Sequence[int], block: int | Sequence[int] = 16, ratio: float = 0.75) -> Tensor:
    """(B, 1, *S) bool, true on `ratio` of the blocks of an image, rounded up; the last along an axis may be cut.

    Args:
        size: S.
        block: pixels of a block along every axis, or along each; blocks of 1 make a mask of patches.

    Raises:
        SettingsError: the ratio is not from 0 to 1, or a block is empty or not one per axis.
    """
    blocks = [block] * len(size) if isinstance(block, int) else list(block)
    if len(blocks) != len(size) or min(blocks) < 1:
        raise SettingsError(
            f"blocks of {block} do not fit views with {len(size)} axes",
            where="block",
            do="Give one side for each axis.",
        )
    grid = [math.ceil(side / each) for side, each in zip(size, blocks, strict=True)]
    cells = math.prod(grid)
    mask = lowest(uniform(key, "blocks", (cells,)), math.ceil(_part(ratio, cells) - EPSILON)).view(-1, 1, *grid)
    for axis, (side, each) in enumerate(zip(size, blocks, strict=True)):
        mask = mask.unsqueeze(axis + 3).expand(*[-1] * (axis + 3), each, *[-1] * (len(grid) - axis - 1))
        mask = mask.flatten(axis + 2, axis + 3).narrow(axis + 2, 0, side)
    return mask


def lowest(drawn: Tensor, count: int) -> Tensor:
    """(B, n) bool, true on just `count` of each row: the lowest."""
    return drawn.argsort(dim=1, stable=True).argsort(dim=1) < count


def _part(ratio: float, count: int) -> float:
    if not 0 <= ratio <= 1:
        raise SettingsError(f"{ratio} of {count} cannot be hidden", where="ratio", do="Give a share from 0 to 1.")
    return ratio * count
