"""Patients drawn again and again within their class: the one resampling that every interval rests on.

Of the n patients of a stratum n - 1 are drawn, and counted so that they sum to n: the variance of a mean comes out
unbiased, where the usual n of n is too small (Rao & Wu, JASA 1988).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.evaluation.metrics import Kind, one_versus_rest

Array = NDArray[Any]


@dataclass(frozen=True)
class PatientDraws:
    """How often each patient stands in each replicate: `patients` (P,) sorted, `counts` (P, R)."""

    patients: Array
    counts: Array

    def weights(self, patients: Array) -> Array:
        """Weights (N, R) of images that belong to `patients` (N,)."""
        drawn: Array = self.counts[np.searchsorted(self.patients, patients)]
        return drawn


def first_rows(patients: Array) -> Array:
    """Each image's patient (N,) as the first row of that patient: tells patients apart without their names."""
    _, first, owner = np.unique(patients, return_index=True, return_inverse=True)
    rows: Array = first[owner]
    return rows


def draw_patients(
    patients: Array, targets: Array, kind: Kind, classes: int, *, replicates: int = 1000, seed: int = 0
) -> PatientDraws:
    """Bootstrap draws of the patients of all test images, within strata.

    The stratum of a patient is the rarest class, or positive label, among its images. Arguments are per image:
    `patients` (N,) names or numbers and `targets` as in `metrics`. Repeated images (the folds of a repeated study) do
    no harm.
    """
    names, owner = np.unique(patients, return_inverse=True)
    stratum = _strata(owner, len(names), one_versus_rest(targets, classes, kind))
    rng = np.random.default_rng(seed)
    counts = np.empty((len(names), replicates), np.float32)
    for which in np.unique(stratum):
        members = np.flatnonzero(stratum == which)
        counts[members] = _resampled(len(members), replicates, rng)
    return PatientDraws(names, counts)


def smallest_class(patients: Array, targets: Array, kind: Kind, classes: int) -> Array:
    """Patients on the rarer side of each class or label, (K,): of those who have it, or of those who lack it.

    A patient lacks a label when an image is known to be without it: one patient with many images may do both.
    """
    names, owner = np.unique(patients, return_inverse=True)
    truth = one_versus_rest(targets, classes, kind)
    has, lacks = (np.stack([_owners(owner, column == side, len(names)) for column in truth.T]) for side in (1, 0))
    fewest: Array = np.minimum(has.sum(1), lacks.sum(1))
    return fewest


def _strata(owner: Array, patients: int, truth: Array) -> Array:
    """The rarest class of each patient (-1: none), by how many patients have it; strata of one join the rest."""
    has = np.stack([_owners(owner, column == 1, patients) for column in truth.T])
    stratum = np.full(patients, -1)
    for label in np.argsort(-has.sum(1), kind="stable"):
        stratum[has[label]] = label
    lone = np.bincount(stratum + 1, minlength=len(has) + 1) == 1
    stratum[lone[stratum + 1]] = -1
    return stratum


def _owners(owner: Array, images: Array, patients: int) -> Array:
    flags = np.zeros(patients, bool)
    flags[owner[images]] = True
    return flags


def _resampled(size: int, replicates: int, rng: np.random.Generator) -> Array:
    """Counts (size, R) of `size - 1` draws, scaled to sum to `size`; one member stands in every replicate."""
    if size == 1:
        return np.ones((1, replicates))
    drawn = rng.integers(0, size, (size - 1, replicates)) * replicates + np.arange(replicates)
    counts = np.bincount(drawn.ravel(), minlength=size * replicates).reshape(size, replicates)
    return counts * (size / (size - 1))
