"""What is done to an image so that a network learns to undo it: for whole batches, on their device, per sample.

Every corruption is a pure function: pixels (B, C, *S), 2D or 3D, and the key of their draws in, such pixels out. What
it is given stays as it is, so that the clean image can be the target. Nothing depends on the rest of the batch or waits
for the device, and all of it compiles into one graph. The larger ones have files of their own: `shuffling`, `bezier`,
`painting`, `cutting`, `masking`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medprior.errors import SettingsError
from medprior.views.bezier import bend_intensities
from medprior.views.choices import below, take_pixels
from medprior.views.draws import Key, normal, uniform
from medprior.views.painting import paint
from medprior.views.shuffling import shuffle_locally

FLIPS = 3
"""Flips that may follow each other."""


def deform(
    pixels: Tensor,
    key: Key,
    *,
    flipped: float = 0.4,
    shuffled: float = 0.5,
    bent: float = 0.9,
    painted: float = 0.9,
    inner: float = 0.2,
) -> tuple[Tensor, Tensor]:
    """What Models Genesis sees of each image, and what it is to restore: two tensors (B, C, *S) in [0, 1].

    Zhou et al., MICCAI 2019, arXiv 1908.06912: flip, shuffle pixels locally, bend intensities, paint, in this order.
    Only the flip is done to the target too. Here it is of spatial axes: the authors number axes with the channel, so
    that theirs never flips the last one. A probability of 0 leaves its corruption out.

    Args:
        pixels: (B, C, *S) in [0, 1].
        flipped: odds of each further flip, up to three, of an axis drawn evenly.
        shuffled: probability of `shuffle_locally`.
        bent: probability of `bend_intensities`.
        painted: probability of `paint`.
        inner: of a painted image to be painted inside of boxes, not around them.

    Raises:
        SettingsError: a side is too short to be painted, or so long that windows are too large to be shuffled.
    """
    target = flip_repeatedly(pixels, key, flipped) if flipped else pixels
    seen = shuffle_locally(target, key, shuffled) if shuffled else target
    seen = bend_intensities(seen, key, bent) if bent else seen
    return (paint(seen, key, painted, inner) if painted else seen), target


def flip_repeatedly(pixels: Tensor, key: Key, onward: float = 0.4) -> Tensor:
    """Pixels (B, C, *S) flipped along a random spatial axis as long as a coin of odds `onward` says so.

    At most `FLIPS` times. The axes may repeat, and two flips of one axis are none.
    """
    size = pixels.shape[2:]
    coin, share = uniform(key, "flips", (2, FLIPS)).unbind(1)
    goes = (coin < onward).cumprod(dim=1)
    axis = below(share, len(size))
    place = torch.arange(len(pixels), dtype=torch.int32, device=pixels.device).view(-1, *[1] * len(size))
    for each, side in enumerate(size):
        mirrored = ((axis == each) * goes).sum(dim=1, keepdim=True) % 2 == 1
        along = torch.arange(side, dtype=torch.int32, device=pixels.device)
        along = torch.where(mirrored, side - 1 - along, along)
        place = place * side + along.view(-1, *[side if each == other else 1 for other in range(len(size))])
    return take_pixels(pixels, place.flatten())


def add_noise(pixels: Tensor, key: Key, variance: float = 0.1) -> Tensor:
    """Pixels (B, C, *S) plus normal noise: the first disruption of Disruptive Autoencoders (arXiv 2307.16896).

    As there, what leaves [0, 1] is not cut off.
    """
    return pixels + normal(key, "noise", tuple(pixels.shape[1:])) * math.sqrt(variance)


def down_and_up(pixels: Tensor, factor: int = 4) -> Tensor:
    """Every `factor`th of the pixels (B, C, *S) along each axis, spread over those up to the next.

    Both ways to the nearest, as in Disruptive Autoencoders (arXiv 2307.16896).

    Raises:
        SettingsError: the factor does not divide a side.
    """
    if factor < 1 or any(side % factor for side in pixels.shape[2:]):
        size = " x ".join(map(str, pixels.shape[2:]))
        raise SettingsError(
            f"views of {size} cannot be reduced by {factor}", where="factor", do="Use a factor that divides every side."
        )
    for dim in range(2, pixels.dim()):
        kept = pixels.index_select(dim, torch.arange(0, pixels.shape[dim], factor, device=pixels.device))
        pixels = kept.repeat_interleave(factor, dim=dim)
    return pixels
