"""Layers that networks of images and of volumes share, by number of spatial dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd

from medprior.backbones import twins
from medprior.backbones.axes import per_axis

CONVOLUTIONS: dict[int, Callable[..., _ConvNd]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Callable[..., _ConvNd]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
INSTANCE_NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
MAX_POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEAN_POOLS: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: twins.AvgPool3d}
SLOPE = 0.01


def mean_pool(dims: int, stride: int | Sequence[int]) -> nn.Module:
    """Means of windows with `stride` positions a side, of smaller ones at the end: maps (B, C, *ceil(S / stride))."""
    sides = per_axis(stride, dims)
    return MEAN_POOLS[dims](sides, sides, (0,) * dims, ceil_mode=True)


class ConvUnit(nn.Sequential):
    """A convolution that pads, instance norm and leaky ReLU: (B, inputs, *S) to (B, outputs, *ceil(S / stride)).

    The layers are called `conv`, `norm` and `nonlin`. Kernel and stride are one number for all axes, or one for each.
    """

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        *,
        kernel: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        bias: bool = False,
        active: bool = True,
    ) -> None:
        super().__init__()
        sides, steps = per_axis(kernel, dims), per_axis(stride, dims)
        self.conv = CONVOLUTIONS[dims](inputs, outputs, sides, steps, tuple(side // 2 for side in sides), bias=bias)
        self.norm = INSTANCE_NORMS[dims](outputs, affine=True)
        if active:
            self.nonlin = nn.LeakyReLU(SLOPE, inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, a=SLOPE)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
