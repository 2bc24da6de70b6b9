"""Predicting a volume of any size through windows of the size a network was trained on.

MONAI's `sliding_window_inference` does the same, and is not used: it weighs the answers of a network in their own
type, so that in bfloat16 a constant volume comes out up to 0.3% off; it writes into the network's answer, which for one
window at a time may be the volume itself; and its import takes seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations, product

import torch
from torch import Tensor
from torch.nn import functional as F

from medprior.errors import SettingsError

Predict = Callable[[Tensor], Tensor]
_ALL = (slice(None), slice(None))
NARROW = 1 / 8
"""Standard deviation of the weights of a window, as a share of its side (nnU-Net, Isensee et al., Nat Methods 2021)."""


@torch.no_grad()
def slide(
    volume: Tensor,
    patch: Sequence[int],
    predict: Predict,
    *,
    overlap: float = 0.5,
    flips: Sequence[int] = (),
    at_once: int = 4,
) -> Tensor:
    """Logits (K, *S) of a volume (C, *S), or (B, K, *S) of (B, C, *S), float32, on the device of the volume.

    Windows lie evenly from edge to edge, and near their middle their logits count more: the weights are Gaussian. A
    volume that is smaller than a window stands in the middle of it, with black (0) around, and the logits are cut to it
    again. Everything is added up in float32, whatever `predict` answers in; its answer may lie on another device.

    Args:
        patch: voxels of a window along each axis of S, 2 or 3 of them.
        predict: logits (N, K, *patch) of windows (N, C, *patch).
        overlap: share of a window that the next one covers too, at the least; from 0, below 1.
        flips: axes of S along which windows are also mirrored, in all combinations (8 for 3 axes); the logits are
            mirrored back and averaged.
        at_once: windows of each volume that `predict` is given together.

    Raises:
        SettingsError: a patch, an overlap or flips that fit no such volume.
    """
    _check(volume, patch, overlap, flips, at_once)
    batch = volume if volume.dim() == len(patch) + 2 else volume.unsqueeze(0)
    whole, inside = padded(batch, patch)
    weight = _weights(patch, volume.device)
    places = _places(whole.shape[2:], patch, overlap)
    total, weights = torch.zeros((), device=volume.device), torch.zeros(whole.shape[2:], device=volume.device)
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        logits = _mirrored(torch.cat([whole[_ALL + place] for place in some]), predict, flips).to(weight)
        if first == 0:
            total = total.new_zeros(len(batch), logits.shape[1], *whole.shape[2:])
        answers = logits.reshape(len(some), len(batch), *logits.shape[1:])
        for place, answer in zip(some, answers, strict=True):
            total[_ALL + place] += answer * weight
            weights[place] += weight
    mean = (total / weights)[_ALL + inside]
    return mean if batch is volume else mean[0]


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Where windows of `side` begin along an axis of `length` >= `side`: as few as overlap enough, evenly spread."""
    room = length - side
    steps = math.ceil(room / max(1.0, side * (1 - overlap)))
    return [round(step * room / steps) for step in range(steps + 1)] if steps else [0]


def _places(lengths: Sequence[int], patch: Sequence[int], overlap: float) -> list[tuple[slice, ...]]:
    along = [[slice(at, at + side) for at in starts(n, side, overlap)] for n, side in zip(lengths, patch, strict=True)]
    return list(product(*along))


def padded(batch: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """At least `patch` long along every axis, and where the volume lies in it."""
    lengths = batch.shape[2:]
    missing = [max(0, side - n) for n, side in zip(lengths, patch, strict=True)]
    inside = tuple(slice(gap // 2, gap // 2 + n) for gap, n in zip(missing, lengths, strict=True))
    around = [size for gap in reversed(missing) for size in (gap // 2, gap - gap // 2)]
    return F.pad(batch, around) if any(missing) else batch, inside


def _weights(patch: Sequence[int], device: torch.device) -> Tensor:
    """(*patch) float32, 1 in the middle; the corners of a cube have 1e-10 and still are exact as float32."""
    weight = torch.ones((), device=device)
    for side in patch:
        off = (torch.arange(side, device=device) - (side - 1) / 2) / (NARROW * side)
        weight = weight.unsqueeze(-1) * (-off.square() / 2).exp()
    return weight


def _mirrored(windows: Tensor, predict: Predict, flips: Sequence[int]) -> Tensor:
    """The mean of the logits over all mirrorings, float32."""
    ways = list(_subsets([axis + 2 for axis in flips]))
    total = predict(windows).float()
    for axes in ways[1:]:
        total = total + predict(windows.flip(axes)).flip(axes).float()
    return total / len(ways)


def _subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))


def _check(volume: Tensor, patch: Sequence[int], overlap: float, flips: Sequence[int], at_once: int) -> None:
    axes = len(patch)
    if volume.dim() - axes not in (1, 2) or axes not in (2, 3) or min(patch) < 1 or 0 in volume.shape:
        what = f"windows of {tuple(patch)} voxels do not fit a volume of shape {tuple(volume.shape)}"
        raise SettingsError(what, where="patch", do="Give one side from 1 for each axis behind the channels")
    if not 0 <= overlap < 1:
        raise SettingsError(f"windows cannot overlap by {overlap}", where="overlap", do="Give 0 or more, below 1")
    if len(set(flips)) != len(flips) or not set(flips) <= set(range(axes)):
        raise SettingsError(f"{tuple(flips)} are not different axes below {axes}", where="flips")
    if at_once < 1:
        raise SettingsError(f"{at_once} windows cannot be predicted at once", where="at_once", do="Give 1 or more")
