"""How the predictions of a study are scored and averaged: by probabilities, or by outlines.

A yardstick knows what a study's cells hold: of a classification the chances of every test image, of a segmentation
the scores of every test volume, since the label maps themselves would be far too large to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from medprior.errors import unknown
from medprior.evaluation import measures, metrics, patientmeans
from medprior.evaluation import segmentation as outlines
from medprior.evaluation.calibration import Calibration, scaled
from medprior.evaluation.intervals import FEWEST
from medprior.evaluation.measures import Estimate
from medprior.evaluation.metrics import Kind
from medprior.evaluation.segmentation import Scores
from medprior.evaluation.strata import Strata, smallest_class, strata_of

Array = NDArray[Any]
BY_PATIENT = "auroc_by_patient"
"""Every patient weighs the same, each of its images one part of as many."""
SCALED = {"brier_scaled": "brier", "calibration_error_scaled": "calibration_error"}
"""Metrics of chances after the temperature of their model, and what they are of chances as they are."""
OPERATING = {
    "sensitivity_at_specificity_90": (0, 0),
    "specificity_at_specificity_90": (0, 1),
    "specificity_at_sensitivity_90": (1, 1),
    "sensitivity_at_sensitivity_90": (1, 0),
}
"""What a threshold reaches on test images: which threshold (`Calibration.cuts`), and sensitivity (0) or specificity."""
BIASED = ("calibration_error", "calibration_error_scaled")
"""Larger than the truth, the more so the fewer images are tested: an interval around one would leave the truth out."""
_UNCALIBRATED = Calibration()
_TITLES = {
    BY_PATIENT: "AUROC with every patient weighing the same",
    "brier_scaled": "Brier score after temperature scaling",
    "calibration_error_scaled": "calibration error after temperature scaling",
    "sensitivity_at_specificity_90": "sensitivity at the threshold for 90% specificity",
    "specificity_at_specificity_90": "specificity at the threshold for 90% specificity",
    "specificity_at_sensitivity_90": "specificity at the threshold for 90% sensitivity",
    "sensitivity_at_sensitivity_90": "sensitivity at the threshold for 90% sensitivity",
}
TITLES: dict[str, str] = metrics.TITLES | _TITLES | {str(name): title for name, title in outlines.TITLES.items()}
"""How each metric is written in a sentence."""


class Yardstick(Protocol):
    """What is asked of a way to score.

    Attributes:
        main: the metric of the verdict, in [0, 1], greater is better.
        beside: others, which are looked at with intervals, too.
        all: every metric of the table of results.
    """

    main: ClassVar[str]
    beside: ClassVar[tuple[str, ...]]
    all: ClassVar[tuple[str, ...]]

    def strata(self, patients: Array, targets: Array) -> Strata:
        """The patients of all test scans in their strata."""
        ...

    def smallest(self, patients: Array, targets: Array) -> Array:
        """(K,) patients from whom each class can be measured."""
        ...

    def keep(self, smallest: Array) -> Array:
        """(K,) classes that count in the mean."""
        ...

    def can(self, metric: str, patients: Array, held: Sequence[Calibration]) -> bool:
        """Whether a metric can be told of models that were `held` to their labels so, and of all test `patients`."""
        ...

    def largest(self, metric: str) -> float:
        """The largest value that a metric of `beside` can have; the least is 0."""
        ...

    def estimate(
        self,
        metric: str,
        scores: Array,
        targets: Array,
        patients: Array,
        keep: Array,
        held: Calibration = _UNCALIBRATED,
    ) -> Estimate:
        """The score of one model, with the pull of every scan; `held` has its temperature and its thresholds."""
        ...


@dataclass(frozen=True)
class Chances:
    """Probabilities (N, K) against targets, see `metrics`."""

    kind: Kind
    classes: int
    main: ClassVar[str] = "auroc"
    beside: ClassVar[tuple[str, ...]] = (
        *("macro_f1", "accuracy", BY_PATIENT, "brier", "brier_scaled", "calibration_error"),
        *("calibration_error_scaled", *OPERATING),
    )
    all: ClassVar[tuple[str, ...]] = (*metrics.METRICS, BY_PATIENT, *SCALED, *OPERATING)

    def strata(self, patients: Array, targets: Array) -> Strata:
        return strata_of(patients, targets, self.kind, self.classes)

    def smallest(self, patients: Array, targets: Array) -> Array:
        return smallest_class(patients, targets, self.kind, self.classes)

    def keep(self, smallest: Array) -> Array:
        return _enough(smallest) if self.kind == "multilabel" else np.ones(self.classes, bool)

    def can(self, metric: str, patients: Array, held: Sequence[Calibration]) -> bool:
        if metric == BY_PATIENT:
            return len(np.unique(patients)) < len(patients)
        if metric in SCALED:
            return all(one.temperature is not None for one in held)
        return metric not in OPERATING or all(one.thresholds is not None for one in held)

    def largest(self, metric: str) -> float:
        return 2.0 if self.kind == "multiclass" and metric.startswith("brier") else 1.0

    def estimate(
        self,
        metric: str,
        scores: Array,
        targets: Array,
        patients: Array,
        keep: Array,
        held: Calibration = _UNCALIBRATED,
    ) -> Estimate:
        if metric in OPERATING:
            return self._operating(metric, scores, targets, keep, held)
        weights = None
        if metric == BY_PATIENT:
            metric, weights = "auroc", _alike(patients)
        elif metric in SCALED:
            if held.temperature is None:
                return measures.nothing(len(scores))
            metric, scores = SCALED[metric], scaled(scores, self.kind, held.temperature)
        return metrics.estimate(metric, scores, targets, self.kind, weights=weights, keep=keep)  # type: ignore[arg-type]

    def _operating(self, metric: str, scores: Array, targets: Array, keep: Array, held: Calibration) -> Estimate:
        which, part = OPERATING[metric]
        cuts = held.cuts(which)
        if cuts is None:
            return measures.nothing(len(scores))
        found = [pair[part] for pair in metrics.operating(scores, targets, self.kind, cuts)]
        kept = keep if self.kind == "multilabel" else np.ones(len(found), bool)
        return measures.average([one for one, counts in zip(found, kept, strict=True) if counts], len(scores))


@dataclass(frozen=True)
class Outlines:
    """Scores (N, K, M) of label maps, M as `segmentation.METRICS`; targets (N, K): 1 where the truth has the class.

    The volumes of a patient are averaged first, then patients, then classes (`patientmeans`).
    """

    classes: int
    main: ClassVar[str] = "dice"
    beside: ClassVar[tuple[str, ...]] = ("surface_dice",)
    all: ClassVar[tuple[str, ...]] = outlines.METRICS

    def strata(self, patients: Array, targets: Array) -> Strata:
        return strata_of(patients, targets, "multilabel", self.classes)

    def smallest(self, patients: Array, targets: Array) -> Array:
        return np.array([len(np.unique(patients[has == 1])) for has in targets.T], np.int64)

    def keep(self, smallest: Array) -> Array:
        return _enough(smallest)

    def can(self, metric: str, patients: Array, held: Sequence[Calibration]) -> bool:
        return True

    def largest(self, metric: str) -> float:
        return 1.0

    def estimate(
        self,
        metric: str,
        scores: Array,
        targets: Array,
        patients: Array,
        keep: Array,
        held: Calibration = _UNCALIBRATED,
    ) -> Estimate:
        """The pull of a patient stands with the first of its volumes."""
        if metric not in outlines.METRICS:
            raise unknown("metric", metric, outlines.METRICS)
        _, pooled = patientmeans.by_patient(unpacked(scores, targets), patients)
        found = patientmeans.estimate(pooled.of(metric)[:, keep])
        pulls = np.zeros(len(scores))
        pulls[np.unique(patients, return_index=True)[1]] = found.pulls
        return Estimate(found.value, pulls)


def packed(volumes: list[Scores]) -> tuple[Array, Array]:
    """Scores (N, K, M) of N label maps, and targets (N, K), as `Outlines` takes them."""
    values = np.stack([np.stack([scores.of(name) for name in outlines.METRICS], axis=-1) for scores in volumes])
    return values, np.stack([scores.present for scores in volumes]).astype(np.float64)


def unpacked(scores: Array, targets: Array) -> list[Scores]:
    """The scores of every label map again."""
    both = zip(np.moveaxis(scores, -1, 1), targets == 1, strict=True)
    return [Scores(dice, hd95, surface, present) for (dice, hd95, surface), present in both]


def yardstick_of(kind: str, classes: int) -> Yardstick:
    """How a task of this kind with so many classes or labels is scored."""
    return Outlines(classes) if kind == "segmentation" else Chances(kind, classes)  # type: ignore[arg-type]


def _alike(patients: Array) -> Array:
    """Weights (N,) of images that give every patient the same."""
    _, owner, count = np.unique(patients, return_inverse=True, return_counts=True)
    weights: Array = 1 / count[owner]
    return weights


def _enough(smallest: Array) -> Array:
    """Those with enough test patients; if none has, all that can be scored."""
    enough: Array = smallest >= FEWEST
    return enough if enough.any() else smallest > 0
