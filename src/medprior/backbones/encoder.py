"""What every encoder offers, whatever library its network comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from medprior.backbones.weights import LoadReport

Kind = Literal["vit", "cnn", "other"]

LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class EncoderSpec:
    """What rebuilds an encoder, apart from its weights."""

    name: str
    in_channels: int
    spatial_dims: int
    size: int


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of each channel of the images, in units of [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Encoder(nn.Module):
    """Images to a pyramid of feature maps.

    `encoder(x)` takes pixels (B, C, *S) in [0, 1] and gives a list of maps, finest first, each (B, C_i, *S_i) with
    S_i = S / strides[i]. It equals `encoder.body(encoder.stem(x))`. The images are standardised inside by `mean` and
    `std`, which are buffers, so that the weights carry them.

    Attributes:
        kind: "vit" is a plain vision transformer whose tokens may be dropped, "cnn" a convolutional network.
        network: the network itself, with the parameter names of the library it comes from.
        channels, strides: of each map.
        loaded: what was found in the weights file it started from, if any.
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
        strides: Sequence[int],
        statistics: Statistics,
    ) -> None:
        super().__init__()
        self._spec = spec
        self.network = network
        self.loaded: LoadReport | None = None
        self.channels, self.strides = tuple(channels), tuple(strides)
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
    def embed_dim(self) -> int:
        """Width of what `pool` gives."""
        return self.channels[-1]

    @property
    def is_vit(self) -> bool:
        """True for a plain vision transformer."""
        return self.kind == "vit"

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
