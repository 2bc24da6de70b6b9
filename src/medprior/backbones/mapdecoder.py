"""Maps of which cells are hidden, back to an image: SparK's densifying and its light U-Net, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder, refuse_uneven_strides
from medprior.backbones.layers import CONVOLUTIONS, TRANSPOSED
from medprior.backbones.sparse import Sparse
from medprior.errors import SettingsError

LEVELS = 4
"""How many maps the decoder sees, the coarsest: strides 4 to 32 of most networks."""
LEAST_WIDTH = 8
NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class MapDecoder(nn.Module):
    """Maps whose hidden cells hold a learnt token, through a light U-Net, to an image.

    Args:
        encoder: of the maps.
        width: channels at the coarsest map; every step up doubles the resolution and halves them.
        outputs: channels of the image.

    Raises:
        SettingsError: steps of 2 do not lead from map to map, or strides differ from axis to axis.
    """

    def __init__(self, encoder: Encoder, width: int, outputs: int) -> None:
        super().__init__()
        refuse_uneven_strides(encoder, "SparK's decoder")
        dims, total = encoder.spatial_dims, encoder.strides[-1]
        steps = total.bit_length() - 1
        widths = [max(width >> step, LEAST_WIDTH) for step in range(steps + 1)]
        self.taken = tuple(range(max(0, len(encoder.strides) - LEVELS), len(encoder.strides)))[::-1]
        self.entries = [(total // encoder.strides[i]).bit_length() - 1 for i in self.taken]
        apart = [encoder.strides[i] << entry for i, entry in zip(self.taken, self.entries, strict=True)]
        if {1 << steps, *apart} != {total}:
            raise SettingsError(
                f"maps at strides {', '.join(map(str, encoder.strides))} are not steps of 2 apart",
                where="pretrain.backbone",
            )
        batch_normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules())
        norm = NORMS[dims] if batch_normed else ChannelNorm
        self.levels = nn.ModuleList(
            Densify(dims, norm(encoder.channels[i]), encoder.channels[i], widths[entry], 3 if entry else 1)
            for i, entry in zip(self.taken, self.entries, strict=True)
        )
        self.ups = nn.ModuleList(Up(dims, *pair) for pair in pairwise(widths))
        self.head = CONVOLUTIONS[dims](widths[-1], outputs, 1)

    def forward(self, maps: Sequence[Tensor], sparse: Sparse) -> Tensor:
        """The encoder's maps, finest first, and what was seen of them, to (B, outputs, *S)."""
        dense = {e: level(maps[i], sparse) for e, i, level in zip(self.entries, self.taken, self.levels, strict=True)}
        x = dense.pop(0)
        for step, up in enumerate(self.ups, start=1):
            x = up(x)
            if step in dense:
                x = x + dense[step]
        image: Tensor = self.head(x)
        return image


class Densify(nn.Module):
    """A sparse map (B, C, *S): normed over what is seen, tokens where nothing is, and projected to the decoder."""

    def __init__(self, dims: int, norm: nn.Module, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = norm
        self.token = nn.Parameter(torch.empty(1, channels, *[1] * dims))
        nn.init.trunc_normal_(self.token, std=0.02)
        same = kernel == 1 and channels == width
        self.project = nn.Identity() if same else CONVOLUTIONS[dims](channels, width, kernel, padding=kernel // 2)

    def forward(self, map: Tensor, sparse: Sparse) -> Tensor:
        """(B, C, *S) to (B, width, *S)."""
        with sparse:
            normed = self.norm(map)
        filled = torch.where(sparse.active(map.shape[2:]), normed, self.token.to(normed.dtype))
        projected: Tensor = self.project(filled)
        return projected


class Up(nn.Sequential):
    """Twice the resolution: (B, inputs, *S) to (B, outputs, *2S)."""

    def __init__(self, dims: int, inputs: int, outputs: int) -> None:
        convolution, norm = CONVOLUTIONS[dims], NORMS[dims]
        super().__init__(
            TRANSPOSED[dims](inputs, inputs, 4, stride=2, padding=1),
            convolution(inputs, inputs, 3, padding=1, bias=False),
            norm(inputs),
            nn.ReLU6(inplace=True),
            convolution(inputs, outputs, 3, padding=1, bias=False),
            norm(outputs),
        )


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of maps (B, C, *S)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
