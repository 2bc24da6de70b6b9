"""Intensities bent along a random Bezier curve, rising or falling, of each sample its own.

Zhou et al., MICCAI 2019, arXiv 1908.06912. The curve runs from (0, 0) to (1, 1) with two control points anywhere in the
unit square, so that it rises along both axes and stays inside of the square: a change of display that keeps the order
of all greys, or turns it round. The authors sample 100,000 points of the curve and interpolate each pixel between
those; here the curve is solved at `KNOTS` even intensities, and pixels are interpolated between these.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medprior.views.acquisition import broad
from medprior.views.draws import Key, happens, uniform

KNOTS = 2048
"""Stretches between intensities for which the curve is solved: about 1 HU each, where 2000 are shown."""
HALVINGS = 10


def bend_intensities(pixels: Tensor, key: Key, probability: float = 0.9, inverted: float = 0.5) -> Tensor:
    """Pixels (B, C, *S) in [0, 1] through a curve of each sample's own, or as they are where it does not happen.

    Args:
        probability: of a sample to be bent.
        inverted: of a curve to fall from 1 to 0, not to rise.
    """
    heights = torch.where(happens(key, "bend", probability).unsqueeze(1), curves(key, inverted), _knots(pixels.device))
    rise = torch.diff(heights, dim=1, append=heights[:, -1:])
    row = torch.arange(len(pixels), dtype=torch.int32, device=pixels.device) * (KNOTS + 1)
    # The straight line from 0 to 1 gives back each pixel to the last bit: steps and their number are powers of two.
    scaled = pixels * KNOTS
    left = scaled.int().clamp_(0, KNOTS - 1)
    share = scaled.sub_(left).flatten()
    place = left.add_(broad(row, pixels)).flatten()
    bent = torch.addcmul(heights.flatten().index_select(0, place), share, rise.flatten().index_select(0, place))
    return bent.view(pixels.shape).clamp_(0, 1)


def curves(key: Key, inverted: float) -> Tensor:
    """(B, KNOTS + 1) float32: the height of each sample's curve at even intensities from 0 to 1, never turning back."""
    across, up = uniform(key, "bend points", (2, 2)).unsqueeze(-1).unbind(1)
    time = _solve(across, _knots(across.device))
    falls = happens(key, "bend inverted", inverted).unsqueeze(1)
    # Of a curve that rises at all times, rounding is all that could turn back.
    height = _bezier(up, torch.where(falls, 1 - time, time))
    return torch.where(falls, height.cummin(dim=1).values, height.cummax(dim=1).values).clamp(0, 1)


def _solve(points: Tensor, values: Tensor) -> Tensor:
    """(B, n) the time at which each curve (B, 2, 1) comes to each value: halved, then along the chord."""
    time = torch.zeros(len(points), len(values), device=values.device)
    for halving in range(1, HALVINGS + 1):
        later = time + 0.5**halving
        time = torch.where(_bezier(points, later) <= values, later, time)
    before, after = _bezier(points, time), _bezier(points, time + 0.5**HALVINGS)
    share = ((values - before) / (after - before).clamp(min=1e-12)).clamp(0, 1)
    return torch.where(values < 1, time + share * 0.5**HALVINGS, 1.0)


def _knots(device: torch.device) -> Tensor:
    return torch.arange(KNOTS + 1, device=device) / KNOTS


def _bezier(points: Tensor, time: Tensor) -> Tensor:
    """(B, n) cubic curves from 0 to 1 with two control points (B, 2, 1) each, at times (B, n)."""
    first, second = 3 * points.unbind(1)[0], 3 * points.unbind(1)[1]
    cubed = 1 + first - second
    return ((cubed * time + (second - 2 * first)) * time + first) * time
