"""Two convolutional encoders of segmentation networks: that of Models Genesis and the residual one of nnU-Net."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from medprior.backbones.axes import Sides, factors, halvings, kernels, per_axis
from medprior.backbones.layers import MAX_POOLS, SLOPE, ConvUnit, mean_pool

BLOCKS = (1, 3, 4, 6, 6, 6)
"""Residual blocks of each stage: nnU-Net's ResEnc L."""
GROWTH = {2: 16, 3: 10}
"""The most that channels grow from the first stage, in images and in volumes: nnU-Net's 512 and 320 from 32."""
LEAST_POSITIONS = 4
"""Along the finest axis of the coarsest map of a residual encoder."""


class GenesisEncoder(nn.Module):
    """The way down of the U-Net of Models Genesis (Zhou et al., MICCAI 2019, arXiv 1908.06912).

    Four stages of two convolutions, the second of which doubles the channels, and max pooling between them. Instance
    norm stands for batch norm, which the authors run on the statistics of the batch in evaluation too: small batches
    would make it noise. Leaky ReLU stands for ReLU. Axes of longer voxels wait, as in nnU-Net.

    Args:
        spacing: lengths of a voxel along each axis.
        inputs: channels of the image.
        width: of the first convolution; the authors' is 32.
    """

    def __init__(self, spacing: Sequence[float], inputs: int, width: int) -> None:
        super().__init__()
        dims = len(spacing)
        self.channels = tuple(2 * width << level for level in range(4))
        self.strides = halvings(spacing, len(self.channels))
        self.stages = nn.ModuleList(
            nn.Sequential(
                ConvUnit(dims, before, after // 2, kernel=kernel), ConvUnit(dims, after // 2, after, kernel=kernel)
            )
            for (before, after), kernel in zip(
                pairwise((inputs, *self.channels)), kernels(spacing, self.strides), strict=True
            )
        )
        pools = [MAX_POOLS[dims](factor, ceil_mode=True) for factor in factors(self.strides)[1:]]
        self.pools = nn.ModuleList([nn.Identity(), *pools])

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, *S) to maps, finest first."""
        maps: list[Tensor] = []
        for pool, stage in zip(self.pools, self.stages, strict=True):
            x = stage(pool(x))
            maps.append(x)
        return maps


class ResidualEncoder(nn.Module):
    """nnU-Net's residual encoder (Isensee et al., MICCAI 2024, arXiv 2404.09556), with the names of its weights.

    Args:
        spacing: lengths of a voxel along each axis.
        inputs: channels of the image.
        width: of the first stage; nnU-Net's is 32.
        size: pixels along the finest axis: resolution is halved up to five times, as long as 4 positions remain.
    """

    def __init__(self, spacing: Sequence[float], inputs: int, width: int, size: int) -> None:
        super().__init__()
        dims = len(spacing)
        count = max(1, sum(size >> i >= LEAST_POSITIONS for i in range(len(BLOCKS))))
        self.strides = halvings(spacing, count)
        self.channels = tuple(width * min(1 << i, GROWTH[dims]) for i in range(count))
        sides = kernels(spacing, self.strides)
        self.stem = _Stem(ConvUnit(dims, inputs, width, kernel=sides[0], bias=True))
        each = zip(pairwise((width, *self.channels)), BLOCKS[:count], factors(self.strides), sides, strict=True)
        self.stages = nn.ModuleList(_Stage(dims, *widths, blocks, *shape) for widths, blocks, *shape in each)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, *S) to maps, finest first."""
        maps: list[Tensor] = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else self.stem(x)))
        return maps


class ResidualBlock(nn.Module):
    """Two convolutions beside what they add to, averaged and projected where resolution and channels change.

    He et al., CVPR 2019, arXiv 1812.01187 (ResNet-D). It begins as what it adds to: the last norm's weight is 0.
    """

    def __init__(self, dims: int, inputs: int, outputs: int, stride: int | Sides, kernel: int | Sides = 3) -> None:
        super().__init__()
        self.conv1 = ConvUnit(dims, inputs, outputs, kernel=kernel, stride=stride, bias=True)
        self.conv2 = ConvUnit(dims, outputs, outputs, kernel=kernel, bias=True, active=False)
        self.nonlin2 = nn.LeakyReLU(SLOPE, inplace=True)
        pool = [mean_pool(dims, stride)] if max(per_axis(stride, dims)) > 1 else []
        project = [ConvUnit(dims, inputs, outputs, kernel=1, active=False)] if inputs != outputs else []
        self.skip = nn.Sequential(*pool, *project)
        nn.init.zeros_(self.conv2.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))
        return found


class _Stem(nn.Module):
    """Called as in nnU-Net, so that its weights are found."""

    def __init__(self, *units: ConvUnit) -> None:
        super().__init__()
        self.convs = nn.Sequential(*units)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.convs(x)
        return found


class _Stage(nn.Module):
    def __init__(self, dims: int, inputs: int, outputs: int, count: int, stride: Sides, kernel: Sides) -> None:
        super().__init__()
        blocks: Sequence[ResidualBlock] = [
            ResidualBlock(dims, outputs if i else inputs, outputs, 1 if i else stride, kernel) for i in range(count)
        ]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.blocks(x)
        return found
