"""Encoders of images as torchvision models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from medprior.backbones.encoder import Encoder
from medprior.backbones.export.families import architecture, family, oddity, vit_shape
from medprior.backbones.export.form import HERE, WEIGHTS, Form, image_of, pooled, refuse, standardised, weights_writer
from medprior.backbones.export.keymaps import renamed
from medprior.backbones.vit import VisionTransformer

_PATTERNS = {
    "resnet": r"resnet(?:18|34|50|101|152)|wide_resnet(?:50|101)_2|resnext50_32x4d|resnext101_(?:32x8d|64x4d)",
    "densenet": r"densenet(?:121|161|169|201)",
    "convnext": r"convnext_(?:atto|femto|pico|nano|tiny|small|base|large)",
    "efficientnet": r"efficientnet_b[0-4]",
    "swin": r"swin_(?:tiny|small|base)_patch4_window7_224",
    "vit": "",
}
_SWINS = {"tiny": "swin_t", "small": "swin_s", "base": "swin_b"}


@dataclass(frozen=True)
class _Family:
    """How torchvision makes a network.

    Attributes:
        made: the expression that makes it.
        first: where its first convolution is.
        layers: the expression of the layers it goes through one after the other.
        taken: how many layers are behind it at each map.
        maps: lines that make `maps` of `steps`, where that is not all.
        behind: what of the model was not trained.
    """

    made: Callable[[Encoder], str]
    first: str
    layers: str
    taken: tuple[int, ...]
    maps: tuple[str, ...] = ()
    behind: str = "classifier"


def torchvision_form(encoder: Encoder) -> Form:
    """A state dict with torchvision's names; images of other than three channels bring a first layer of their own.

    Raises:
        SettingsError: torchvision has no such network.
    """
    kind = family(encoder, _PATTERNS)
    if encoder.spatial_dims != 2:
        raise refuse(encoder, "torchvision", "its networks are of images, and this one is of volumes")
    if kind is None:
        raise refuse(encoder, "torchvision", "it has no such network")
    reason = _REASONS.get(kind)
    if reason is not None and (refused := reason(encoder)):
        raise refuse(encoder, "torchvision", refused)
    known = _FAMILIES[kind]
    return Form(
        library="torchvision",
        load=(
            "import torch, torchvision, safetensors.torch",
            f"model = torchvision.models.{known.made(encoder)}.eval()",
            *_first_layer(encoder, known.first),
            f'model.load_state_dict(safetensors.torch.load_file("{HERE}/{WEIGHTS}"), strict=False)',
        ),
        use=_use(encoder, kind, known),
        write=weights_writer(lambda: _state(encoder, kind)),
        image=image_of(encoder),
        notes=(f"`{known.behind}` of the model was not trained, and is as torchvision draws it.",),
    )


def _first_layer(encoder: Encoder, place: str) -> tuple[str, ...]:
    channels = encoder.spec["in_channels"]
    if channels == 3:
        return ()
    first = next(module for module in encoder.network.modules() if isinstance(module, nn.Conv2d))
    sides = ", ".join(str(number[0]) for number in (first.kernel_size, first.stride, first.padding))
    bias = "" if first.bias is not None else ", bias=False"
    return (f"model.{place} = torch.nn.Conv2d({channels}, {first.out_channels}, {sides}{bias})",)


def _use(encoder: Encoder, kind: str, known: _Family) -> tuple[str, ...]:
    if isinstance(encoder, VisionTransformer):
        grid = ", ".join(map(str, encoder.tokens_grid))
        return (
            "from torchvision.models.feature_extraction import create_feature_extractor",
            standardised(encoder),
            'tokens = create_feature_extractor(model, ["encoder.ln"])(x)["encoder.ln"][:, 1:]',
            f"maps = [tokens.transpose(1, 2).reshape(len(x), -1, {grid})]",
            pooled(encoder),
        )
    return (
        "from itertools import accumulate",
        standardised(encoder),
        f"steps = list(accumulate({known.layers}, lambda z, layer: layer(z), initial=x))",
        *(known.maps or (f"maps = [steps[i] for i in {known.taken}]",)),
        "features = model.classifier[:2](maps[-1].mean((2, 3), keepdim=True))"
        if kind == "convnext"
        else pooled(encoder),
    )


def _state(encoder: Encoder, kind: str) -> dict[str, Tensor]:
    found = renamed(encoder.network.state_dict(), "torchvision", kind)
    return {name: _shaped(name, value) for name, value in found.items()} if kind == "convnext" else found


def _shaped(name: str, value: Tensor) -> Tensor:
    """ConvNeXt's scales lie over positions, and its layers for each pixel are no convolutions."""
    if name.endswith("layer_scale"):
        return value.reshape(-1, 1, 1)
    return value.flatten(1) if ".block.3.weight" in name or ".block.5.weight" in name else value


