"""Layers of volumes for timm's layers of images: the same parts under the same names, with one more axis."""

from __future__ import annotations

from timm.layers.squeeze_excite import SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional

AXES = (2, 3, 4)


class BatchNormAct3d(nn.BatchNorm3d):
    """Batch norm, then what timm puts behind it."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.act(self.drop(super().forward(x)))
        return found


class LayerNorm3d(nn.LayerNorm):
    """Layer norm over the channels of each voxel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class SqueezeExcite3d(SEModule):
    """Hu et al., CVPR 2018, arXiv 1709.01507."""

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean(AXES, keepdim=True)
        if self.add_maxpool:
            squeezed = (squeezed + x.amax(AXES, keepdim=True)) / 2
        found: Tensor = x * self.gate(self.fc2(self.act(self.bn(self.fc1(squeezed)))))
        return found


class MobileSqueezeExcite3d(SqueezeExcite):
    """The same under the names it has in EfficientNet."""

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean(AXES, keepdim=True)
        found: Tensor = x * self.gate(self.conv_expand(self.act1(self.conv_reduce(squeezed))))
        return found


class ConvNeXtBlock3d(ConvNeXtBlock):
    """Liu et al., CVPR 2022, arXiv 2201.03545: a depthwise convolution, a norm, two layers for each voxel."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_dw(x)
        y = self.mlp(self.norm(y)) if self.use_conv_mlp else self.mlp(self.norm(y.movedim(1, -1))).movedim(-1, 1)
        if self.gamma is not None:
            y = y * self.gamma.reshape(-1, 1, 1, 1)
        found: Tensor = self.drop_path(y) + self.shortcut(x)
        return found


class AvgPool3d(nn.AvgPool3d):
    """Where the last pixels may make a smaller window, volumes thinner than a window are one: torch's own refuses."""

    kernel_size: tuple[int, int, int]
    padding: tuple[int, int, int]

    def forward(self, x: Tensor) -> Tensor:
        if not self.ceil_mode:
            return super().forward(x)
        axes = zip(x.shape[2:], self.kernel_size, self.padding, strict=True)
        sides = [min(side, length + 2 * padding) for length, side, padding in axes]
        return functional.avg_pool3d(x, sides, self.stride, self.padding, True, self.count_include_pad)


class Conv3dSame(nn.Conv3d):
    """Padded by TensorFlow's rule: an axis of n voxels gives ceil(n / stride), the odd voxel of padding at its end."""

    def forward(self, x: Tensor) -> Tensor:
        sides: list[int] = []
        axes = zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        for length, kernel, stride, dilation in reversed(list(axes)):
            whole = max(0, (-(-length // stride) - 1) * stride + (kernel - 1) * dilation + 1 - length)
            sides += [whole // 2, whole - whole // 2]
        return super().forward(functional.pad(x, sides))
