"""The cells of PLAN.md."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from cohorts import Cohort
from numpy.typing import NDArray

from medprior.evaluation.curves import needed_budget, rising

Array = NDArray[Any]
Cell = Mapping[str, Any]
BUDGETS = (10, 20, 40, 80, 160)
CURVES = {
    "rising": (0.65, 0.70, 0.75, 0.80, 0.85),
    "saturating": (0.70, 0.78, 0.82, 0.84, 0.845),
    "flat": (0.75,) * 5,
    "late": (0.60, 0.60, 0.65, 0.75, 0.85),
}
RIVALS = 5
"""Arms beside the one from scratch in the part `many`."""


def arms() -> Iterator[Cell]:
    images = [(1, 0.0), (4, 0.0), (4, 0.5)]
    grid = itertools.product((0.7, 0.85, 0.95), (0.1, 0.3, 0.5), (30, 100, 300), images, (3, 5, 10), (0, 1))
    for auroc, prevalence, patients, (most, within), seeds, luck in grid:
        yield {"auroc": auroc, "prevalence": prevalence, "patients": patients, "images": most, "within": within,
               "seeds": seeds, "luck": luck}  # fmt: skip


def dice() -> Iterator[Cell]:
    for mean, patients, most, seeds, luck in itertools.product(
        (0.6, 0.8, 0.92), (10, 30, 100), (1, 3), (3, 5, 10), (0, 1)
    ):
        yield {"dice": mean, "patients": patients, "images": most, "seeds": seeds, "luck": luck}


def saved() -> Iterator[Cell]:
    places = ("10", "20", "40", "80", "above", "below")
    for curve, place, patients, seeds, luck in itertools.product(CURVES, places, (100, 300), (3, 10), (0, 1)):
        yield {"curve": curve, "place": place, "patients": patients, "prevalence": 0.3, "seeds": seeds, "luck": luck}


def many() -> Iterator[Cell]:
    for auroc, luck in itertools.product((0.7, 0.85), (0, 1)):
        yield {"auroc": auroc, "prevalence": 0.3, "patients": 100, "seeds": 5, "luck": luck}


def cohort_of(cell: Cell) -> Cohort:
    """The test patients of a cell; of a Dice all are of one class."""
    if "dice" in cell:
        return Cohort(cell["patients"], cell["patients"], cell["images"], 0.5 if cell["images"] > 1 else 0.0)
    positives = round(cell["patients"] * cell["prevalence"])
    return Cohort(cell["patients"], positives, cell.get("images", 1), cell.get("within", 0.0))


def truths(cell: Cell) -> Array:
    """The true AUROC of all points, (A,); in `saved` those of the curve, then that of the arm."""
    if "curve" not in cell:
        return np.full(2 if "images" in cell else RIVALS + 1, cell["auroc"])
    curve = CURVES[cell["curve"]]
    outside = {"above": curve[-1] + 0.03, "below": curve[0] - 0.03}
    ours = outside[cell["place"]] if cell["place"] in outside else curve[BUDGETS.index(int(cell["place"]))]
    return np.array([*curve, ours])


def true_labels(cell: Cell) -> tuple[float, float]:
    """Fewest and most labels at which the true curve has the true score of the arm."""
    *curve, ours = truths(cell)
    (least,), (most,) = needed_budget(np.array(BUDGETS), rising(np.array([curve])), np.array([ours]))
    return float(least), float(most)
