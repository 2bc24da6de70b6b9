"""What the encoder of a segmenter makes of whole scans: one vector for each, from windows all over it.

Such vectors tell scans that a segmenter was not made for from those it was, by how far they lie from the scans of its
training (Gonzalez et al., Medical Image Analysis 82, 2022, who average the lowest maps of nnU-Net's encoder alike).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.tasks.segmentation import Segmenter
from medprior.tasks.sliding import padded, starts
from medprior.training.device import precision

if TYPE_CHECKING:
    from medprior.data.volumestore.resident import ResidentVolumes

MOST_WINDOWS = 8
"""Of a scan; more of them say little more, and take time."""


@torch.inference_mode()
def scan_features(model: Segmenter, store: ResidentVolumes, row: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """(D,) the mean of the lowest maps of the encoder over windows of `shape`, evenly spread over a scan.

    Raises:
        StoreError: the scan could not be stored, or its file is gone or damaged.
    """
    model.eval()
    encoder = model.encoder
    weight = next(model.parameters())
    scan, _ = padded(store.unit(row).unsqueeze(0), shape)
    windows = torch.cat([scan[(slice(None), slice(None), *place)] for place in spread(scan.shape[2:], shape)])
    windows = windows.to(weight.device).expand(-1, int(encoder.spec["in_channels"]), *shape)
    with precision(weight.device):
        pooled = torch.cat([encoder.pool(encoder(windows[i : i + 1])) for i in range(len(windows))])
    found: NDArray[np.float32] = pooled.float().mean(0).cpu().numpy()
    return found


def spread(lengths: Sequence[int], shape: Sequence[int]) -> list[tuple[slice, ...]]:
    """At most `MOST_WINDOWS` of the windows that cover a scan, as far apart as may be."""
    along = [[slice(at, at + side) for at in starts(n, side, 0.0)] for n, side in zip(lengths, shape, strict=True)]
    places = list(product(*along))
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), MOST_WINDOWS)).round().astype(int))
    return [places[i] for i in chosen]
