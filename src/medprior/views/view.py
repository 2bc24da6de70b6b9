"""What a method sees: the pixels of one view of every scan of a batch, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class View:
    """One view of each of B scans, S = `recipe.shape`.

    Attributes:
        pixels: (B, C, *S) float32 in [0, 1], 0 where not valid; channels may be last in memory.
        valid: (B, 1, *S) bool, false on letterbox padding and outside the scan.
        affine: (B, d, d+1) float32, from view to the whole stored scan (level 0) in normalised coordinates:
            axes in the order of S, the outer edges of the first and last pixel at -1 and +1.
        clean: as `pixels`, before any intensity change: the target of restoration methods.
        labels: (B, *S) int64 classes of a label map in the same geometry, nearest neighbour, and below 0 outside the
            scan; where scans came with one.
    """

    pixels: Tensor
    valid: Tensor
    affine: Tensor
    clean: Tensor | None = None
    labels: Tensor | None = None
