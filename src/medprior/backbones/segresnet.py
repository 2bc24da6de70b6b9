"""The encoder of SegResNet, with MONAI's names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medprior.backbones.axes import Sides, factors, halvings, kernels
from medprior.backbones.layers import CONVOLUTIONS

BLOCKS = (1, 2, 2, 4)
GROUPS = 8


class SegResNetEncoder(nn.Module):
    """Residual blocks that norm first, by groups (Myronenko, BrainLes 2018, arXiv 1810.11654).

    Weights of MONAI's `SegResNet` fit by name. Axes of longer voxels wait, as in nnU-Net.

    Args:
        spacing: lengths of a voxel along each axis.
        inputs: channels of the image.
        width: of the first stage, a multiple of 8; the paper's is 32.
    """

    def __init__(self, spacing: Sequence[float], inputs: int, width: int) -> None:
        super().__init__()
        self.strides = halvings(spacing, len(BLOCKS))
        self.channels = tuple(width << level for level in range(len(BLOCKS)))
        sides = kernels(spacing, self.strides)
        self.convInit = _Conv(inputs, width, sides[0])
        self.down_layers = nn.ModuleList(
            nn.Sequential(
                _Conv(channels // 2, channels, kernel, factor) if level else nn.Identity(),
                *[GroupNormBlock(channels, kernel) for _ in range(count)],
            )
            for level, (channels, count, kernel, factor) in enumerate(
                zip(self.channels, BLOCKS, sides, factors(self.strides), strict=True)
            )
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, *S) to maps, finest first."""
        maps: list[Tensor] = []
        for down in self.down_layers:
            maps.append(down(maps[-1] if maps else self.convInit(x)))
        return maps


class GroupNormBlock(nn.Module):
    """Twice group norm, ReLU and a convolution, beside what they add to."""

    def __init__(self, channels: int, kernel: Sides) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, channels), nn.GroupNorm(GROUPS, channels)
        self.act = nn.ReLU(inplace=True)
        self.conv1, self.conv2 = _Conv(channels, channels, kernel), _Conv(channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.act(self.norm1(x)))
        found: Tensor = x + self.conv2(self.act(self.norm2(y)))
        return found


class _Conv(nn.Module):
    """A convolution called `conv`, as in MONAI."""

    def __init__(self, inputs: int, outputs: int, kernel: Sides, stride: int | Sides = 1) -> None:
        super().__init__()
        padding = tuple(side // 2 for side in kernel)
        self.conv = CONVOLUTIONS[len(kernel)](inputs, outputs, kernel, stride, padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x)
        return found
