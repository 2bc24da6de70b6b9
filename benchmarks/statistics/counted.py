"""What is counted of the studies of each part: of all at once, and of one as medprior sees it.

Both give the same names: what is counted, (S,) of 0 and 1, and the bounds it was counted by, which stand in no table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from arms import mean_dice
from batched import Batch
from grid import BUDGETS, RIVALS, Cell, cohort_of, true_labels
from numpy.typing import NDArray
from scipy.special import expit

from medprior.evaluation.intervals import FEWEST, Interval, holm
from medprior.evaluation.luck import Sample
from medprior.evaluation.metrics import estimate
from medprior.evaluation.patientmeans import estimate as mean_of
from medprior.evaluation.strata import strata_of
from medprior.study.results import Arm, Points
from medprior.study.verdict.findings import Findings

Array = NDArray[Any]
Counts = dict[str, Array]
OURS, SCRATCH = Arm("ours", "encoder", "fine-tune"), Arm("scratch", "encoder", "scratch")
ROUNDING = 1e-9


def smallest(cell: Cell) -> int:
    """Patients in the smallest class; too few are taken for just enough, so that their intervals count, too."""
    cohort = cohort_of(cell)
    return max(cohort.patients if "dice" in cell else cohort.smallest, FEWEST)


def truth_of(cell: Cell) -> float:
    return mean_dice(cohort_of(cell), cell["dice"], cell["luck"]) if "dice" in cell else float(cell["auroc"])


def two_arms(cell: Cell, batch: Batch) -> Counts:
    """Of two arms that are equal in truth."""
    alone, apart = batch.at(0, batch.other_arms(0, (20, 20))), batch.compare(0, 1)
    assert apart.p is not None
    return _of_two(cell, (alone.low, alone.high), (apart.low, apart.high), apart.p)


def two_arms_alone(cell: Cell, samples: Sequence[Sample]) -> Counts:
    found = findings({(OURS, 20): samples[0], (SCRATCH, 20): samples[1]}, cell)
    apart = found.compare(OURS, SCRATCH, 20)
    return _of_two(cell, ends(found.at(OURS, 20)), ends(apart), np.array([apart.p]))


def _of_two(cell: Cell, alone: tuple[Array, Array], apart: tuple[Array, Array], p: Array) -> Counts:
    truth = truth_of(cell)
    return {
        "covered": hold(*alone, truth),
        "difference covered": hold(*apart, 0.0),
        "rejected": p < 0.05,
        "width": alone[1] - alone[0],
        "low": alone[0],
        "difference low": apart[0],
        "difference high": apart[1],
        "p": p,
    }


def saved(cell: Cell, batch: Batch) -> Counts:
    return _of_saving(cell, *batch.saving(len(BUDGETS), (*BUDGETS, 20)))


def saved_alone(cell: Cell, samples: Sequence[Sample]) -> Counts:
    points = [*((SCRATCH, budget) for budget in BUDGETS), (OURS, 20)]
    found = findings(dict(zip(points, samples, strict=True)), cell).saving(OURS, SCRATCH, 20)
    return _of_saving(cell, np.array([found.low * 20]), np.array([found.high * 20]))


def _of_saving(cell: Cell, low: Array, high: Array) -> Counts:
    """The truth is the set of budgets at which the true curve has the arm's true score."""
    least, most = true_labels(cell)
    return {
        "covered": (low <= least + ROUNDING) & (high >= most - ROUNDING),
        "open below": low == 0,
        "open above": np.isinf(high),
        "low": low,
        "high": high,
    }


def many(cell: Cell, batch: Batch) -> Counts:
    """Of arms against one from scratch, which comes first; a rival's number is its place after it."""
    contrasts = [batch.compare(rival, 0) for rival in range(1, RIVALS + 1)]
    widened = [batch.compare(rival, 0, level=1 - 0.05 / RIVALS) for rival in range(1, RIVALS + 1)]
    picked, rows = batch.means[:, 1:].argmax(1), np.arange(len(batch.means))
    p = np.stack([one.p for one in contrasts if one.p is not None], 1)
    low, high = (np.stack([getattr(one, end) for one in widened], 1)[rows, picked] for end in ("low", "high"))
    return _of_many(p, low, high)


def many_alone(cell: Cell, samples: Sequence[Sample]) -> Counts:
    arms = [Arm(f"arm{rival}", "encoder", "fine-tune") for rival in range(RIVALS)]
    found = findings({(arm, 20): one for arm, one in zip([SCRATCH, *arms], samples, strict=True)}, cell)
    p = np.array([[found.compare(arm, SCRATCH, 20).p for arm in arms]])
    picked = found.compare(found.pretrained(20)[0], SCRATCH, 20, picked_from=RIVALS)
    return _of_many(p, *ends(picked))


def _of_many(p: Array, low: Array, high: Array) -> Counts:
    return {
        "any rejected (Holm)": np.array([(holm(each) < 0.05).any() for each in p]),
        "picked leaves out 0": ~hold(low, high, 0.0),
        "p": p,
        "low": low,
        "high": high,
    }


def findings(samples: Mapping[tuple[Arm, int], Sample], cell: Cell) -> Findings:
    """What a verdict asks."""
    return Findings(None, Points(dict(samples), smallest(cell)), "auroc")  # type: ignore[arg-type]


def hold(low: Array, high: Array, truth: float) -> Array:
    """Whether bounds hold the truth; those that are NaN do not."""
    return (low <= truth) & (truth <= high)


def ends(found: Interval) -> tuple[Array, Array]:
    """Bounds (1,), NaN where there are none."""
    low, high = (np.array([np.nan if end is None else end]) for end in (found.low, found.high))
    return low, high


def auroc_sample(scores: Array, owner: Array, cell: Cell) -> Sample:
    """Scores (C, n) of an arm as chances, measured as medprior measures them."""
    truth = (owner < cohort_of(cell).positives).astype(np.float64)
    strata = strata_of(owner, truth, "binary", 2)
    found = [estimate("auroc", np.stack([1 - p, p], 1), truth, "binary") for p in expit(scores)]
    return _sample([one.value for one in found], np.stack([strata.spread(owner, one.pulls) for one in found]))


def dice_sample(volumes: Array, owner: Array, cell: Cell) -> Sample:
    """The Dice (C, n) of volumes."""
    patients = np.arange(cell["patients"])
    strata = strata_of(patients, np.ones((len(patients), 1)), "multilabel", 1)
    found = [mean_of((np.bincount(owner, dice) / np.bincount(owner))[:, None]) for dice in volumes]
    return _sample([one.value for one in found], np.stack([strata.spread(patients, one.pulls) for one in found]))


def _sample(values: Sequence[float], moves: Array) -> Sample:
    return Sample(np.array(values), moves, np.arange(len(values)), np.full(len(values), -1))
