"""Any timm model of images that offers feature maps, and what its convolutional ones become for volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models import group_parameters
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder, EncoderSpec, Kind, Statistics
from medprior.backbones.inflate import deepen

MOST_GROUPS = 26


class TimmEncoder(Encoder):
    """A timm network without its classifier; one map for each stride that it has.

    `stem` standardises and `body` is the whole network. Where the family norms its pooled features (ConvNeXt), so
    does `pool`. For volumes every layer is a three-dimensional one under the same name; they need not be cubes.
    """

    def __init__(self, spec: EncoderSpec, network: Any, statistics: Statistics) -> None:
        strides = [info["reduction"] for info in network.feature_info]
        taken = [i for i, stride in enumerate(strides) if stride not in strides[i + 1 :]]
        channels = [network.feature_info[i]["num_chs"] for i in taken]
        super().__init__(spec, network, channels, [strides[i] for i in taken], statistics)
        self.taken = taken
        self.kind: Kind = kind_of(network)
        self.pool_norm = head_norm(network)
        # What follows the last map would only be dead weight, and parameters without a gradient.
        network.prune_intermediate_layers(taken, prune_norm=False, prune_head=not self.pool_norm)
        if spec.spatial_dims == 3:
            deepen(network)

    def stem(self, x: Tensor) -> Tensor:
        return self.standardise(x)

    def body(self, z: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        if keep is not None:
            raise ValueError(f"{self._spec.name} has no tokens to drop")
        maps: list[Tensor] = self.network.forward_intermediates(
            z, indices=self.taken, norm=True, intermediates_only=True
        )
        return maps

    def pool(self, maps: Sequence[Tensor]) -> Tensor:
        pooled = maps[-1].mean(tuple(range(2, maps[-1].ndim)), keepdim=True)
        return (self.network.head.norm(pooled) if self.pool_norm else pooled).flatten(1)

    def layer_groups(self) -> list[list[str]]:
        return layer_groups(self.network)


def head_norm(network: Any) -> bool:
    """Whether the network norms its features after pooling them."""
    norm = getattr(getattr(network, "head", None), "norm", None)
    return isinstance(norm, nn.Module) and any(True for _ in norm.parameters())


def kind_of(network: nn.Module) -> Kind:
    """Convolutional, unless some module attends."""
    attends = any("attention" in type(module).__name__.lower() for module in network.modules())
    return "other" if attends else "cnn"


def layer_groups(network: Any, prefix: str = "network.") -> list[list[str]]:
    """timm's grouping of the parameters, input first; by stages where blocks would be so many groups that a
    usual decay freezes the first."""
    if not hasattr(network, "group_matcher"):
        return [[prefix + name for name, _ in network.named_parameters()]]
    for coarse in (False, True):
        found = group_parameters(network, network.group_matcher(coarse=coarse))
        groups = [[prefix + name for name in found[i]] for i in sorted(found)]
        if len(groups) <= MOST_GROUPS:
            break
    if len(groups) > 1 and all(name.startswith(f"{prefix}head.") for name in groups[-1]):
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups
