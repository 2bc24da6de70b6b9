"""The encoder of SegResNet, with MONAI's names."""

from __future__ import annotations

from torch import Tensor, nn

from medprior.backbones.layers import CONVOLUTIONS

BLOCKS = (1, 2, 2, 4)
GROUPS = 8


class SegResNetEncoder(nn.Module):
    """Residual blocks that norm first, by groups (Myronenko, BrainLes 2018, arXiv 1810.11654).

    Weights of MONAI's `SegResNet` fit by name.

    Args:
        dims: 2 or 3.
        inputs: channels of the image.
        width: of the first stage, a multiple of 8; the paper's is 32.
    """

    def __init__(self, dims: int, inputs: int, width: int) -> None:
        super().__init__()
        self.strides = tuple(1 << level for level in range(len(BLOCKS)))
        self.channels = tuple(width * stride for stride in self.strides)
        self.convInit = _Conv(dims, inputs, width)
        self.down_layers = nn.ModuleList(
            nn.Sequential(
                _Conv(dims, channels // 2, channels, stride=2) if level else nn.Identity(),
                *[GroupNormBlock(dims, channels) for _ in range(count)],
            )
            for level, (channels, count) in enumerate(zip(self.channels, BLOCKS, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, *S) to maps, finest first."""
        maps: list[Tensor] = []
        for down in self.down_layers:
            maps.append(down(maps[-1] if maps else self.convInit(x)))
        return maps


class GroupNormBlock(nn.Module):
    """Twice group norm, ReLU and a convolution, beside what they add to."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, channels), nn.GroupNorm(GROUPS, channels)
        self.act = nn.ReLU(inplace=True)
        self.conv1, self.conv2 = _Conv(dims, channels, channels), _Conv(dims, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.act(self.norm1(x)))
        found: Tensor = x + self.conv2(self.act(self.norm2(y)))
        return found


class _Conv(nn.Module):
    """A convolution called `conv`, as in MONAI."""

    def __init__(self, dims: int, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = CONVOLUTIONS[dims](inputs, outputs, 3, stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x)
        return found
