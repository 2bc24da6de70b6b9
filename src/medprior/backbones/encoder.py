"""What every encoder offers, whatever library its network comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from medprior.backbones.axes import COMPARABLE, Sides, extents, in_words, per_axis
from medprior.errors import SettingsError

if TYPE_CHECKING:
    from medprior.backbones.loadreport import LoadReport

Kind = Literal["vit", "cnn", "other"]

LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class EncoderSpec:
    """What rebuilds an encoder, apart from its weights.

    Attributes:
        size: pixels along the axis whose voxels are shortest.
        spacing: mm per voxel along each axis; None where they are equal, or not known.
    """

    name: str
    in_channels: int
    spatial_dims: int
    size: int
    spacing: tuple[float, ...] | None = None

    @property
    def voxel(self) -> tuple[float, ...]:
        """The spacing, or 1 along every axis."""
        return self.spacing or (1.0,) * self.spatial_dims


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of each channel of the images, in units of [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Encoder(nn.Module):
    """Images to a pyramid of feature maps.

    `encoder(x)` takes pixels (B, C, *S) in [0, 1] and gives a list of maps, finest first, each (B, C_i, *S_i) with
    S_i = S / axis_strides[i]. It equals `encoder.body(encoder.stem(x))`. The images are standardised inside by `mean`
    and `std`, which are buffers, so that the weights carry them.

    Attributes:
        kind: "vit" is a plain vision transformer whose tokens may be dropped, "cnn" a convolutional network.
        network: the network itself, with the parameter names of the library it comes from.
        channels: of each map.
        axis_strides: of each map, along every axis.
        strides: of each map, the largest over axes: the only one, but where voxels are longer along some axis.
        loaded: what was found in the weights it started from, if any.
        merging: the order in which a Swin UNETR of volumes merges patches; a key of `swinmerging.ORDERS`.
    """

    kind: Kind
    network: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: EncoderSpec,
        network: nn.Module,
        channels: Sequence[int],
        strides: Sequence[int | Sides],
        statistics: Statistics,
    ) -> None:
        super().__init__()
        self._spec = spec
        self.network = network
        self.loaded: LoadReport | None = None
        self.merging: str | None = None
        self.channels = tuple(channels)
        self.axis_strides = tuple(per_axis(stride, spec.spatial_dims) for stride in strides)
        self.strides = tuple(max(stride) for stride in self.axis_strides)
        shape = (1, spec.in_channels, *[1] * spec.spatial_dims)
        self.register_buffer("mean", torch.tensor(statistics.mean).float().reshape(shape))
        self.register_buffer("std", torch.tensor(statistics.std).float().clamp(min=LEAST_DEVIATION).reshape(shape))

    @property
    def spec(self) -> dict[str, Any]:
        """Arguments for `create_encoder` that rebuild this encoder without its weights."""
        return asdict(self._spec)

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return self._spec.spatial_dims

    @property
    def voxel(self) -> tuple[float, ...]:
        """mm per voxel along each axis of the images it was made for; 1 along every one where nothing was said."""
        return self._spec.voxel

    @property
    def extents(self) -> tuple[int, ...]:
        """Pixels along each axis of the images it was made for: equally long in mm, and the strides divide them.

        `size` along the finest axis, whether strides divide it or not. Other shapes are taken, too.
        """
        return extents(self._spec.size, self.voxel, self.axis_strides[-1])

    @property
    def embed_dim(self) -> int:
        """Width of what `pool` gives."""
        return self.channels[-1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pixels (B, C, *S) in [0, 1] to maps, finest first."""
        return self.body(self.stem(x))

    def standardise(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] to mean 0 and deviation 1 over the data."""
        return (x - self.mean) / self.std

    def stem(self, x: Tensor) -> Tensor:
        """Pixels to what `body` takes."""
        raise NotImplementedError

    def body(self, z: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        """What `stem` gives to maps; `keep` is for vision transformers alone."""
        raise NotImplementedError

    def pool(self, maps: Sequence[Tensor]) -> Tensor:
        """One vector per image, (B, embed_dim): the spatial mean of the last map."""
        return maps[-1].flatten(2).mean(-1)

    def layer_groups(self) -> list[list[str]]:
        """Every parameter's name once, in groups from the input to the output: the layers of layer-wise decay."""
        raise NotImplementedError


def refuse_uneven_voxels(spec: EncoderSpec) -> None:
    """Refuse to make a network that has one stride for all axes for voxels that are not comparable.

    Raises:
        SettingsError: voxels are twice as long along some axis as along another, or longer.
    """
    if max(spec.voxel) / min(spec.voxel) >= COMPARABLE:
        raise SettingsError(
            f"{spec.name} has one stride for all axes, and voxels of {in_words(spec.voxel)} mm ask for several",
            where="pretrain.backbone",
            do="For instance: unet, resenc, segresnet, vit_tiny. Or leave the spacing out",
        )


def refuse_uneven_strides(encoder: Encoder, user: str) -> None:
    """Refuse an encoder whose strides differ from axis to axis where `user` knows one for all of them.

    Raises:
        SettingsError: they differ.
    """
    uneven = next((stride for stride in encoder.axis_strides if len(set(stride)) > 1), None)
    if uneven is not None:
        raise SettingsError(
            f"{encoder.spec['name']} has a map at stride {in_words(uneven)}, and {user} needs one stride for all axes",
            where="pretrain.backbone",
            do="For instance: resnet18, convnext_atto; or the same encoder without a spacing",
        )
