"""How Swin UNETR merges eight neighbouring patches into one, which differed over the versions of MONAI."""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from medprior.errors import SettingsError

Offsets = tuple[tuple[int, int, int], ...]

ORDERS: dict[str, Offsets] = {
    "first": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
    "mended": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)),
    "v2": tuple((i, j, k) for i, j, k in itertools.product(range(2), repeat=3)),
}
"""Which neighbour stands at which place: before MONAI 1.6 two were read twice and two never; since then; `mergingv2`.

Images have four neighbours in one order throughout.
"""
_MERGING = re.compile(r"downsample\.(?:reduction\.weight|norm\.(?:weight|bias))$")


def reordered(name: str, value: Tensor, given: str, wanted: str) -> Tensor:
    """A weight trained with neighbours in the order `given`, for a network of volumes that has them as `wanted`.

    Weights of anything but a merging are left as they are.

    Raises:
        SettingsError: one of the orders leaves neighbours out that the other has.
    """
    if given == wanted or not _MERGING.search(name):
        return value
    before, after = ORDERS[given], ORDERS[wanted]
    if set(before) != set(after):
        fitting = "swin_unetr_first" if given == "first" else "swin_unetr"
        raise SettingsError(
            "Swin UNETR of MONAI before 1.6 merged other neighbours than it does since: these weights fit only one",
            do=f"Name the encoder {fitting}; or say what made the file: swin_unetr_16:FILE (MONAI 1.6 or later), "
            "swin_unetr_v2:FILE (mergingv2), swin_unetr:FILE (before 1.6)",
        )
    blocks = value.chunk(len(before), dim=-1)
    return torch.cat([blocks[before.index(offset)] for offset in after], dim=-1)


@cache
def first_merging() -> Any:
    """The merging that published weights of Swin UNETR were trained with, as a class; it is made of MONAI's."""
    from monai.networks.nets.swin_unetr import PatchMergingV2  # takes seconds

    class FirstMerging(PatchMergingV2):  # type: ignore[misc]
        """Of eight neighbours two are read twice and two never; images are merged as always."""

        def forward(self, x: Tensor) -> Tensor:
            """(B, *S, C) to (B, *ceil(S / 2), 2C)."""
            if x.ndim != 5:
                merged: Tensor = super().forward(x)
                return merged
            deep, high, wide = (side % 2 for side in x.shape[1:4])
            x = functional.pad(x, (0, 0, 0, wide, 0, high, 0, deep))
            x = torch.cat([x[:, i::2, j::2, k::2] for i, j, k in ORDERS["first"]], dim=-1)
            reduced: Tensor = self.reduction(self.norm(x))
            return reduced

    return FirstMerging
