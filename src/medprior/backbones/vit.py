"""The plain vision transformer in two and three dimensions: timm's blocks, and tokens that can be dropped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medprior.backbones.axes import Sides, in_words
from medprior.backbones.encoder import Encoder, EncoderSpec, Kind, Statistics
from medprior.backbones.layers import CONVOLUTIONS
from medprior.backbones.timm2d import layer_groups
from medprior.errors import SettingsError
from medprior.objectives.reconstruction import patchify, unpatchify


class VisionTransformer(Encoder):
    """Dosovitskiy et al., ICLR 2021, arXiv 2010.11929, on images or volumes; one map, at the stride of a patch.

    `stem` gives patch tokens with their positions, (B, L, D), and `body` takes all of them or only those to `keep`.
    `stem(x)` is `embed` of all patches: a method that needs some of them embeds no others; `hide` puts one token in the
    place of some. `pool` is the mean over the patches. Images of any other size that patches divide are taken too, and
    need not be square: their positions are interpolated. `body` is told the grid of those that are not square.

    Attributes:
        sides: of a patch in pixels, along each axis.
        patch: the longest of them: the only one, but where voxels are longer along some axis.
        tokens_grid: patches along each axis of an image of `extents`; L is their product.
        prefix: tokens before the patches (class token, registers).
    """

    kind: Kind = "vit"

    def __init__(self, spec: EncoderSpec, network: Any, statistics: Statistics, sides: Sides) -> None:
        self.sides, self.patch = sides, max(sides)
        self.prefix: int = network.num_prefix_tokens
        super().__init__(spec, network, [network.embed_dim], [sides], statistics)
        self.tokens_grid = tuple(extent // side for extent, side in zip(self.extents, sides, strict=True))
        if network.patch_embed.proj.kernel_size != sides:
            network.patch_embed.proj = _projection(network.patch_embed.proj, sides)

    @property
    def positions(self) -> nn.Parameter:
        """The position embedding, (1, prefix + L, D), or (1, L, D) where the prefix has none."""
        found: nn.Parameter = self.network.pos_embed
        return found

    def fix_positions(self) -> None:
        """Start from sin-cos positions: 0 for the prefix, as in MAE and MoCo v3."""
        table = sincos_positions(self.tokens_grid, self.embed_dim)
        before = 0 if self.network.no_embed_class else self.prefix
        whole = torch.cat([table.new_zeros(before, self.embed_dim), table])
        self.network.pos_embed = nn.Parameter(whole.unsqueeze(0))

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.body(self.stem(x), grid=self.grid_of(x.shape[2:]))

    def stem(self, x: Tensor) -> Tensor:
        grid = self.grid_of(x.shape[2:])
        return self.embed(self.cut(x), grid=grid)

    def cut(self, images: Tensor) -> Tensor:
        """Images (B, C, *S) as patches (B, L, Π sides * C) in raster order, channels running fastest inside each."""
        return patchify(images, self.sides)

    def join(self, patches: Tensor, grid: Sequence[int]) -> Tensor:
        """Undo `cut`: patches (B, L, Π sides * C) on a grid to images (B, C, *S), S = sides * grid."""
        return unpatchify(patches, self.sides, grid)

    def grid_of(self, extents: Sequence[int]) -> tuple[int, ...]:
        """Patches along each axis of an image of that many pixels.

        Raises:
            SettingsError: patches do not divide it.
        """
        for axis, (extent, side) in enumerate(zip(extents, self.sides, strict=True)):
            if extent % side:
                place = "" if len(set(self.sides)) == 1 else f" along axis {axis}"
                raise SettingsError(
                    f"{self._spec.name} cuts patches of {in_words(self.sides)}, which do not divide {extent}{place}",
                    where="data.size",
                    do=f"Use {nearest_multiples(extent, side)}{place}",
                )
        return tuple(extent // side for extent, side in zip(extents, self.sides, strict=True))

    def embed(self, patches: Tensor, places: Tensor | None = None, grid: tuple[int, ...] | None = None) -> Tensor:
        """Patches to tokens with their positions, (B, K, D).

        A convolution whose stride is its width is a product with each patch, so some patches can come alone.

        Args:
            patches: (B, K, Π sides * C) pixels in [0, 1], as `cut` cuts them.
            places: (B, K) numbers of the patches; None when they are all there, in order.
            grid: patches along each axis of the whole image; None is `tokens_grid` for some patches, and that or a
                square for all of them.

        Raises:
            SettingsError: all patches of an image that is not square, without a grid.
        """
        embed = self.network.patch_embed
        table = self._places(grid or (self._grid(patches.shape[1]) if places is None else self.tokens_grid))
        values = patches.reshape(*patches.shape[:2], -1, self.mean.numel())
        pixels = ((values - self.mean.flatten()) / self.std.flatten()).flatten(2)
        weight = embed.proj.weight.movedim(1, -1).flatten(1)
        tokens: Tensor = embed.norm(functional.linear(pixels, weight, embed.proj.bias))
        return tokens + (table if places is None else functional.embedding(places, table))

    def hide(self, z: Tensor, hidden: Tensor, token: Tensor, grid: tuple[int, ...] | None = None) -> Tensor:
        """Patch tokens (B, L, D), the hidden ones `token` with their positions: nothing else of them is left.

        Args:
            z: (B, L, D) from `stem`.
            hidden: (B, L) bool.
            token: (D,), the same for every patch.
            grid: patches along each axis of images that are not square.
        """
        return torch.where(hidden.unsqueeze(-1), token + self._places(grid or self._grid(z.shape[1])), z)

    def tokens(self, z: Tensor, keep: Tensor | None = None) -> Tensor:
        """Prefix and patches after the last block and norm: (B, prefix + K, D).

        Args:
            z: (B, L, D) from `stem`, or those of some patches from `embed`.
            keep: (B, K) numbers of the patches to go on with; the blocks never see the others. None keeps all of z.
        """
        if keep is not None:
            z = z.gather(1, keep.unsqueeze(-1).expand(-1, -1, z.shape[-1]))
        z = self.network.norm_pre(torch.cat([self._prefix(z.shape[0]), z], dim=1))
        found: Tensor = self.network.norm(self.network.blocks(z))
        return found

    def body(self, z: Tensor, keep: Tensor | None = None, grid: tuple[int, ...] | None = None) -> list[Tensor]:
        patches = self.tokens(z, keep)[:, self.prefix :]
        if keep is not None:
            return [patches]
        return [patches.transpose(1, 2).reshape(patches.shape[0], -1, *(grid or self._grid(patches.shape[1])))]

    def layer_groups(self) -> list[list[str]]:
        return layer_groups(self.network)

    def _places(self, grid: tuple[int, ...]) -> Tensor:
        """Positions of the patches of a grid, (L, D)."""
        return resized_positions(self.positions[0, -math.prod(self.tokens_grid) :], self.tokens_grid, grid)

    def _grid(self, cells: int) -> tuple[int, ...]:
        if cells == math.prod(self.tokens_grid):
            return self.tokens_grid
        dims = self._spec.spatial_dims
        side = round(cells ** (1 / dims))
        if side**dims != cells:
            raise SettingsError(
                f"an image of {cells} patches is not square",
                where="data.size",
                do="Say its grid, or use square images",
            )
        return (side,) * dims

    def _prefix(self, batch: int) -> Tensor:
        parts = [part for part in (self.network.cls_token, self.network.reg_token) if part is not None]
        if not parts:
            return self.positions.new_zeros(batch, 0, self.embed_dim)
        prefix = torch.cat(parts, dim=1)
        if not self.network.no_embed_class:
            prefix = prefix + self.positions[:, : self.prefix]
        return prefix.expand(batch, -1, -1)


def nearest_multiples(extent: int, unit: int) -> str:
    """The multiples of `unit` below and above, in words."""
    below = extent // unit * unit
    return " or ".join(str(size) for size in (below, below + unit) if size)


def sincos_positions(grid: tuple[int, ...], width: int) -> Tensor:
    """Sines and cosines of the cell numbers along every axis, (Π grid, width); 0 in what the axes do not divide.

    Vaswani et al., NeurIPS 2017, arXiv 1706.03762, spread over axes as in MoCo v3 and MAE.
    """
    share = width // (2 * len(grid))
    rates = 10_000.0 ** -(torch.arange(share, dtype=torch.float64) / share)
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in grid], indexing="ij")
    angles = [axis.reshape(-1, 1) * rates for axis in axes]
    table = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return nn.functional.pad(table, (0, width - table.shape[1])).float()


def resized_positions(table: Tensor, grid: tuple[int, ...], wanted: tuple[int, ...]) -> Tensor:
    """Positions of another grid, (Π wanted, width) from (Π grid, width): cubic along every axis, as in DINO.

    Caron et al., ICCV 2021, arXiv 2104.14294. The table itself where the grids are one.
    """
    if grid == wanted:
        return table
    with torch.autocast(table.device.type, enabled=False):
        cells = table.reshape(*grid, -1)
        for axis, (before, after) in enumerate(zip(grid, wanted, strict=True)):
            # As products with matrices: torch knows no cubic volumes, and its gradient of cubic images is not
            # reproducible on GPUs.
            rows = torch.eye(before, dtype=table.dtype, device=table.device)[None, :, :, None]
            weights = functional.interpolate(rows, size=(after, 1), mode="bicubic")[0, :, :, 0]
            cells = torch.tensordot(cells, weights, dims=([axis], [0])).movedim(-1, axis)
        return cells.reshape(-1, table.shape[-1])


def _projection(square: nn.Conv2d, sides: Sides) -> nn.Module:
    """A fresh one for patches of another shape."""
    layer = CONVOLUTIONS[len(sides)]
    return layer(square.in_channels, square.out_channels, sides, stride=sides, bias=square.bias is not None)
