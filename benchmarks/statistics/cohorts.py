"""Made-up studies whose truth is known, as PLAN.md has them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from medprior.evaluation.luck import Sample
from medprior.evaluation.metrics import estimate
from medprior.evaluation.patientmeans import estimate as mean_of
from medprior.evaluation.strata import Strata, strata_of

Array = NDArray[Any]
SHARED, OF_ARM = 0.5, 0.2
"""Of the variance of scores: common to all models, and to those of one arm."""
TRIALS = 2000


@dataclass(frozen=True)
class Cohort:
    """Test patients: `positives` of `patients`, with as many images each as `most` at most, `within` alike."""

    patients: int
    positives: int
    most: int = 1
    within: float = 0.0

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """The patient and the class of every image."""
        images = rng.integers(1, self.most + 1, self.patients)
        owner = np.repeat(np.arange(self.patients), images)
        return owner, (owner < self.positives).astype(np.float64)

    @property
    def smallest(self) -> int:
        return min(self.positives, self.patients - self.positives)


def noise(rng: np.random.Generator, shape: tuple[int, int], count: int) -> Array:
    """(A arms, S seeds, count) normal numbers that go together over models as PLAN.md says."""
    arms, seeds = shape
    parts = [(1, 1), (arms, 1), (arms, seeds)]
    sizes = np.sqrt([SHARED, OF_ARM, 1 - SHARED - OF_ARM])
    total: Array = sum(size * rng.standard_normal((*part, count)) for size, part in zip(sizes, parts, strict=True))  # type: ignore[assignment]
    return np.broadcast_to(total, (arms, seeds, count))


def scores(rng: np.random.Generator, cohort: Cohort, owner: Array, shape: tuple[int, int]) -> Array:
    """(A, S, images) scores of models that know nothing."""
    of_patient, of_image = noise(rng, shape, cohort.patients), noise(rng, shape, len(owner))
    together: Array = np.sqrt(cohort.within) * of_patient[..., owner] + np.sqrt(1 - cohort.within) * of_image
    return together


def auroc_samples(rng: np.random.Generator, cohort: Cohort, truths: Array, seeds: int, luck: float) -> list[Sample]:
    """A sample for each arm, whose true AUROC stands in `truths` (A,); `luck` is the seed variance of PLAN.md."""
    owner, truth = cohort.draw(rng)
    strata = strata_of(owner, truth, "binary", 2)
    made = scores(rng, cohort, owner, (len(truths), seeds))
    samples = []
    for auroc, of_arm in zip(truths, made, strict=True):
        spread = luck_of(cohort, round(float(auroc), 6)) * np.sqrt(luck)
        shift = np.sqrt(2 + spread**2) * norm.ppf(auroc) + spread * rng.standard_normal(seeds)
        samples.append(sample_of(of_arm + shift[:, None] * truth, truth, owner, strata))
    return samples


def sample_of(made: Array, truth: Array, owner: Array, strata: Strata) -> Sample:
    """Scores (S, images) as chances, measured as medprior measures them."""
    found = [estimate("auroc", np.stack([1 - p, p], 1), truth, "binary") for p in expit(made)]
    moves = np.stack([strata.spread(owner, one.pulls) for one in found])
    return _sample(np.array([one.value for one in found]), moves)


@cache
def luck_of(cohort: Cohort, auroc: float) -> float:
    """The deviation of binormal means over seeds that moves the AUROC as much as the drawing of patients does."""
    rng = np.random.default_rng(0)
    mean = np.sqrt(2) * norm.ppf(auroc)
    found = []
    for _ in range(TRIALS):
        owner, truth = cohort.draw(rng)
        made = scores(rng, cohort, owner, (1, 1))[0, 0] + mean * truth
        found.append((made[truth == 1][:, None] > made[truth == 0]).mean())
    slope = norm.pdf(norm.ppf(auroc)) / np.sqrt(2)
    return float(np.std(found) / slope)


def dice_samples(
    rng: np.random.Generator, patients: int, most: int, mean: float, arms: int, seeds: int, luck: float
) -> tuple[list[Sample], float]:
    """Samples of arms that are equally good, and the truth of all."""
    within = 0.5 if most > 1 else 0.0
    cohort = Cohort(patients, patients, most, within)
    owner, _ = cohort.draw(rng)
    deviation, centre = 0.6, logit(mean)
    made = deviation * scores(rng, cohort, owner, (arms, seeds))
    spread = np.sqrt(luck * deviation**2 * mean_variance(cohort))
    shifts = spread * rng.standard_normal((arms, seeds))
    strata = strata_of(np.arange(patients), np.ones((patients, 1)), "multilabel", 1)
    samples = []
    for of_arm in expit(centre + made + shifts[..., None]):
        means = np.stack([np.bincount(owner, dice) / np.bincount(owner) for dice in of_arm])
        found = [mean_of(one[:, None]) for one in means]
        moves = np.stack([strata.spread(np.arange(patients), one.pulls) for one in found])
        samples.append(_sample(np.array([one.value for one in found]), moves))
    return samples, logistic_normal_mean(centre, float(np.hypot(deviation, spread)))


def mean_variance(cohort: Cohort) -> float:
    """Of the mean over patients of a variable of variance 1 that is averaged over each patient's volumes."""
    images = np.arange(1, cohort.most + 1)
    return float(np.mean(cohort.within + (1 - cohort.within) / images) / cohort.patients)


def logistic_normal_mean(centre: float, deviation: float) -> float:
    """By Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return float((weights * expit(centre + deviation * nodes)).sum() / weights.sum())


def _sample(values: Array, moves: Array) -> Sample:
    return Sample(values, moves, np.arange(len(values)), np.full(len(values), -1))
