"""What lowers the quality of a finished image, at three severities: whether a model that has never seen it still holds.

The idea, the choice of corruptions and the mean over severities are those of Hendrycks & Dietterich, "Benchmarking
neural network robustness to common corruptions and perturbations" (ICLR 2019, arXiv 1903.12261); the severities lie
within theirs, and are given as shares of the side of a view so that they mean the same at any size, in 2D and 3D. See
docs/robustness.md.

Corruptions act on what an encoder is given, pixels (B, C, *S) in [0, 1], for a whole batch on its device (JPEG on the
host). What is drawn for a scan is a hash of the key, so that every model is shown the same corrupted scans, and all
severities of one scan have the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from medprior.views.draws import Key, normal
from medprior.views.intensity import blurred, over_seen, rescaled
from medprior.views.jpeg import compressed

Levelled = Callable[[float], Tensor]
"""Pixels (B, C, *S) under a corruption, by its level."""


@dataclass(frozen=True)
class Degradation:
    """One way to lose quality.

    Attributes:
        levels: what it is done with, by severity from 1.
        begin: from pixels (B, C, *S), seen (B, 1, *S) as numbers and a key to what a level makes of them: what all
            levels share is done once.
    """

    name: str
    levels: tuple[float, float, float]
    begin: Callable[[Tensor, Tensor, Key], Levelled]


def _noise(pixels: Tensor, seen: Tensor, key: Key) -> Levelled:
    """Normal noise; a level is its deviation as a share of the range from black to white."""
    field = normal(key, "noise", tuple(pixels.shape[1:]))
    return lambda deviation: torch.add(pixels, field, alpha=deviation)


def _blur(pixels: Tensor, seen: Tensor, key: Key) -> Levelled:
    """A Gaussian; a level is its standard deviation as a share of the longest side."""

    def wide(share: float) -> Tensor:
        width = share * max(pixels.shape[2:])
        return blurred(pixels, seen, pixels.new_full((len(pixels),), width), width)

    return wide


def _contrast(pixels: Tensor, seen: Tensor, key: Key) -> Levelled:
    """A level is the share that is left of every pixel's distance to the mean of its scan."""
    ones = pixels.new_ones(len(pixels))
    return lambda share: rescaled(pixels, seen, ones, share * ones)


def _resolution(pixels: Tensor, seen: Tensor, key: Key) -> Levelled:
    """Pixels a level times as wide along every axis, averaged, and interpolated as coarse scans are when read."""
    size = list(pixels.shape[2:])
    smoothly = {2: "bilinear", 3: "trilinear"}[len(size)]

    def coarse(factor: float) -> Tensor:
        fewer = [max(1, round(side / factor)) for side in size]
        return over_seen(
            lambda both: interpolate(interpolate(both, fewer, mode="area"), size, mode=smoothly), pixels, seen
        )

    return coarse


def _jpeg(pixels: Tensor, seen: Tensor, key: Key) -> Levelled:
    """A level is the quality."""
    return lambda quality: compressed(pixels, round(quality))


DEGRADATIONS = (
    Degradation("noise", (0.04, 0.08, 0.16), _noise),
    Degradation("blur", (0.0075, 0.015, 0.03), _blur),
    Degradation("contrast", (0.75, 0.5, 0.25), _contrast),
    Degradation("resolution", (2, 3, 4), _resolution),
    Degradation("jpeg", (50, 25, 10), _jpeg),
)
SUITE = tuple((each.name, severity) for each in DEGRADATIONS for severity in range(1, len(each.levels) + 1))
"""Every corruption by name and severity, in the order in which `degraded` makes them."""


def degraded(pixels: Tensor, valid: Tensor, key: Key) -> Iterator[Tensor]:
    """Pixels (B, C, *S) under every corruption of `SUITE`; what is given stays as it is.

    Args:
        pixels: in [0, 1], 0 where not valid.
        valid: (B, 1, *S) bool; what is not stays black, and lends nothing to its neighbours.
        key: of their draws.
    """
    seen = valid.to(pixels.dtype)
    for each in DEGRADATIONS:
        levelled = each.begin(pixels, seen, key)
        for level in each.levels:
            yield levelled(level).clamp(0, 1) * seen
