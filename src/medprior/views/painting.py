"""Painting: noise inside of a few boxes, or everywhere but there.

Zhou et al., MICCAI 2019, arXiv 1908.06912. In-painting fills up to five boxes with noise, so that what was there must
be told from its surroundings; out-painting leaves nothing but up to five large boxes. No sample is painted both ways.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medprior.errors import SettingsError
from medprior.views.acquisition import broad
from medprior.views.boxes import covered
from medprior.views.choices import below, filled
from medprior.views.draws import Key, happens, uniform

BOXES = 5
ONWARD = 0.95
"""Odds that another box follows."""
MARGIN = 3
"""Pixels between a box and each face, at least; fewer along sides below 14, as those of slabs, where no more fit."""
SHORTEST = 4
"""The shortest side in which there is anything to paint between others."""


@dataclass(frozen=True)
class Boxes:
    """n boxes of each of B samples: start and edge (B, n, d) int32, used (B, n) bool."""

    start: Tensor
    edge: Tensor
    used: Tensor

    def where(self, chosen: Tensor, other: Boxes) -> Boxes:
        """These boxes where chosen (B,), else the others."""
        wide = chosen.view(-1, 1, 1)
        start, edge = torch.where(wide, self.start, other.start), torch.where(wide, self.edge, other.edge)
        return Boxes(start, edge, torch.where(chosen.unsqueeze(1), self.used, other.used))

    def only(self, happened: Tensor) -> Boxes:
        """These boxes in samples where it has happened (B,), none in the others."""
        return Boxes(self.start, self.edge, self.used & happened.unsqueeze(1))

    def covered(self, size: tuple[int, ...]) -> Tensor:
        """(B, 1, *S) bool."""
        return covered(self.start, self.edge, self.used, size)


def paint(pixels: Tensor, key: Key, probability: float = 0.9, inner: float = 0.2) -> Tensor:
    """Pixels (B, C, *S) with uniform noise in a few boxes, or around them, or as they are.

    Args:
        probability: of a sample to be painted.
        inner: of a painted sample to be painted inside of boxes, not around them.

    Raises:
        SettingsError: a side is shorter than `SHORTEST`.
    """
    size = _checked(pixels)
    # What is not painted is painted in no box at all.
    happened = happens(key, "paint", probability)
    within = happens(key, "paint inner", inner) | ~happened
    boxes = inner_boxes(key, size).where(within, outer_boxes(key, size)).only(happened)
    return _fill(pixels, boxes.covered(size) == broad(within, pixels), key)


def paint_in(pixels: Tensor, key: Key) -> Tensor:
    """Pixels (B, C, *S) with uniform noise in up to five boxes of every sample; see `paint`."""
    size = _checked(pixels)
    return _fill(pixels, inner_boxes(key, size).covered(size), key)


def paint_out(pixels: Tensor, key: Key) -> Tensor:
    """Pixels (B, C, *S) of every sample with uniform noise but for one to five boxes; see `paint`."""
    size = _checked(pixels)
    return _fill(pixels, ~outer_boxes(key, size).covered(size), key)


def inner_boxes(key: Key, size: tuple[int, ...]) -> Boxes:
    """Edges from a sixth to a third of the side; the first box, too, comes with odds of `ONWARD`."""
    shortest, longest = [max(1, side // 6) for side in size], [side // 3 for side in size]
    follows = uniform(key, "paint inner count", (BOXES,)) < ONWARD
    return _draw(key, "paint inner", size, (shortest, longest), follows)


def outer_boxes(key: Key, size: tuple[int, ...]) -> Boxes:
    """Edges of about four sevenths to three sevenths of the side; there is always one box."""
    shortest, longest = [side - 4 * side // 7 for side in size], [side - 3 * side // 7 for side in size]
    follows = uniform(key, "paint outer count", (BOXES,)) < ONWARD
    first = torch.arange(BOXES, device=follows.device) == 0
    return _draw(key, "paint outer", size, (shortest, longest), follows | first)


def _draw(key: Key, name: str, size: tuple[int, ...], edges: tuple[list[int], list[int]], follows: Tensor) -> Boxes:
    """Boxes evenly between the margins, up to the first that does not follow."""
    sides, shortest, longest = (filled(values, follows.device) for values in (size, *edges))
    share_edge, share_start = uniform(key, f"{name} boxes", (2, BOXES, len(size))).unbind(1)
    edge = shortest + below(share_edge, longest - shortest + 1)
    margin = filled([min(MARGIN, 3 * side // 7 // 2) for side in size], follows.device)
    start = margin + below(share_start, sides - edge - 2 * margin + 1)
    return Boxes(start, edge, follows.cumprod(dim=1).bool())


def _fill(pixels: Tensor, noisy: Tensor, key: Key) -> Tensor:
    return torch.where(noisy, noise(key, tuple(pixels.shape[1:])), pixels)


def noise(key: Key, shape: tuple[int, ...]) -> Tensor:
    """(B, *shape) float32, uniform in [0, 1), each number in two with 12 bits and the others with 24."""
    count = math.prod(shape)
    # A number times 4096 leaves its last 12 bits behind the point: two for the price of one.
    drawn = uniform(key, "paint noise", ((count + 1) // 2,))
    return torch.cat([drawn, (drawn * 4096).frac()], dim=1)[:, :count].reshape(-1, *shape)


def _checked(pixels: Tensor) -> tuple[int, ...]:
    """The spatial size, which no box may overrun."""
    size = tuple(pixels.shape[2:])
    if min(size) < SHORTEST:
        raise SettingsError(
            f"views of {' x '.join(map(str, size))} are too small to be painted",
            where="size",
            do=f"Every side needs {SHORTEST} pixels",
        )
    return size
