"""The scores of all models of a batch of studies, and how far each patient moves them.

What `measures.auroc`, `patientmeans.estimate` and `Strata.spread` of medprior give one model after the other, where no
two scores are equal, all patients of a class are one stratum, and nothing is unknown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cohorts import MARK, Made
from numpy.typing import NDArray

Array = NDArray[Any]
Measured = tuple[Array, Array]
"""Values (S, A, C) and moves (S, A, C, P)."""


def aurocs(made: Made) -> Measured:
    """From scores that carry their patients, see `cohorts.marked`.

    With one sort per model: going up, a positive image has outscored all negative ones before it, and a negative one is
    outscored by all positive ones that are left (Obuchowski's structural components, Biometrics 1997).
    """
    cohort, images = made.tested.cohort, made.tested.images
    owner = np.sort(made.scores, axis=-1).view(np.int64)
    owner &= MARK
    negative = owner >= cohort.positives
    before = np.cumsum(negative, axis=-1)
    positives, negatives = (each.sum(1)[:, None, None, None] for each in _by_class(images, cohort.positives))
    left = positives - np.arange(1, owner.shape[-1] + 1) + before
    won = made.by_patient(owner, np.where(negative, left, before))
    values = won[..., : cohort.positives].sum(-1) / (positives * negatives)[..., 0]
    share = np.concatenate([each / each.sum(1, keepdims=True) for each in _by_class(images, cohort.positives)], axis=1)
    pulls = won / (positives * negatives) - values[..., None] * share[:, None, None]
    return values, np.concatenate([moves(each) for each in _by_class(pulls, cohort.positives)], axis=-1)


def dices(made: Made) -> Measured:
    """The mean over patients of the means over their volumes."""
    owner = np.broadcast_to(made.tested.owner[:, None, None], made.scores.shape)
    means = made.by_patient(owner, made.scores) / made.tested.images[:, None, None]
    values = means.mean(-1)
    return values, moves((means - values[..., None]) / means.shape[-1])


def moves(pulls: Array) -> Array:
    """Of the patients of one stratum, from the sums (..., P) of the pulls of their images."""
    count = pulls.shape[-1]
    return (pulls - pulls.mean(-1, keepdims=True)) * np.sqrt(count / (count - 1))


def _by_class(values: Array, positives: int) -> tuple[Array, Array]:
    return values[..., :positives], values[..., positives:]
