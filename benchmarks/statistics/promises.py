"""What PLAN.md promises, and which cells keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grid
from scipy.special import betaincinv

from medprior.evaluation.intervals import FEWEST

Row = dict[str, str]


@dataclass(frozen=True)
class Promise:
    """A rate that shall lie from `low` to `high` in the cells of `part` that are `meant`."""

    part: str
    column: str
    title: str
    low: float
    high: float
    meant: Callable[[Row], bool]

    def cells(self, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if self.meant(row)]

    def kept(self, row: Row) -> bool:
        return self.low <= float(row[self.column]) <= self.high

    def surely_missed(self, row: Row) -> bool:
        """Whether the 95% interval of the rate lies outside altogether."""
        bounds = between(row, self.column)
        return bounds[1] < self.low or bounds[0] > self.high

    def beyond(self, row: Row) -> float:
        """How far a rate lies towards or beyond the nearer limit; above 0 where the promise is not kept."""
        rate = float(row[self.column])
        return max(self.low - rate, rate - self.high)


def enough(row: Row) -> bool:
    return smallest(row) >= FEWEST


def smallest(row: Row) -> int:
    """Patients in the smallest class."""
    if "dice" in row:
        return int(row["patients"])
    positives = round(int(row["patients"]) * float(row["prevalence"]))
    return min(positives, int(row["patients"]) - positives)


def single(row: Row) -> bool:
    """Whether one number of labels, inside what was measured, is the truth."""
    least, most = grid.true_labels(row)
    return least == most


def several(row: Row) -> bool:
    return not single(row)


PROMISES = [
    Promise("arms", "covered", "AUROC: interval of an arm", 0.93, 0.97, enough),
    Promise("arms", "difference covered", "AUROC: interval of a difference", 0.93, 0.97, enough),
    Promise("arms", "rejected", "AUROC: rejections of a true null", 0.04, 0.06, enough),
    Promise("dice", "covered", "Dice: interval of an arm", 0.93, 0.97, enough),
    Promise("dice", "difference covered", "Dice: interval of a difference", 0.93, 0.97, enough),
    Promise("dice", "rejected", "Dice: rejections of a true null", 0.04, 0.06, enough),
    Promise("saved", "covered", "Labels saved: one number inside the measured range", 0.93, 0.97, single),
    Promise("saved", "covered", "Labels saved: a range, or outside what was measured", 0.93, 1.0, several),
    Promise("many", "any rejected (Holm)", "Five arms: anything rejected after Holm", 0.0, 0.06, enough),
    Promise("many", "picked leaves out 0", "Five arms: the picked one's interval leaves out 0", 0.0, 0.06, enough),
]


def between(row: Row, column: str) -> tuple[float, float]:
    """The 95% interval of a rate (Clopper and Pearson), from the number of its studies."""
    studies = int(row["studies"])
    seen = round(float(row[column]) * studies)
    low = betaincinv(seen, studies - seen + 1, 0.025) if seen else 0.0
    high = betaincinv(seen + 1, studies - seen, 0.975) if seen < studies else 1.0
    return float(low), float(high)


def percent(rate: float, places: int = 1) -> str:
    return f"{100 * rate:.{places}f}%"


def said(row: Row) -> str:
    """A cell in words."""
    words = {
        "auroc": "AUROC {}", "dice": "Dice {}", "curve": "{} curve", "place": "truth at {}", "patients": "{} patients",
        "prevalence": "prevalence {}", "images": "1 to {} images", "within": "within {}", "seeds": "{} seeds",
        "luck": "seed variance {}",
    }  # fmt: skip
    plain = {key: value for key, value in row.items() if key in words and (key, value) != ("images", "1")}
    if row.get("images") == "1":
        plain.pop("within", None)
    return ", ".join(words[key].format(value) for key, value in plain.items())
