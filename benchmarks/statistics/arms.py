"""Arms whose truth is known: true AUROC or Dice, and how much seeds differ about them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from cohorts import Cohort, Made, ignorant, marked
from measured import aurocs
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri
from scipy.stats import norm

Array = NDArray[Any]
TRIALS = 2000
DICE_DEVIATION = 0.6
"""Of the Dice of volumes, on the logit scale."""


def classified(rng: np.random.Generator, studies: int, cohort: Cohort, truths: Array, seeds: int, luck: float) -> Made:
    """Scores of arms whose true AUROC stand in `truths` (A,); `luck` is the seed variance of PLAN.md."""
    tested = cohort.draw(rng, studies)
    made = ignorant(rng, tested, len(truths), seeds)
    spread = np.array([luck_of(cohort, round(float(auroc), 6)) if luck else 0.0 for auroc in truths]) * np.sqrt(luck)
    shift = spread[:, None] * rng.standard_normal((studies, len(truths), seeds))
    shift += (np.sqrt(2 + spread**2) * ndtri(truths))[:, None]
    made += shift[..., None] * tested.positive[:, None, None]
    return Made(tested, marked(made, tested))


@cache
def luck_of(cohort: Cohort, auroc: float) -> float:
    """The deviation of binormal means over seeds that moves the AUROC as much as the drawing of patients does."""
    rng = np.random.default_rng(0)
    tested = cohort.draw(rng, TRIALS)
    made = ignorant(rng, tested, 1, 1)
    made += np.sqrt(2) * ndtri(auroc) * tested.positive[:, None, None]
    found, _ = aurocs(Made(tested, marked(made, tested)))
    slope = norm.pdf(ndtri(auroc)) / np.sqrt(2)
    return float(np.std(found) / slope)


def outlined(rng: np.random.Generator, studies: int, cohort: Cohort, mean: float, seeds: int, luck: float) -> Made:
    """The Dice of volumes of two arms that are equally good; the truth of both is `mean_dice`."""
    tested = cohort.draw(rng, studies)
    made = DICE_DEVIATION * ignorant(rng, tested, 2, seeds)
    made += dice_luck(cohort, luck) * rng.standard_normal((studies, 2, seeds, 1))
    return Made(tested, expit(logit(mean) + made))


def dice_luck(cohort: Cohort, luck: float) -> float:
    """The deviation over seeds of the mean on the logit scale: that of the mean over patients, times the root of
    `luck`."""
    images = np.arange(1, cohort.most + 1)
    of_patient = np.mean(cohort.within + (1 - cohort.within) / images)
    return float(np.sqrt(luck * DICE_DEVIATION**2 * of_patient / cohort.patients))


def mean_dice(cohort: Cohort, mean: float, luck: float) -> float:
    """Of a logistic normal variable, by Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    deviation = np.hypot(DICE_DEVIATION, dice_luck(cohort, luck))
    return float((weights * expit(logit(mean) + deviation * nodes)).sum() / weights.sum())
