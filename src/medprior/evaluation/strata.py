"""Test patients in strata, by the rarest class that each has: what varies when others had been tested in their place.

How a score would vary is read from how far each patient pulls it (the infinitesimal jackknife: Efron & Stein, Ann Stat
1981), as if as many patients of each stratum were drawn again. Of the AUROC it is Obuchowski's clustered variance
(Biometrics 1997). Nothing is drawn, so that the same test set always gives the same interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.evaluation.measures import Estimate
from medprior.evaluation.metrics import Kind, one_versus_rest

Array = NDArray[Any]


@dataclass(frozen=True)
class Strata:
    """`patients` (P,) sorted, and the stratum of each, (P,)."""

    patients: Array
    stratum: Array

    def spread(self, patients: Array, pulls: Array) -> Array:
        """How far each patient moves a score, (P,): the sum of their squares is the variance of the score.

        Args:
            patients: (N,) whose image each is; those of one fold, for instance, and not all.
            pulls: (N,) of every image, see `measures`.
        """
        apart, size = self.apart(patients, pulls)
        return apart * np.sqrt(np.where(size > 1, size / np.maximum(size - 1, 1), 1))

    def apart(self, patients: Array, pulls: Array) -> tuple[Array, Array]:
        """The pull of each patient less the mean of its stratum among these `patients` (see `spread`), (P,), and how
        many of the stratum are there, (P,); both 0 of a patient who is not."""
        place = np.searchsorted(self.patients, patients)
        members = np.unique(place)
        pulled = np.bincount(place, pulls, len(self.patients))[members]
        _, stratum, size = np.unique(self.stratum[members], return_inverse=True, return_counts=True)
        centre = np.bincount(stratum, pulled) / size
        alone = size == 1  # one patient cannot vary about a mean of its own: it varies about none
        apart, there = np.zeros(len(self.patients)), np.zeros(len(self.patients), np.int64)
        apart[members] = pulled - np.where(alone, 0, centre)[stratum]
        there[members] = size[stratum]
        return apart, there


def over_folds(strata: Strata, folds: Iterable[tuple[Array, Estimate]]) -> tuple[float, Array]:
    """The score of one model of each fold: the mean over the folds that can be scored, and how far each patient moves
    it, (P,); NaN and zeros where none can.

    A small fold may lack a class: it counts for nothing then. Means of folds are linear in their pulls, so that a
    patient moves the mean by the mean of what it moves the folds by, 0 in those that it is not tested in. A patient is
    compared with its own fold alone, which takes from it what is common to the fold; that is made up for (`_unshrunk`).

    Args:
        strata: of the test patients of all folds.
        folds: of every fold the patient of each image, (N,), and the score with the pull of each image.
    """
    measured = [(patients, one) for patients, one in folds if one.measured]
    if not measured:
        return float("nan"), np.zeros(len(strata.patients))
    value = float(np.mean([one.value for _, one in measured]))
    parts = [strata.apart(patients, one.pulls) for patients, one in measured]
    moved = np.sum([apart for apart, _ in parts], axis=0) / len(parts)
    return value, moved * _unshrunk(np.stack([size for _, size in parts]))


def _unshrunk(size: Array) -> Array:
    """(P,) what makes up for centring within folds, from how many of a patient's stratum are in each fold, (F, P).

    Of n together each keeps 1 - 1 / n of its own and takes 1 / n of every other. Summed over folds a patient keeps all
    of its own parts, as repeats of a cross-validation test it again and again, but its companions change: their parts
    add up as squares. In one fold this is the root of n / (n - 1).
    """
    there, alone = size > 0, size == 1
    shares = 1 / np.maximum(size, 1)
    own = np.where(alone, 1, there * (1 - shares)).sum(0)
    others = (there * shares * (1 - shares)).sum(0)
    times = there.sum(0)
    factors: Array = np.sqrt(np.where(times > 0, times**2 / np.where(times > 0, own**2 + others, 1), 0))
    return factors


def thin_folds(smallest: Sequence[int], fewest: int) -> str:
    """Why folds with so many patients of the smallest class each (0: it is not measured there) hold too few of it for
    an interval, or ""; one fold alone is no matter."""
    measured = [count for count in smallest if count > 0]
    each = sum(measured) / len(measured) if measured else 0.0
    if len(smallest) < 2 or each >= fewest:
        return ""
    return f"folds hold {each:.1f} patients of the smallest class, too few"


def first_rows(patients: Array) -> Array:
    """Each image's patient (N,) as the first row of that patient: tells patients apart without their names."""
    _, first, owner = np.unique(patients, return_index=True, return_inverse=True)
    rows: Array = first[owner]
    return rows


def strata_of(patients: Array, targets: Array, kind: Kind, classes: int) -> Strata:
    """The strata of the patients of all test images.

    The stratum of a patient is the rarest class, or positive label, among its images. Arguments are per image:
    `patients` (N,) names or numbers and `targets` as in `metrics`. Repeated images (the folds of a repeated study) do
    no harm.
    """
    names, owner = np.unique(patients, return_inverse=True)
    return Strata(names, _strata(owner, len(names), one_versus_rest(targets, classes, kind)))


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
