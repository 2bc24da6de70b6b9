"""An encoder whose embedding of the image is changed on the way, and what of an encoder no map depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from medprior.backbones.encoder import Encoder
from medprior.backbones.vit import VisionTransformer
from medprior.errors import SettingsError

_CONVOLUTIONS = (functional.conv2d, functional.conv3d)


def embedded_maps(encoder: Encoder, pixels: Tensor, change: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The maps of an encoder that goes on with `change(embedding)` in the place of its embedding of the image.

    Of a plain vision transformer the embedding is what `stem` gives: its tokens with their positions. The `stem` of
    every other encoder gives pixels, of which there is nothing to choose; there it is what the first convolution
    gives: the patch embedding of Swin transformers and ConvNeXts, the first layer of other networks.

    Args:
        pixels: (B, C, *S) in [0, 1].
        change: (B, D, L) tokens or (B, D, *S') positions, D values each, to as many.

    Raises:
        SettingsError: the encoder begins with no convolution.
    """
    if isinstance(encoder, VisionTransformer):
        tokens = change(encoder.stem(pixels).transpose(1, 2)).transpose(1, 2)
        return encoder.body(tokens, grid=encoder.grid_of(pixels.shape[2:]))
    first = _First(change)
    with first:
        maps: list[Tensor] = encoder(pixels)
    if first.waits:
        raise SettingsError(
            f"{encoder.spec['name']} embeds its images by no convolution, so that no channels of theirs can be hidden",
            where="pretrain.backbone",
            do="For instance: unet, swin_unetr, resnet18, vit_tiny",
        )
    return maps


def freeze_unreached(encoder: Encoder, maps: Sequence[Tensor] | None = None) -> None:
    """Leave alone what no map depends on, such as a norm that follows the pooling: it would never get a gradient.

    Args:
        maps: that the encoder has made of something; by default it makes those of one black image.
    """
    weights = [weight for weight in encoder.parameters() if weight.requires_grad]
    sums = [found.sum() for found in (_trial(encoder) if maps is None else maps)]
    reached = torch.autograd.grad(sums, weights, allow_unused=True)
    for weight, gradient in zip(weights, reached, strict=True):
        weight.requires_grad_(gradient is not None)


def _trial(encoder: Encoder) -> list[Tensor]:
    """The maps of one black image; no statistic of the encoder moves."""
    channels, extents, training = encoder.spec["in_channels"], encoder.extents, encoder.training
    if encoder.spatial_dims == 3:
        # Volumes no larger than they have to be. Networks of images may take one size alone, and are cheap.
        extents = tuple(min(own, 2 * by) for own, by in zip(extents, encoder.axis_strides[-1], strict=True))
    maps: list[Tensor] = encoder.eval()(encoder.mean.new_zeros(1, channels, *extents))
    encoder.train(training)
    return maps


class _First(TorchFunctionMode):
    """What the first convolution inside gives is changed; `waits` until there was one."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change, self.waits = change, True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if self.waits and func in _CONVOLUTIONS:
            self.waits, made = False, self.change(made)
        return made
