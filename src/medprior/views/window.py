"""Parts of stored scans, for views that need no more, and where in their scans they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Place:
    """Where pixels (B, C, *W) lie in their scans of d axes.

    Attributes:
        corner: (B or 1, d) float32, the stored pixel at which they begin; below 0 or beyond the scan are outside.
        lengths: (B or 1, d) float32, stored pixels of the whole scan along each axis.
    """

    corner: Tensor
    lengths: Tensor


@dataclass
class Window:
    """What one view of each of B scans is made from.

    Attributes:
        pixels: (B, C, *W) as stored.
        corner: (B, d) float32, the stored pixel at which they begin.
        lengths: (B, d) float32, stored pixels of the whole scan along each axis.
        affine: (B, d, d+1) float32, from view to whole scan, normalised.
        scale: (B, C) float32, with
        offset: (B, C) float32: stored * scale + offset, clamped, is the value in [0, 1].
        labels: (B, *W) classes of the pixels, where label maps are learnt from.
    """

    pixels: Tensor
    corner: Tensor
    lengths: Tensor
    affine: Tensor
    scale: Tensor
    offset: Tensor
    labels: Tensor | None = None

    @property
    def place(self) -> Place:
        """Where the pixels lie."""
        return Place(self.corner, self.lengths)


@dataclass
class Crops:
    """What a plan needs of each of B scans, on one device.

    Attributes:
        index: (B,) int64, rows of the catalog.
        windows: one for each view of the plan, in its order; views of the same place share theirs.
    """

    index: Tensor
    windows: tuple[Window, ...]


def whole(d: int, stored: int, device: torch.device) -> Place:
    """The place of whole scans, `stored` pixels long along each of d axes."""
    return Place(torch.zeros(1, d, device=device), torch.full((1, d), float(stored), device=device))


def cut_out(images: Tensor, corner: Tensor, window: int | Sequence[int]) -> Tensor:
    """(V*B, C, *W) windows at `corner` (V*B, d) inside of images (B, C, *S), in their own type.

    Row by row along the last axis, then along it: far faster on a CPU than an index for every pixel.

    Args:
        window: W, pixels along each axis, or along all of them.
    """
    batch, channels, *stored = images.shape
    d = corner.shape[1]
    sides = (window,) * d if isinstance(window, int) else window
    begins = corner.long().unsqueeze(-1).unbind(1)
    along = [at + torch.arange(n, device=at.device) for at, n in zip(begins, sides, strict=True)]
    rows = torch.arange(batch * channels, device=corner.device).view(batch, channels)
    rows = rows.repeat(len(corner) // batch, 1)
    for axis in range(d - 1):
        rows = rows.unsqueeze(-1) * stored[axis] + along[axis].view(-1, *[1] * (axis + 1), sides[axis])
    found = images.reshape(-1, stored[-1]).index_select(0, rows.flatten()).view(*rows.shape, stored[-1])
    last = along[-1].view(-1, *[1] * d, sides[-1])
    return found.gather(-1, last.expand(*rows.shape, sides[-1]))
