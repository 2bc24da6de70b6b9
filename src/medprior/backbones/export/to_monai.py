"""Encoders of images and volumes as MONAI networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from medprior.backbones.encoder import Encoder
from medprior.backbones.export.families import architecture, family, oddity, vit_shape
from medprior.backbones.export.form import HERE, WEIGHTS, Form, image_of, pooled, refuse, standardised, weights_writer
from medprior.backbones.export.keymaps import renamed
from medprior.backbones.vit import VisionTransformer

_PATTERNS = {
    "resnet": r"resnet(?:18|34|50|101|152)",
    "densenet": r"densenet(?:121|169|201)",
    "segresnet": r"segresnet(?:_\d+)?",
    "swin_unetr": r"swin_unetr(?:_\d+)?",
    "vit": "",
}


@dataclass(frozen=True)
class _Family:
    """How MONAI makes a network: the expression, the lines that make `maps` of `x`, and what of it was not trained."""

    made: Callable[[Encoder], str]
    maps: Callable[[Encoder], tuple[str, ...]]
    behind: str = ""


def monai_form(encoder: Encoder) -> Form:
    """A state dict with MONAI's names.

    Raises:
        SettingsError: MONAI has no such network.
    """
    kind = family(encoder, _PATTERNS)
    if kind is None:
        raise refuse(encoder, "monai", "it has no such network")
    if isinstance(encoder, VisionTransformer) and oddity(encoder):
        raise refuse(encoder, "monai", str(oddity(encoder)))
    if kind == "segresnet" and any(len(set(stride)) > 1 for stride in encoder.axis_strides):
        raise refuse(encoder, "monai", "its strides differ from axis to axis, and MONAI's do not")
    known = _FAMILIES[kind]
    strict = ", strict=False" if known.behind else ""
    return Form(
        library="monai",
        load=(
            "import torch, monai, safetensors.torch",
            f"model = monai.networks.nets.{known.made(encoder)}.eval()",
            *_epsilons(kind),
            f'model.load_state_dict(safetensors.torch.load_file("{HERE}/{WEIGHTS}"){strict})',
        ),
        use=(*_imports(kind), standardised(encoder), *known.maps(encoder), pooled(encoder)),
        write=weights_writer(lambda: _state(encoder, kind)),
        image=image_of(encoder),
        notes=(f"`{known.behind}` of the model was not trained, and is as MONAI draws it.",) if known.behind else (),
    )


def _epsilons(kind: str) -> tuple[str, ...]:
    """timm's transformers norm with another epsilon than MONAI's."""
    if kind != "vit":
        return ()
    return ("for norm in filter(lambda m: isinstance(m, torch.nn.LayerNorm), model.modules()): norm.eps = 1e-6",)


def _imports(kind: str) -> tuple[str, ...]:
    return ("from itertools import accumulate",) if kind in ("resnet", "densenet") else ()


def _state(encoder: Encoder, kind: str) -> dict[str, Tensor]:
    state = dict(encoder.network.state_dict())
    if kind == "vit":  # MONAI's class token has no position of its own
        positions = state["pos_embed"]
        state["cls_token"], state["pos_embed"] = state["cls_token"] + positions[:, :1], positions[:, 1:]
    return renamed(state, "monai", kind)


def _common(encoder: Encoder, channels: str = "in_channels") -> str:
    return f"spatial_dims={encoder.spatial_dims}, {channels}={encoder.spec['in_channels']}"


def _resnet(encoder: Encoder) -> str:
    more = "conv1_t_stride=2, feed_forward=False, bias_downsample=False"
    return f"{architecture(encoder)}({_common(encoder, 'n_input_channels')}, {more})"


def _segresnet(encoder: Encoder) -> str:
    return (
        f"SegResNet({_common(encoder)}, init_filters={encoder.channels[0]}, out_channels=2, blocks_down=(1, 2, 2, 4))"
    )


def _swin_unetr(encoder: Encoder) -> str:
    more = f'feature_size={encoder.channels[0]}, out_channels=2, downsample="mergingv2"'
    return f"SwinUNETR({_common(encoder)}, {more})"


def _vit(encoder: Encoder) -> str:
    assert isinstance(encoder, VisionTransformer)
    shape = vit_shape(encoder)
    sizes = f"img_size={encoder.extents}, patch_size={encoder.sides}, hidden_size={shape.width}, mlp_dim={shape.hidden}"
    rest = f"num_layers={shape.depth}, num_heads={shape.heads}, qkv_bias=True, classification=True"
    return f"ViT({_common(encoder)}, {sizes}, {rest})"


def _tokens(encoder: Encoder) -> tuple[str, ...]:
    assert isinstance(encoder, VisionTransformer)
    grid = ", ".join(map(str, encoder.tokens_grid))
    return (
        "tokens = model.norm(model(x)[1][-1])[:, 1:]",
        f"maps = [tokens.transpose(1, 2).reshape(len(x), -1, {grid})]",
    )


def _steps(layers: str, maps: str) -> Callable[[Encoder], tuple[str, ...]]:
    line = f"steps = list(accumulate({layers}, lambda z, layer: layer(z), initial=x))"
    return lambda _: (line, f"maps = {maps}")


_FAMILIES = {
    "resnet": _Family(_resnet, _steps("list(model.children())[:8]", "[steps[i] for i in (3, 5, 6, 7, 8)]")),
    "densenet": _Family(
        lambda e: f"{architecture(e).replace('densenet', 'DenseNet')}({_common(e)}, out_channels=2)",
        _steps("model.features", "[steps[i] for i in (3, 5, 7, 9)] + [steps[12].relu()]"),
        behind="class_layers",
    ),
    "segresnet": _Family(_segresnet, lambda _: ("maps = model.encode(x)[1]",), behind="the way up"),
    "swin_unetr": _Family(_swin_unetr, lambda _: ("maps = model.swinViT(x)",), behind="all but swinViT"),
    "vit": _Family(_vit, _tokens, behind="classification_head"),
}
