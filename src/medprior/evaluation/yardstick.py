"""How the predictions of a study are scored, drawn again and averaged: by probabilities, or by outlines.

A yardstick knows what a study's cells hold: of a classification the chances of every test image, of a segmentation
the scores of every test volume, since the label maps themselves would be far too large to keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from medprior.errors import unknown
from medprior.evaluation import metrics, patientmeans
from medprior.evaluation import segmentation as outlines
from medprior.evaluation.intervals import FEWEST
from medprior.evaluation.metrics import Kind
from medprior.evaluation.resampling import PatientDraws, draw_patients, smallest_class
from medprior.evaluation.segmentation import Scores

Array = NDArray[Any]
TITLES: dict[str, str] = metrics.TITLES | {str(name): title for name, title in outlines.TITLES.items()}
"""How each metric is written in a sentence."""


class Yardstick(Protocol):
    """What is asked of a way to score.

    Attributes:
        main: the metric of the verdict, in [0, 1], greater is better.
        beside: others of this kind, which are looked at with intervals, too.
        all: every metric of the table of results.
    """

    main: ClassVar[str]
    beside: ClassVar[tuple[str, ...]]
    all: ClassVar[tuple[str, ...]]

    @property
    def count(self) -> int:
        """Classes or labels that are measured."""
        ...

    def draw(self, patients: Array, targets: Array, *, replicates: int, seed: int) -> PatientDraws:
        """Bootstrap draws of the patients of all test scans."""
        ...

    def smallest(self, patients: Array, targets: Array) -> Array:
        """(K,) patients from whom each class can be measured."""
        ...

    def keep(self, smallest: Array) -> Array:
        """(K,) classes that count in the mean."""
        ...

    def replicates(
        self, metric: str, scores: Array, targets: Array, patients: Array, drawn: PatientDraws | None, keep: Array
    ) -> Array:
        """(R,) the score of one model under each draw; without draws (1,) on the patients as they are."""
        ...


@dataclass(frozen=True)
class Chances:
    """Probabilities (N, K) against targets, see `metrics`."""

    kind: Kind
    classes: int
    main: ClassVar[str] = "auroc"
    beside: ClassVar[tuple[str, ...]] = ("macro_f1", "accuracy")
    all: ClassVar[tuple[str, ...]] = metrics.METRICS

    @property
    def count(self) -> int:
        return self.classes

    def draw(self, patients: Array, targets: Array, *, replicates: int, seed: int) -> PatientDraws:
        return draw_patients(patients, targets, self.kind, self.classes, replicates=replicates, seed=seed)

    def smallest(self, patients: Array, targets: Array) -> Array:
        return smallest_class(patients, targets, self.kind, self.classes)

    def keep(self, smallest: Array) -> Array:
        return _enough(smallest) if self.kind == "multilabel" else np.ones(self.classes, bool)

    def replicates(
        self, metric: str, scores: Array, targets: Array, patients: Array, drawn: PatientDraws | None, keep: Array
    ) -> Array:
        weights = np.ones((len(scores), 1)) if drawn is None else drawn.weights(patients)
        return metrics.replicates(metric, scores, targets, self.kind, weights, keep=keep)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Outlines:
    """Scores (N, K, M) of label maps, M as `segmentation.METRICS`; targets (N, K): 1 where the truth has the class.

    The volumes of a patient are averaged first, then patients, then classes (`patientmeans`).
    """

    classes: int
    main: ClassVar[str] = "dice"
    beside: ClassVar[tuple[str, ...]] = ("surface_dice",)
    all: ClassVar[tuple[str, ...]] = outlines.METRICS

    @property
    def count(self) -> int:
        return self.classes

    def draw(self, patients: Array, targets: Array, *, replicates: int, seed: int) -> PatientDraws:
        return draw_patients(patients, targets, "multilabel", self.classes, replicates=replicates, seed=seed)

    def smallest(self, patients: Array, targets: Array) -> Array:
        return np.array([len(np.unique(patients[has == 1])) for has in targets.T], np.int64)

    def keep(self, smallest: Array) -> Array:
        return _enough(smallest)

    def replicates(
        self, metric: str, scores: Array, targets: Array, patients: Array, drawn: PatientDraws | None, keep: Array
    ) -> Array:
        if metric not in outlines.METRICS:
            raise unknown("metric", metric, outlines.METRICS)
        names, pooled = patientmeans.by_patient(unpacked(scores, targets), patients)
        weights = np.ones((len(names), 1)) if drawn is None else drawn.weights(names)
        return patientmeans.replicates(pooled.of(metric)[:, keep], weights)


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


def _enough(smallest: Array) -> Array:
    """Those with enough test patients; if none has, all that can be scored."""
    enough: Array = smallest >= FEWEST
    return enough if enough.any() else smallest > 0