def _convnext(encoder: Encoder) -> str:
    stages: Any = encoder.network.stages
    widths = [*encoder.channels, None]
    blocks = [(widths[i], widths[i + 1], len(stage.blocks)) for i, stage in enumerate(stages)]
    return f"ConvNeXt([torchvision.models.convnext.CNBlockConfig(*sizes) for sizes in {blocks}])"


def _vit(encoder: Encoder) -> str:
    assert isinstance(encoder, VisionTransformer)
    shape = vit_shape(encoder)
    return (
        f"VisionTransformer(image_size={encoder.extents[0]}, patch_size={encoder.patch}, num_layers={shape.depth}, "
        f"num_heads={shape.heads}, hidden_dim={shape.width}, mlp_dim={shape.hidden})"
    )


def _odd_vit(encoder: Encoder) -> str | None:
    assert isinstance(encoder, VisionTransformer)
    square = len(set(encoder.extents)) == len(set(encoder.sides)) == 1
    return oddity(encoder) if square else "its images or patches are no squares"


def _small_windows(encoder: Encoder) -> str | None:
    """timm makes windows no larger than a map; torchvision's have one size."""
    sides = {stage.blocks[0].window_size for stage in encoder.network.layers}
    return None if sides == {(7, 7)} else f"at {encoder.extents[0]} pixels some of its windows are smaller than 7"


def _conv_mlp(encoder: Encoder) -> str | None:
    first = encoder.network.stages[0].blocks[0]
    return "its layers are not scaled" if getattr(first, "gamma", None) is None else None


_REASONS: dict[str, Callable[[Encoder], str | None]] = {"vit": _odd_vit, "swin": _small_windows, "convnext": _conv_mlp}

_NORMED = ("maps = [steps[i] for i in (3, 5, 7, 9)] + [steps[12].relu()]",)
_PERMUTED = ("maps = [z.permute(0, 3, 1, 2) for z in (steps[2], steps[4], steps[6], model.norm(steps[8]))]",)
_FAMILIES = {
    "resnet": _Family(
        lambda e: f"{architecture(e)}()", "conv1", "list(model.children())[:8]", (3, 5, 6, 7, 8), behind="fc"
    ),
    "densenet": _Family(lambda e: f"{architecture(e)}()", "features.conv0", "model.features", (), _NORMED),
    "convnext": _Family(_convnext, "features[0][0]", "model.features", (2, 4, 6, 8), behind="classifier[2]"),
    "efficientnet": _Family(
        lambda e: f"{architecture(e)}()", "features[0][0]", "model.features", (2, 3, 4, 6, 8), behind="features[8]"
    ),
    "swin": _Family(
        lambda e: f"{_SWINS[architecture(e).split('_')[1]]}()",
        "features[0][0]",
        "model.features",
        (),
        _PERMUTED,
        behind="head",
    ),
    "vit": _Family(_vit, "conv_proj", "", (), behind="heads"),
}
