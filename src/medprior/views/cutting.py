"""Cut-out: small boxes of noise, or of another image, until a drawn share of the image is gone.

Tang et al., CVPR 2022, arXiv 2111.14791 (the pretext of Swin UNETR).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medprior.views.acquisition import broad
from medprior.views.boxes import covered
from medprior.views.choices import below, filled
from medprior.views.draws import Key, between, normal, uniform

EDGES = (0.05, 0.25)
"""Shortest and longest edge of a box, as shares of the side."""
ENOUGH = 2.0
"""Boxes that are drawn for each that the greatest share takes on average."""


def cut_out(pixels: Tensor, key: Key, most: float = 0.3, other: Tensor | None = None) -> Tensor:
    """Pixels (B, C, *S) with boxes filled until their volumes add up to a share drawn evenly from 0 to `most`.

    Boxes begin anywhere and are cut at the far faces; what two of them share counts twice. The authors stretch the
    normal noise of each box to [0, 1]; here that of the whole image is, so that small boxes hold no extremes of
    their own.

    Args:
        most: the greatest share of the image.
        other: (B, C, *S) what fills the boxes, for instance other images; noise if not given. Its boxes are not those
            of the noise, so that one may follow the other.
    """
    name = "cut" if other is None else "replace"
    start, edge = _boxes(key, name, tuple(pixels.shape[2:]), most)
    volume = edge.prod(dim=2)
    wanted = between(key, f"{name} share", 0.0, most) * math.prod(pixels.shape[2:])
    used = volume.cumsum(dim=1) - volume < wanted.unsqueeze(1)
    gone = covered(start, edge, used, pixels.shape[2:])
    return torch.where(gone, _noise(pixels, key) if other is None else other, pixels)


def _boxes(key: Key, name: str, size: tuple[int, ...], most: float) -> tuple[Tensor, Tensor]:
    """Starts and edges (B, n, d) int32 of more boxes than the share takes."""
    short, long = ([max(1, int(side * share)) for side in size] for share in EDGES)
    kept = [_mean_edge(*edges) for edges in zip(size, short, long, strict=True)]
    count = math.ceil(ENOUGH * most * math.prod(size) / math.prod(kept)) + 8
    sides, shortest, longest = (filled(values, key.rows.device) for values in (size, short, long))
    share_edge, share_start = uniform(key, f"{name} boxes", (2, count, len(size))).unbind(1)
    start = below(share_start, sides - shortest + 1)
    edge = shortest + below(share_edge, longest - shortest + 1)
    return start, torch.minimum(edge, sides - start)


def _mean_edge(side: int, short: int, long: int) -> float:
    """What is left of a box along one axis, on average."""
    starts = side - short + 1
    left = [min(edge, side - start) for edge in range(short, long + 1) for start in range(starts)]
    return sum(left) / len(left)


def _noise(pixels: Tensor, key: Key) -> Tensor:
    """(B, C, *S) normal, stretched so that each sample's least is 0 and its greatest 1."""
    noise = normal(key, "cut noise", tuple(pixels.shape[1:]))
    least, greatest = noise.flatten(1).aminmax(dim=1)
    return (noise - broad(least, pixels)) / broad(greatest - least, pixels)
