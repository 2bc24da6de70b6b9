"""Crops that find what is labelled: a share of them is aimed at a voxel of a class, all classes alike.

Without it most crops show background alone (nnU-Net aims a third of them; Isensee et al., Nat Methods
2021). All is drawn on the host, by hashes, as windows are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medprior.views.draws import Key, happens, uniform

if TYPE_CHECKING:
    from medprior.data.volumestore.foreground import Foreground


class Aims(NamedTuple):
    """What each of B crops is aimed at.

    Attributes:
        labels: (B,) int64, the class from 1, or 0 where a crop is not aimed.
        voxels: (B, d) int64, a voxel of this class; without meaning where a crop is not aimed.
    """

    labels: Tensor
    voxels: Tensor


def draw_aims(foreground: Foreground, lengths: NDArray[np.int64], key: Key, probability: float = 1 / 3) -> Aims:
    """Aim crops of scans `key.rows` with the given probability at a class that the scan has, and a voxel of it.

    The class is drawn evenly from those of the scan, then the voxel evenly from those that are known of it. Crops of
    scans without a mask, or with an empty one, are never aimed.

    Args:
        lengths: (B, d) voxels along the axes of the scans.
    """
    rows = key.rows.numpy()
    counts = foreground.counts[rows]
    there = counts > 0
    aimed = happens(key, "foreground", probability).numpy() & there.any(1)
    nth = _pick(key, "foreground class", there.sum(1))
    labels = (there.cumsum(1) > nth[:, None]).argmax(1) if there.shape[1] else np.zeros(len(rows), np.int64)
    labels = np.where(aimed, labels + 1, 0)
    one = np.flatnonzero(aimed)
    voxels = np.zeros(lengths.shape, np.int64)
    chosen = rows[one], labels[one] - 1
    place = foreground.starts[chosen] + _pick(key, "foreground voxel", _of(counts, labels))[one]
    rest = foreground.voxels[place].astype(np.int64)
    for axis in reversed(range(lengths.shape[1])):
        rest, voxels[one, axis] = np.divmod(rest, lengths[one, axis])
    return Aims(torch.from_numpy(labels), torch.from_numpy(voxels))


def aim(affine: Tensor, lengths: Tensor, aims: Aims, *, on_pixels: bool) -> Tensor:
    """Views (B, d, d+1) moved so that their centre lies on the voxel they are aimed at; others stay.

    A view is moved no further than to the edge of its scan, so that it shows as little padding as one that is drawn
    anywhere: the voxel is then in it, off its centre. Along axes where it is longer than the scan it stays.

    Args:
        affine: from view to stored scan, in normalised coordinates, as `draw_affine` gives them.
        lengths: (B, d) float32 voxels along the axes of the scans.
        on_pixels: whether voxels of the view lie on stored ones (`geometry.lies_on_pixels`), and have to stay there;
            the voxel then lies up to half a voxel off the centre.
    """
    half = affine[..., :-1].abs().sum(-1) * lengths / 2
    low = aims.voxels + 0.5 - half
    if on_pixels:
        low = (low - 0.25).round()
    room = lengths - 2 * half
    centre = (torch.minimum(low, room).clamp(min=0) + half) * 2 / lengths - 1
    moves = (aims.labels > 0).unsqueeze(1) & (room > 0)
    return torch.cat([affine[..., :-1], torch.where(moves, centre, affine[..., -1]).unsqueeze(-1)], dim=-1)


def _pick(key: Key, name: str, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B,) whole numbers from 0, each below its count; 0 where that is 0."""
    even = uniform(key, name).numpy().astype(np.float64)
    return np.asarray((even * counts).astype(np.int64))


def _of(counts: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B,) the count of the class each row has; 0 for rows without."""
    return np.take_along_axis(np.pad(counts, ((0, 0), (1, 0))), labels[:, None], axis=1)[:, 0]
