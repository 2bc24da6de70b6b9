"""What networks have to be told apart by when another library is to hold them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import timm_name
from medprior.backbones.vit import VisionTransformer


@dataclass(frozen=True)
class Shape:
    """The sizes of a plain vision transformer."""

    width: int
    depth: int
    heads: int
    hidden: int


def architecture(encoder: Encoder) -> str:
    """timm's name of the network without the tag of its weights; of other networks their own."""
    return timm_name(str(encoder.spec["name"]))[0].partition(".")[0]


def family(encoder: Encoder, patterns: dict[str, str]) -> str | None:
    """The key of the pattern that the encoder's architecture is of; `vit` of every plain vision transformer."""
    if isinstance(encoder, VisionTransformer):
        return "vit" if "vit" in patterns else None
    name = architecture(encoder)
    return next((key for key, pattern in patterns.items() if re.fullmatch(pattern, name)), None)


def vit_shape(encoder: VisionTransformer) -> Shape:
    """Read off its first block."""
    network = encoder.network
    first = network.blocks[0]
    return Shape(encoder.embed_dim, len(network.blocks), first.attn.num_heads, first.mlp.fc1.out_features)


def oddity(encoder: VisionTransformer) -> str | None:
    """What the transformer has that Dosovitskiy et al. have not, or lacks; None where it is theirs."""
    network: Any = encoder.network
    first = network.blocks[0]
    lacks = {
        "it has no single class token with a position": encoder.prefix != 1 or network.no_embed_class,
        "it norms before its blocks": not isinstance(network.norm_pre, nn.Identity),
        "its norm is another": not isinstance(network.norm, nn.LayerNorm),
        "it scales its layers": not isinstance(getattr(first, "ls1", nn.Identity()), nn.Identity),
        "it norms queries and keys": not isinstance(getattr(first.attn, "q_norm", nn.Identity()), nn.Identity),
        "its queries have no bias": first.attn.qkv.bias is None,
    }
    return next((what for what, so in lacks.items() if so), None)
