"""Encoders of segmentation networks, for images and volumes, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from medprior.backbones.axes import Sides
from medprior.backbones.encoder import Encoder, EncoderSpec, Statistics, refuse_uneven_voxels
from medprior.backbones.segresnet import GROUPS, SegResNetEncoder
from medprior.backbones.swinmerging import first_merging
from medprior.backbones.timm2d import kind_of
from medprior.backbones.unitnets import GenesisEncoder, ResidualEncoder
from medprior.errors import SettingsError

_HEADS = (3, 6, 12, 24)
_NAME = re.compile(r"(unet|resenc|segresnet|swin_unetr_first|swin_unetr)(?:_(\d+))?")


@dataclass(frozen=True)
class Pyramid:
    """A network that gives a list of maps, finest first, and what is to be known of them."""

    network: nn.Module
    channels: Sequence[int]
    strides: Sequence[int | Sides]


@dataclass(frozen=True)
class Family:
    """Networks that differ in their width alone.

    Attributes:
        width: channels of the first layer, as published.
        unit: what divides every width.
        least: pixels along the smallest image.
        layer: how the name of a parameter begins in each layer, a regular expression.
        build: of the spec and the width.
        cubic: whether it is the same along every axis, whatever the spacing.
        merging: the order in which it merges the patches of volumes, a key of `swinmerging.ORDERS`.
    """

    width: int
    unit: int
    least: int
    layer: str
    build: Callable[[EncoderSpec, int], Pyramid]
    cubic: bool = False
    merging: str | None = None


class VolumeEncoder(Encoder):
    """The encoder of a segmentation network; `stem` standardises and `body` is the whole network."""

    def __init__(self, spec: EncoderSpec, pyramid: Pyramid, layer: str, statistics: Statistics) -> None:
        super().__init__(spec, pyramid.network, pyramid.channels, pyramid.strides, statistics)
        self.kind = kind_of(pyramid.network)
        self._layer = re.compile(layer)

    def stem(self, x: Tensor) -> Tensor:
        return self.standardise(x)

    def body(self, z: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        if keep is not None:
            raise ValueError(f"{self._spec.name} has no tokens to drop")
        maps: list[Tensor] = self.network(z)
        return maps

    def layer_groups(self) -> list[list[str]]:
        groups: dict[str, list[str]] = {}
        for name, _ in self.network.named_parameters():
            found = self._layer.match(name)
            groups.setdefault(found.group() if found else "", []).append(f"network.{name}")
        return list(groups.values())


def is_known(name: str) -> bool:
    """Whether `name` is one of `FAMILIES`, alone or with a width behind it: `unet`, `unet_16`."""
    return _NAME.fullmatch(name) is not None


def follows_spacing(name: str) -> bool:
    """Whether `name` is one of `FAMILIES` whose strides may differ from axis to axis."""
    found = _NAME.fullmatch(name)
    return found is not None and not FAMILIES[found[1]].cubic


def make_encoder(spec: EncoderSpec, statistics: Statistics) -> VolumeEncoder:
    """The encoder of that name, with fresh weights.

    Raises:
        SettingsError: a width or a size that the network cannot have; MONAI is missing where it is needed.
    """
    found = _NAME.fullmatch(spec.name)
    assert found is not None
    family = FAMILIES[found[1]]
    width = int(found[2] or family.width)
    if not width or width % family.unit:
        raise SettingsError(
            f"{found[1]} cannot be {width} channels wide",
            where="pretrain.backbone",
            do=f"Use a multiple of {family.unit}, such as {found[1]}_{max(1, width // family.unit) * family.unit}",
        )
    if spec.size < family.least:
        raise SettingsError(f"{spec.name} needs images of {family.least} pixels at least", where="data.size")
    if family.cubic:
        refuse_uneven_voxels(spec)
    encoder = VolumeEncoder(spec, family.build(spec, width), family.layer, statistics)
    encoder.merging = family.merging if spec.spatial_dims == 3 else None
    return encoder


def _unet(spec: EncoderSpec, width: int) -> Pyramid:
    network = GenesisEncoder(spec.voxel, spec.in_channels, width)
    return Pyramid(network, network.channels, network.strides)


def _resenc(spec: EncoderSpec, width: int) -> Pyramid:
    network = ResidualEncoder(spec.voxel, spec.in_channels, width, spec.size)
    return Pyramid(network, network.channels, network.strides)


def _segresnet(spec: EncoderSpec, width: int) -> Pyramid:
    network = SegResNetEncoder(spec.voxel, spec.in_channels, width)
    return Pyramid(network, network.channels, network.strides)


def _swin(spec: EncoderSpec, width: int, first: bool = False) -> Pyramid:
    """The transformer of Swin UNETR (Hatamizadeh et al., BrainLes 2021, arXiv 2201.01266), MONAI's own.

    Patches of 2, windows of 7. Patches are merged in MONAI's second way, or as the published weights were trained
    (`first`): MONAI before 1.6 lost some of them.
    """
    try:
        from monai.networks.nets.swin_unetr import SwinTransformer  # takes seconds
    except ImportError:
        raise SettingsError(
            f"{spec.name} is MONAI's, which is not installed", where="pretrain.backbone", do="pip install monai einops"
        ) from None
    dims = spec.spatial_dims
    network = SwinTransformer(
        in_chans=spec.in_channels,
        embed_dim=width,
        window_size=(7,) * dims,
        patch_size=(2,) * dims,
        depths=(2,) * len(_HEADS),
        num_heads=_HEADS,
        spatial_dims=dims,
        downsample=first_merging() if first else "mergingv2",
    )
    levels = range(len(_HEADS) + 1)
    return Pyramid(network, [width << level for level in levels], [2 << level for level in levels])


_SWIN_LAYER = r"patch_embed|layers\d\.0\.(?:blocks\.\d+|downsample)"
FAMILIES = {
    "unet": Family(32, 1, 16, r"stages\.\d+\.\d+", _unet),
    "resenc": Family(32, 1, 8, r"stem|stages\.\d+", _resenc),
    "segresnet": Family(32, GROUPS, 16, r"convInit|down_layers\.\d+\.\d+", _segresnet),
    "swin_unetr": Family(48, 12, 32, _SWIN_LAYER, _swin, cubic=True, merging="v2"),
    "swin_unetr_first": Family(48, 12, 32, _SWIN_LAYER, partial(_swin, first=True), cubic=True, merging="first"),
}
