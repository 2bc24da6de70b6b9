"""Convolutional networks of images turned into networks of volumes, and kernels with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.classifier import NormMlpClassifierHead
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.drop import DropPath
from timm.layers.grn import GlobalResponseNorm
from timm.layers.mlp import GlobalResponseNormMlp, Mlp
from timm.layers.norm import LayerNorm, LayerNorm2d
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.squeeze_excite import SEModule
from timm.models import _efficientnet_blocks, convnext, densenet, efficientnet, resnet
from torch import Tensor, nn

from medprior.backbones import twins
from medprior.errors import unknown

Inflation = Literal["average", "centre"]
Twin = Callable[[Any], nn.Module]


def inflate_kernel(weight: Tensor, depth: int, how: Inflation = "average") -> Tensor:
    """A kernel of images (O, I, H, W) as one of volumes (O, I, depth, H, W).

    "average" repeats it along depth and divides by the depth, so that a volume of equal slices answers as its slice
    does: Carreira and Zisserman, CVPR 2017, arXiv 1705.07750. "centre" lays it into the middle plane, with 0 in the
    others, so that slices are looked at one by one in the beginning: Arnab et al., ICCV 2021, arXiv 2103.15691.

    Raises:
        SettingsError: another word for `how`.
    """
    if how == "average":
        return weight.unsqueeze(2).expand(-1, -1, depth, -1, -1) / depth
    if how == "centre":
        deep = weight.new_zeros(*weight.shape[:2], depth, *weight.shape[2:])
        deep[:, :, depth // 2] = weight
        return deep
    raise unknown("inflation", how, get_args(Inflation))


def first_without_twin(module: nn.Module, path: str = "") -> str | None:
    """Type and place of a layer that is for images alone and has no twin here; None when `deepen` knows them all."""
    if type(module) not in _TWINS and not _has_no_axes(module):
        return f"{type(module).__name__} ({path})" if path else type(module).__name__
    below = (first_without_twin(child, f"{path}.{name}".lstrip(".")) for name, child in module.named_children())
    return next((found for found in below if found), None)


def deepen(module: nn.Module) -> nn.Module:
    """A network of images as one of volumes, with the same names; made of its own layers, so the first is used up.

    A kernel is as deep as it is high, and drawn anew as loud as it was: copies of one plane would be blind to
    differences between slices. Only for networks in which `first_without_twin` finds nothing.
    """
    twin = _TWINS.get(type(module))
    deep = twin(module) if twin else module
    for name, child in deep.named_children():
        deep.register_module(name, deepen(child))
    return deep


def _conv(kind: type[nn.Conv3d]) -> Twin:
    def twin(flat: nn.Conv2d) -> nn.Module:
        padding = flat.padding if isinstance(flat.padding, str) else _deep(flat.padding)
        sides, stride, dilation = _deep(flat.kernel_size), _deep(flat.stride), _deep(flat.dilation)
        deep = kind(
            *(flat.in_channels, flat.out_channels, sides, stride, padding, dilation),
            groups=flat.groups,
            bias=flat.bias is not None,
            padding_mode=flat.padding_mode,
        )
        with torch.no_grad():
            _draw(deep.weight, flat.weight)
            if flat.bias is not None and deep.bias is not None:
                deep.bias.copy_(flat.bias)
        return deep

    return twin


def _draw(deep: Tensor, flat: Tensor) -> None:
    """Normal weights that answer noise with the variance of the flat kernel; one plane needs no drawing."""
    depth = deep.shape[2]
    if depth == 1:
        deep.copy_(flat.unsqueeze(2))
    else:
        deep.normal_().mul_((flat.square().mean() / depth).sqrt())


def _deep(value: int | tuple[int, ...]) -> tuple[int, int, int]:
    """The settings of two axes for three: depth goes as height does."""
    height, width = (value, value) if isinstance(value, int) else value
    return height, height, width


def _max_pool(flat: nn.MaxPool2d) -> nn.Module:
    sides, stride, padding = _deep(flat.kernel_size), _deep(flat.stride), _deep(flat.padding)
    return nn.MaxPool3d(sides, stride, padding, _deep(flat.dilation), ceil_mode=flat.ceil_mode)


def _average_pool(flat: nn.AvgPool2d) -> nn.Module:
    sides, stride, padding = _deep(flat.kernel_size), _deep(flat.stride), _deep(flat.padding)
    return twins.AvgPool3d(sides, stride, padding, flat.ceil_mode, flat.count_include_pad)


def _response_norm(flat: Any) -> nn.Module:
    first = flat.spatial_dim[0]
    flat.spatial_dim = (first, first + 1, first + 2)
    flat.wb_shape = (1, 1, 1, 1, -1) if first == 1 else (1, -1, 1, 1, 1)
    found: nn.Module = flat
    return found


def _as(kind: type[nn.Module]) -> Twin:
    """For twins that hold the same and only act differently."""

    def twin(flat: nn.Module) -> nn.Module:
        flat.__class__ = kind
        return flat

    return twin


_TWINS: dict[type[nn.Module], Twin] = {
    nn.Conv2d: _conv(nn.Conv3d),
    Conv2dSame: _conv(twins.Conv3dSame),
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.BatchNorm2d: _as(nn.BatchNorm3d),
    BatchNormAct2d: _as(twins.BatchNormAct3d),
    LayerNorm2d: _as(twins.LayerNorm3d),
    GlobalResponseNorm: _response_norm,
    SEModule: _as(twins.SqueezeExcite3d),
    _efficientnet_blocks.SqueezeExcite: _as(twins.MobileSqueezeExcite3d),
    convnext.ConvNeXtBlock: _as(twins.ConvNeXtBlock3d),
}

# What names no axis itself. The selector of a pooling is among them: a pooling that pools would be found below it.
_WITHOUT_AXES: frozenset[type[nn.Module]] = frozenset(
    {nn.Sequential, nn.Identity, nn.Linear, nn.Dropout, DropPath, LayerNorm, Mlp, GlobalResponseNormMlp}
    | {NormMlpClassifierHead, SelectAdaptivePool2d}
    | {resnet.ResNet, resnet.BasicBlock, resnet.Bottleneck}
    | {convnext.ConvNeXt, convnext.ConvNeXtStage, convnext.Downsample}
    | {densenet.DenseNet, densenet.DenseBlock, densenet.DenseLayer, densenet.DenseTransition}
    | {efficientnet.EfficientNet, _efficientnet_blocks.ConvBnAct, _efficientnet_blocks.DepthwiseSeparableConv}
    | {_efficientnet_blocks.InvertedResidual, _efficientnet_blocks.EdgeResidual}
)
_ACTIVATIONS = ("torch.nn.modules.activation", "timm.layers.activations")


def _has_no_axes(module: nn.Module) -> bool:
    return type(module) in _WITHOUT_AXES or type(module).__module__ in _ACTIVATIONS
