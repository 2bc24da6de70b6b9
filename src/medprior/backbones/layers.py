"""Layers that networks of images and of volumes share, by number of spatial dimensions."""

from __future__ import annotations

from torch import nn

from medprior.backbones import twins

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
INSTANCE_NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
MAX_POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
SLOPE = 0.01


def mean_pool(dims: int, stride: int) -> nn.Module:
    """Means of windows with `stride` positions a side, of smaller ones at the end: maps (B, C, *ceil(S / stride))."""
    if dims == 2:
        return nn.AvgPool2d(stride, ceil_mode=True)
    return twins.AvgPool3d((stride,) * 3, (stride,) * 3, (0,) * 3, ceil_mode=True)


class ConvUnit(nn.Sequential):
    """A convolution that pads, instance norm and leaky ReLU: (B, inputs, *S) to (B, outputs, *ceil(S / stride)).

    The layers are called `conv`, `norm` and `nonlin`.
    """

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        bias: bool = False,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = CONVOLUTIONS[dims](inputs, outputs, kernel, stride, kernel // 2, bias=bias)
        self.norm = INSTANCE_NORMS[dims](outputs, affine=True)
        if active:
            self.nonlin = nn.LeakyReLU(SLOPE, inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, a=SLOPE)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
