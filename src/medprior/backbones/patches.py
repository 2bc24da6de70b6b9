"""Images as patches that need not be cubes; cubes are cut as `medprior.objectives.reconstruction` cuts them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def cut(images: Tensor, sides: Sequence[int]) -> Tensor:
    """(B, C, *S) to (B, L, Π sides * C): patches in raster order, channels running fastest inside each."""
    batch, channels, *extents = images.shape
    dims = len(sides)
    halves = [length for extent, side in zip(extents, sides, strict=True) for length in (extent // side, side)]
    cells, inside = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    apart = images.reshape(batch, channels, *halves).permute(0, *cells, *inside, 1)
    return apart.reshape(batch, -1, math.prod(sides) * channels)


def join(patches: Tensor, sides: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Undo `cut`: (B, L, Π sides * C) on a grid of L = Π grid cells to (B, C, *S), S = sides * grid."""
    dims = len(grid)
    cells = patches.reshape(len(patches), *grid, *sides, -1)
    halves = [axis for d in range(dims) for axis in (1 + d, 1 + dims + d)]
    extents = [count * side for count, side in zip(grid, sides, strict=True)]
    return cells.permute(0, 1 + 2 * dims, *halves).reshape(len(patches), -1, *extents)
