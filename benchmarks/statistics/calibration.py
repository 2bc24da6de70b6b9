"""Do the intervals of Brier score, calibration error, sensitivity and specificity hold?

    python benchmarks/statistics/calibration.py [--studies 1000]

One model, patients of one image. Logits are normal with deviation 1.5 and true to the labels; a model that is too sure
says 2.5 times as much. Prints the truth (of 400,000 images), the mean over studies, and the share of nominal 95%
intervals that held the truth.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from medprior.evaluation.calibration import Calibration
from medprior.evaluation.intervals import interval
from medprior.evaluation.luck import Sample
from medprior.evaluation.measures import Estimate
from medprior.evaluation.yardstick import yardstick_of

METRICS = ("brier", "calibration_error", "sensitivity_at_specificity_90", "specificity_at_specificity_90")
HELD = Calibration(1.0, [[0.75, 0.3]])
YARDSTICK = yardstick_of("binary", 2)
Chances = tuple[NDArray[np.float64], NDArray[np.float64]]


def draw(rng: np.random.Generator, patients: int, certainty: float) -> Chances:
    """Chances (N, 2) and targets (N,)."""
    logits = 1.5 * rng.standard_normal((patients, 2))
    targets = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    return softmax(certainty * logits, axis=1), targets.astype(np.float64)


def measure(metric: str, made: Chances) -> Estimate:
    return YARDSTICK.estimate(metric, *made, np.arange(len(made[0])), np.ones(2, bool), HELD)


def held(metric: str, made: Chances, truth: float) -> tuple[float, bool]:
    """The score of a study, and whether its interval holds the truth."""
    patients, one = np.arange(len(made[0])), np.zeros(1, np.int64)
    found, smallest = measure(metric, made), int(YARDSTICK.smallest(patients, made[1]).min())
    moves = YARDSTICK.strata(patients, made[1]).spread(patients, found.pulls)
    bounds = interval(Sample(np.array([found.value]), moves[None], one, one), smallest)
    return found.value, bounds.low is not None and bounds.high is not None and bounds.low <= truth <= bounds.high


def main(studies: int) -> None:
    print("certainty patients metric truth mean coverage")
    for certainty in (1.0, 2.5):
        everybody = draw(np.random.default_rng(1), 400_000, certainty)
        truth = {metric: measure(metric, everybody).value for metric in METRICS}
        for patients in (60, 200):
            made = [draw(np.random.default_rng([2, study]), patients, certainty) for study in range(studies)]
            for metric in METRICS:
                mean, share = np.mean([held(metric, one, truth[metric]) for one in made], axis=0)
                print(f"{certainty} {patients} {metric} {truth[metric]:.3f} {mean:.3f} {share:.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    main(parser.parse_args().studies)
