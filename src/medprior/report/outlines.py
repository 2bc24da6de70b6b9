"""From a finished study of outlines to what its report shows of them: scans with contours, and scores by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.errors import MedpriorError
from medprior.evaluation.segmentation import Metric
from medprior.report.content import ClassScore, Key, Labels, OutlinedScan, Outlines, Plane, names_of
from medprior.report.contours import changes
from medprior.report.drawings import DETAIL
from medprior.study.arms import Cell
from medprior.study.cells import Bench
from medprior.study.classes import outline_scores
from medprior.study.ground import Ground
from medprior.study.outlining import kept_maps
from medprior.study.results import Arm
from medprior.study.study import Outcome

PLACES: Mapping[int, tuple[str, ...]] = {1: ("only",), 2: ("worst", "best"), 3: ("worst", "middle", "best")}
AXES = ("axial", "coronal", "sagittal")
WINDOW = 224
"""Pixels of the file, across and down, that are shown of an image whose outlines would cover a picture of the whole."""
FINE = 3_000
"""Edges of pixels along the outlines of such an image, in a picture of the whole `WINDOW` pixels wide."""
Kept = tuple[int, float, Labels]
"""Row, mean Dice and label map of a test scan."""


def outlines_of(outcome: Outcome) -> Outlines | None:
    """The worst, the middle and the best test scan of the smallest and the largest budget, as scratch and the best
    pre-trained arm outlined them; None where no cell kept any."""
    names, bench = names_of(outcome.verdict), _bench(outcome)
    kept = [
        (budget, names[_key(arm)], maps)
        for budget in sorted({min(outcome.grid.budgets), max(outcome.grid.budgets)})
        for arm in _compared(outcome)
        if (maps := _kept(outcome, bench, arm, budget))
    ]
    if not kept:
        return None
    planes = _all_planes(outcome.ground, kept)
    shown: dict[int, list[tuple[str, list[OutlinedScan]]]] = {}
    for budget, name, maps in kept:
        places = zip(PLACES[len(maps)], maps, strict=True)
        scans = [OutlinedScan(place, row, dice, planes[budget, name, row]) for place, (row, dice, _) in places]
        shown.setdefault(budget, []).append((name, scans))
    return Outlines(outcome.ground.task.names, list(shown.items()))


def scores_by_class(outcome: Outcome) -> list[ClassScore]:
    """What every arm but the longer scratch scores in every class at the largest budget."""
    names, metrics = names_of(outcome.verdict), metric_titles(outcome)
    budget = max(outcome.grid.budgets)
    return [
        {
            "arm": names[_key(found.arm)],
            "budget": budget,
            "class": found.name,
            "metric": metrics[found.metric],
            "mean": found.score.value,
            "low": found.score.low,
            "high": found.score.high,
        }
        for found in outline_scores(outcome.results)
        if found.budget == budget and found.arm.adaptation != "scratch-2x"
    ]


def metric_titles(outcome: Outcome) -> dict[Metric, str]:
    """What each metric is called where scans are measured in millimetres, in pixels, or some in each."""
    known = outcome.ground.catalog.table["spacing"].notna()
    unit = "mm" if known.all() else "mm, or pixels where no spacing is known" if known.any() else "pixels"
    tolerance = f"{outcome.settings.study.tolerance:g}"
    return {
        "dice": "Dice",
        "hd95": f"95% Hausdorff distance ({unit})",
        "surface_dice": f"Surface Dice (tolerance {tolerance} {unit})",
    }


def note_on_classes(outcome: Outcome) -> str:
    """What the intervals of these scores cover."""
    seeds = outcome.grid.seeds
    mean = "" if seeds == 1 else f"Scores are means over {seeds} adaptation seeds. "
    return (
        f"{mean}The intervals are over test patients: the luck of seeds and of pre-training runs is not in them. A "
        "class that was missed, or seen where there is none, has a distance as long as the diagonal of the scan."
    )


def _compared(outcome: Outcome) -> list[Arm]:
    """Scratch and the arm that the verdict found best at the smallest budget, both with the same encoder."""
    smallest = min(outcome.grid.budgets)
    rows = [row for row in outcome.verdict["arms"] if row["budget"] == smallest and row["mean"] is not None]
    arms = {Arm(row["arm"], row["encoder"], row["adaptation"]): row["mean"] for row in rows}
    pretrained = [arm for arm in arms if not arm.scratch]
    best = max(pretrained, key=lambda arm: arms[arm], default=None)
    scratch = [arm for arm in arms if arm.adaptation == "scratch" and (best is None or arm.encoder == best.encoder)]
    return [*scratch[:1], *([best] if best is not None else [])]


def _bench(outcome: Outcome) -> Bench:
    ground = outcome.ground
    return Bench(ground, ground.volumes.resident("cpu"), outcome.settings, {}, outcome.out)


def _kept(outcome: Outcome, bench: Bench, arm: Arm, budget: int) -> list[Kept]:
    """What the first cell of an arm kept at a budget."""
    return next((kept_maps(bench.maps_path(cell)) for cell in outcome.grid.cells() if _is(cell, arm, budget)), [])


def _is(cell: Cell, arm: Arm, budget: int) -> bool:
    return (cell.arm, cell.backbone, cell.adaptation) == (arm.name, arm.encoder, arm.adaptation) and (
        cell.budget,
        cell.seed,
        cell.fold,
    ) == (budget, 0, 0)


def _key(arm: Arm) -> Key:
    return arm.name, arm.adaptation, arm.encoder


def _all_planes(
    ground: Ground, kept: Sequence[tuple[int, str, list[Kept]]]
) -> dict[tuple[int, str, int], tuple[Plane, ...]]:
    """The planes of every scan by budget, arm and row, each scan read once."""
    wanted: dict[int, list[tuple[int, str, Labels]]] = {}
    for budget, name, maps in kept:
        for row, _, labels in maps:
            wanted.setdefault(row, []).append((budget, name, labels))
    found = {}
    for row, many in wanted.items():
        for (budget, name, _), planes in zip(many, _planes(ground, row, [m[-1] for m in many]), strict=True):
            found[budget, name, row] = planes
    return found


def _planes(ground: Ground, row: int, predicted: Sequence[Labels]) -> list[tuple[Plane, ...]]:
    """The planes of a scan with each of some outlines of it; none where it may not or cannot be shown."""
    nothing: list[tuple[Plane, ...]] = [()] * len(predicted)
    if ground.catalog.table["burnt"].iat[row] is not None:
        return nothing
    try:
        truth = ground.catalog.read_mask(row)
        pixels = ground.volumes.resident("cpu").unit(row)
    except MedpriorError:
        return nothing
    if truth is None or any(labels.shape != truth.shape for labels in predicted):
        return nothing
    spacing: Any = ground.catalog.table["spacing"].iat[row]
    truth = np.where(truth < ground.task.outputs, truth, 0)  # what was not judged has no outline
    steps = (1.0,) * truth.ndim if spacing is None else tuple(map(float, spacing))
    upright = str(ground.catalog.table["orientation"].iat[row]) == "SPL"
    return [tuple(cut_planes(pixels, truth, labels, steps, upright=upright)) for labels in predicted]


def cut_planes(
    pixels: torch.Tensor, truth: Labels, predicted: Labels, spacing: Sequence[float], *, upright: bool
) -> list[Plane]:
    """An image in its one plane, or a detail of it where outlines are too fine for a picture of the whole; a volume in
    the plane across each axis that holds most of the truth.

    Args:
        pixels: (C, *S) in [0, 1], of the same box as the maps, maybe in another grid.
        truth, predicted: (*S) class indices.
        spacing: mm along each axis of the maps.
        upright: whether axes run towards the head, the back and the left, so that they have names and a top.
    """
    shown = pixels if len(pixels) == 3 else pixels[:1]
    if truth.ndim == 2:
        name, window = (DETAIL, detail(truth)) if _too_fine(truth, shown) else ("", (slice(None), slice(None)))
        grey = _bytes(shown[:, *window])
        return [Plane(name, grey, truth[window], predicted[window], (spacing[0], spacing[1]))]
    planes = []
    for axis, place in enumerate(fullest(truth)):
        steps = [step for other, step in enumerate(spacing) if other != axis]
        near = int((place + 0.5) * shown.shape[axis + 1] / truth.shape[axis])
        grey, *maps = _bytes(shown.select(axis + 1, near)), truth.take(place, axis), predicted.take(place, axis)
        if axis and upright:  # volumes begin at the feet
            grey, maps = grey[:, ::-1], [labels[::-1] for labels in maps]
        name = AXES[axis] if upright else f"axis {axis + 1}"
        planes.append(Plane(name, grey, maps[0], maps[1], (steps[0], steps[1])))
    return planes


def _too_fine(truth: Labels, pixels: torch.Tensor) -> bool:
    """Whether a picture of a whole image would show little but lines; an image in another grid is shown whole."""
    step = -(-max(truth.shape) // WINDOW)
    return step > 1 and truth.shape == pixels.shape[1:] and changes(truth[::step, ::step]) > FINE


def detail(truth: Labels) -> tuple[slice, slice]:
    """The window of a map (H, W), `WINDOW` pixels wide and high at most, in which classes end most often."""
    ends = np.zeros(truth.shape, np.int64)
    ends[:-1] += truth[:-1] != truth[1:]
    ends[:, :-1] += truth[:, :-1] != truth[:, 1:]
    sums = np.pad(ends.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    high, wide = (min(WINDOW, side) for side in truth.shape)
    inside = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    top, left = (int(place) for place in np.unravel_index(inside.argmax(), inside.shape))
    return slice(top, top + high), slice(left, left + wide)


def fullest(truth: Labels) -> list[int]:
    """The plane across each axis that holds most of the classes; the middle one where there is none of them."""
    there = truth > 0
    if not there.any():
        return [length // 2 for length in truth.shape]
    axes = range(truth.ndim)
    return [int(there.sum(axis=tuple(other for other in axes if other != axis)).argmax()) for axis in axes]


def _bytes(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """(C, H, W) in [0, 1] as grey levels."""
    found: NDArray[np.uint8] = (pixels * 255).round().to(torch.uint8).numpy()
    return found
