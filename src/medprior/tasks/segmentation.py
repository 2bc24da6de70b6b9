"""Segmentation: a class for every voxel, by an encoder and a U-shaped decoder on its maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from medprior.backbones.encoder import Encoder
from medprior.backbones.unet import UNetDecoder
from medprior.errors import SettingsError

_HEADS = "heads."
"""Where the decoder ends in classes: these weights are of the task, whatever the decoder was trained for."""
_IMAGE = "image."
"""Where a decoder takes in the image itself."""


@dataclass(frozen=True)
class Segmentation:
    """What is to be outlined: `names` of the classes beside the background."""

    names: tuple[str, ...]
    kind: ClassVar[Literal["segmentation"]] = "segmentation"

    @property
    def outputs(self) -> int:
        """Logits per voxel: one per class, and one for the background, which is class 0."""
        return 1 + len(self.names)


class Segmenter(nn.Module):
    """An encoder and a decoder that joins its maps, up to the resolution of the image, and maybe the image itself."""

    def __init__(self, encoder: Encoder, decoder: UNetDecoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, C, *S) in [0, 1] to logits (B, K, *S)."""
        return self.outputs(pixels)[-1]

    def outputs(self, pixels: Tensor) -> list[Tensor]:
        """The logits of every supervised resolution, coarsest first."""
        return self.decoder.outputs(self.encoder(pixels), pixels)


def make_decoder(encoder: Encoder, task: Segmentation, supervise: int = 0, sees_image: bool = False) -> UNetDecoder:
    """A decoder with random weights for the maps of this encoder; `supervise` as far as it has resolutions.

    Args:
        sees_image: join the pixels themselves at the end, in [0, 1] and black outside of the scan, as the decoder that
            DAE trains does.
    """
    most = len(UNetDecoder(encoder, 1).steps) - 1 if supervise else 0
    return UNetDecoder(encoder, task.outputs, supervise=min(supervise, most), sees_image=sees_image)


def joins_image(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights of a decoder are those of one that sees the image."""
    return any(name.startswith(_IMAGE) for name in weights)


def fits(decoder: UNetDecoder, weights: Mapping[str, Tensor]) -> bool:
    """Whether weights are those of a decoder of the same kind, whatever it ended in."""
    own, given = _body(decoder.state_dict()), _body(weights)
    return {name: value.shape for name, value in own.items()} == {name: value.shape for name, value in given.items()}


def take_over(decoder: UNetDecoder, weights: Mapping[str, Tensor]) -> None:
    """Start a decoder from one that was pre-trained on the maps of the same encoder; its heads stay as they are.

    Raises:
        SettingsError: the weights are of another kind of decoder.
    """
    if not fits(decoder, weights):
        raise SettingsError(
            "the decoder that was pre-trained is of another kind than that of the segmentation",
            where="setting adapt.decoder",
            do="Start with a fresh one: --set adapt.decoder=fresh",
        )
    decoder.load_state_dict(_body(weights), strict=False)


def _body(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.startswith(_HEADS)}
