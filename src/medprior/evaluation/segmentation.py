"""Scores of a label map against the truth: Dice, 95% Hausdorff distance and normalised surface Dice, class by class.

Conventions
-----------
- The background, class 0, is never scored. Voxels whose truth is negative were not judged: they belong to no class.
- A class that neither map has is not scored: NaN in all three. A class that only one map has is a failure: Dice and
  surface Dice 0, HD95 the diagonal of the volume, as the BraTS challenges count it. MONAI gives a missed class no HD95
  at all (NaN), and a false alarm no Dice, so that its means grow better with every failure.
- HD95 is the larger of the two directed 95th percentiles, in mm (MONAI). Programs that pool both directions first
  report less. The surface is made of the voxels that touch another class through a face, each counted alike.
- Normalised surface Dice (Nikolov et al. 2021, J Med Internet Res 23(7)) is the share of both surfaces that lies within
  a tolerance of the other. Pieces of surface count by their area in mm^2, as in that paper; MONAI does so only when
  asked, and otherwise counts voxels, which makes thick slices count too much.
- Where a structure leaves the volume, the cut is part of its surface.
- Axes of one voxel are left out: a volume of one slice is scored as an image, else all of it would be surface.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from medprior.errors import DataError, SettingsError

Array = NDArray[Any]
Box = tuple[slice, ...]
Metric = Literal["dice", "hd95", "surface_dice"]
METRICS: tuple[Metric, ...] = get_args(Metric)
TITLES: dict[Metric, str] = {"dice": "Dice", "hd95": "95% Hausdorff distance in mm", "surface_dice": "surface Dice"}
"""How each metric is written in a sentence."""
_ROUNDING = 1e-6  # MONAI measures in float32: what lies at the tolerance is within it


@dataclass(frozen=True)
class Scores:
    """What was measured of one or more label maps; arrays of (..., K) for K classes beside the background.

    Attributes:
        dice: 0 to 1, NaN where a class is in neither map.
        hd95: mm, likewise.
        surface_dice: 0 to 1, likewise.
        present: bool, whether the truth has the class.
    """

    dice: Array
    hd95: Array
    surface_dice: Array
    present: Array

    def of(self, metric: Metric) -> Array:
        """The values of one metric."""
        return {"dice": self.dice, "hd95": self.hd95, "surface_dice": self.surface_dice}[metric]


def score_labels(
    predicted: Array, truth: Array, classes: int, spacing: Sequence[float], *, tolerance: float = 1.0
) -> Scores:
    """The scores (K,) of one label map, K = `classes` - 1; see the conventions above.

    Args:
        predicted: (*S) class indices, S = (H, W) or (D, H, W).
        truth: (*S) class indices; below 0 what was not judged.
        classes: how many there are, with the background.
        spacing: mm along each axis of S.
        tolerance: mm that two readers may differ by, for the surface Dice.

    Raises:
        DataError: shapes that differ, or labels that are no classes.
        SettingsError: spacing or tolerance that are no lengths.
    """
    predicted, truth = _checked(predicted, truth, classes)
    steps = _lengths(spacing, truth.ndim, tolerance)
    diagonal = math.hypot(*(n * step for n, step in zip(truth.shape, steps, strict=True)))
    axes = _thick(truth.shape)
    steps = tuple(steps[axis] for axis in axes)
    predicted, truth = (labels.reshape([labels.shape[axis] for axis in axes]) for labels in (predicted, truth))
    rows = []
    for label, box in enumerate(_boxes(predicted, truth, classes), start=1):
        if box is None:
            rows.append((math.nan, math.nan, math.nan, False))
        else:
            rows.append(_scored(predicted[box] == label, truth[box] == label, steps, tolerance, diagonal))
    values = np.array(rows, np.float64).T
    return Scores(values[0], values[1], values[2], values[3] > 0)


def _scored(
    ours: Array, theirs: Array, spacing: tuple[float, ...], tolerance: float, diagonal: float
) -> tuple[float, float, float, bool]:
    """Of one class, in the box that holds both; at least one of them is there."""
    sizes = np.count_nonzero(ours), np.count_nonzero(theirs)
    if not all(sizes):
        return 0.0, diagonal, 0.0, bool(sizes[1])
    dice = 2 * np.count_nonzero(ours & theirs) / sum(sizes)
    return dice, *_surfaces(ours, theirs, spacing, tolerance), True


def _surfaces(ours: Array, theirs: Array, spacing: tuple[float, ...], tolerance: float) -> tuple[float, float]:
    """HD95 and surface Dice by MONAI, which takes seconds to import."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    pair = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (ours, theirs)]
    within = [tolerance * (1 + _ROUNDING)]
    with _denormals(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI's of its own code
        far = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
        near = compute_surface_dice(*pair, within, include_background=True, spacing=spacing, use_subvoxels=True)
    return float(far), float(near)


@contextmanager
def _denormals() -> Iterator[None]:
    """Tiny numbers kept inside: SciPy's search trees step past zero by the smallest number there is, and where a
    training has denormals flushed they never get past it and overrun the stack."""
    import torch

    flushed = bool(np.float64(np.nextafter(0.0, 1.0)) * np.float64(1.0) == 0)
    if flushed:
        torch.set_flush_denormal(False)
    try:
        yield
    finally:
        if flushed:
            torch.set_flush_denormal(True)


def _boxes(predicted: Array, truth: Array, classes: int) -> list[Box | None]:
    """The smallest box around each class in both maps, one pass over each; None where neither has it."""
    found = (find_objects(labels, max_label=classes - 1) for labels in (predicted, truth))
    return [_around(*both) for both in zip(*found, strict=True)]


def _around(one: Box | None, other: Box | None) -> Box | None:
    if one is None or other is None:
        return one or other
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def _checked(predicted: Array, truth: Array, classes: int) -> tuple[Array, Array]:
    """Both as whole numbers, background where nothing was judged."""
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or truth.ndim not in (2, 3):
        raise DataError(f"a label map of shape {predicted.shape} cannot be held against one of {truth.shape}")
    if predicted.dtype.kind not in "iu" or truth.dtype.kind not in "iu":
        raise DataError(f"label maps hold whole numbers, not {predicted.dtype} and {truth.dtype}")
    judged = truth >= 0
    if not judged.all():
        predicted, truth = predicted * judged, truth * judged
    if predicted.min(initial=0) < 0 or max(predicted.max(initial=0), truth.max(initial=0)) >= classes:
        raise DataError(f"the label maps hold numbers that are none of the {classes} classes")
    return predicted, truth


def _thick(shape: tuple[int, ...]) -> list[int]:
    """The axes of more than one voxel, and as many others as make two."""
    return sorted(sorted(range(len(shape)), key=lambda axis: shape[axis] == 1)[: max(2, sum(n > 1 for n in shape))])


def _lengths(spacing: Sequence[float], axes: int, tolerance: float) -> tuple[float, ...]:
    steps = tuple(float(step) for step in spacing)
    if len(steps) != axes or not all(math.isfinite(step) and step > 0 for step in steps):
        raise SettingsError(f"{list(steps)} is no spacing of {axes} axes in mm", where="spacing")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise SettingsError(f"{tolerance} is no tolerance in mm", where="tolerance", do="Give 0 or more")
    return steps
