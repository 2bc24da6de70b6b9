"""Test sets and scores of models, made up as PLAN.md says; many studies at a time.

Arrays are (S studies, A arms, C seeds, N images). Studies differ in how many images their patients have: the rows of
those with fewer than N are filled up with places that belong to no patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SHARED, OF_ARM = 0.5, 0.2
"""Of the variance of scores: common to all models, and to those of one arm."""
MARK = 511
"""The bits at the end of every score that hold its patient."""
NOWHERE = 1e300
"""The score of a place without an image: above all others."""


@dataclass(frozen=True)
class Cohort:
    """Test patients: `positives` of `patients`, with as many images each as `most` at most, `within` alike."""

    patients: int
    positives: int
    most: int = 1
    within: float = 0.0

    def draw(self, rng: np.random.Generator, studies: int) -> Tested:
        return Tested(self, rng.integers(1, self.most + 1, (studies, self.patients)))

    @property
    def smallest(self) -> int:
        return min(self.positives, self.patients - self.positives)

    @property
    def typical(self) -> float:
        """Images of all patients."""
        return self.patients * (1 + self.most) / 2


class Tested:
    """The test images of S studies, patient by patient, those of positive patients first.

    `images` (S, P) are those of each patient, `owner` (S, N) is the patient of each image, P where there is none.
    """

    def __init__(self, cohort: Cohort, images: Array) -> None:
        self.cohort, self.images = cohort, images
        total = images.sum(1)
        self.there = np.arange(total.max()) < total[:, None]
        self.owner = np.full(self.there.shape, cohort.patients)
        self.owner[self.there] = np.repeat(np.tile(np.arange(cohort.patients), len(images)), images.ravel())

    def __len__(self) -> int:
        return len(self.images)

    @property
    def positive(self) -> Array:
        return self.owner < self.cohort.positives


@dataclass(frozen=True)
class Made:
    """Scores (S, A, C, N) of models, or the Dice of volumes."""

    tested: Tested
    scores: Array

    def one(self, study: int) -> tuple[Array, Array]:
        """The scores (A, C, n) of one study without what fills it up, and the patients (n,) of its images."""
        there = self.tested.there[study]
        return self.scores[study][..., there], self.tested.owner[study, there]

    def by_patient(self, owner: Array, scores: Array) -> Array:
        """Sums (S, A, C, P) of scores over the images of each patient; `owner` says whose they are, in the shape of
        scores."""
        models, places = scores.size // scores.shape[-1], self.tested.cohort.patients + 1
        place = owner.reshape(models, -1) + places * np.arange(models)[:, None]
        summed = np.bincount(place.ravel(), scores.ravel(), models * places)
        return summed.reshape(*scores.shape[:3], places)[..., :-1]


def ignorant(rng: np.random.Generator, tested: Tested, arms: int, seeds: int) -> Array:
    """(S, A, C, N) scores of models that know nothing."""
    within, studies = tested.cohort.within, len(tested)
    made = noise(rng, (studies, arms, seeds, tested.owner.shape[1]), np.sqrt(1 - within))
    if within:
        of_patient = noise(rng, (studies, arms, seeds, tested.cohort.patients + 1), np.sqrt(within))
        for study, owner in enumerate(tested.owner):
            made[study] += of_patient[study][..., owner]
    return made


def noise(rng: np.random.Generator, shape: tuple[int, int, int, int], size: float) -> Array:
    """(S, A, C, count) normal numbers of deviation `size` that go together over models as PLAN.md says."""
    studies, arms, seeds, count = shape
    common = np.sqrt(SHARED) * size * rng.standard_normal((studies, 1, 1, count))
    common = common + np.sqrt(OF_ARM) * size * rng.standard_normal((studies, arms, 1, count))
    made = rng.standard_normal((studies, arms, seeds, count))
    made *= np.sqrt(1 - SHARED - OF_ARM) * size
    made += common
    return made


def marked(made: Array, tested: Tested) -> Array:
    """Scores with their patients in the last bits, which changes them by less than 1e-12; places without an image come
    last. Written over `made`."""
    np.copyto(made, NOWHERE, where=~tested.there[:, None, None])
    bits = made.view(np.int64)
    bits &= ~MARK
    bits |= tested.owner[:, None, None]
    return made
