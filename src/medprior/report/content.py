"""What a report shows, as plain data: the page never opens a file, a model or a scan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from medprior.evaluation.segmentation import METRICS as OUTLINE_METRICS

if TYPE_CHECKING:
    from medprior.report.calibration import Calibration
    from medprior.report.embedding import Embedding
    from medprior.report.groups import Groups
    from medprior.report.robustness import Robustness
    from medprior.report.saliency import Saliency

Images = npt.NDArray[np.uint8]
"""Pixels as they are drawn, (N, C, H, W) uint8; C = 1 is grey, C = 3 is colour."""

Labels = npt.NDArray[Any]
"""Class indices of pixels, (H, W); 0 is the background."""

Curve = tuple[Sequence[float], Sequence[float]]
"""(steps, values) of one quantity of a training run; values that are not finite leave a gap."""

Role = Literal["arm", "reference", "longer"]
"""A compared arm, scratch of the same encoder, or that scratch trained for twice the steps."""


class Problem(TypedDict):
    """A scan that could not be read. `row` is its row in the catalog; `reason` must carry no path."""

    row: int
    reason: str


ClassScore = TypedDict(
    "ClassScore",
    {
        "arm": str,
        "budget": int,
        "class": str,
        "metric": str,
        "mean": float,
        "low": float | None,
        "high": float | None,
    },
)
"""One cell of the per-class table; the bounds are None where no interval is honest."""


@dataclass(frozen=True)
class Budget:
    """One label budget: it counts patients, and the images they own are printed beside."""

    patients: int
    images: int


@dataclass(frozen=True)
class DataSummary:
    """What the folder held. Only counts and row numbers: file and patient names stay out of the page.

    `splits` maps a split to its number of images; `classes` maps a class to its number of images per split.
    """

    images: int
    labelled: int = 0
    patients: int | None = None
    modality: str = ""
    sizes: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class Gallery:
    """Single images, one caption each (catalog row and label)."""

    images: Images
    captions: Sequence[str]


@dataclass(frozen=True)
class Rows:
    """Rows of images that belong together: `columns` names them, `images` is (rows, columns, C, H, W) uint8.

    `captions`, when given, names each row (its catalog row).
    """

    columns: Sequence[str]
    images: Images
    captions: Sequence[str] = ()


@dataclass(frozen=True)
class Plane:
    """A plane of a scan with its true outlines and those of a model.

    Attributes:
        name: axial, coronal or sagittal; "" for an image, "detail" for a part of one.
        pixels: (C, h, w) uint8, of the same box as the label maps, in as many pixels as there are.
        truth, predicted: (H, W).
        spacing: mm per pixel of the label maps, down and across.
    """

    name: str
    pixels: Images
    truth: Labels
    predicted: Labels
    spacing: tuple[float, float]


@dataclass(frozen=True)
class OutlinedScan:
    """A test scan as a model outlined it: `place` among all (worst, middle, best), row and mean Dice.

    Without planes it is not shown: it cannot be read any more, or text may be burnt into it.
    """

    place: str
    row: int
    dice: float
    planes: Sequence[Plane] = ()


@dataclass(frozen=True)
class Outlines:
    """Test scans with outlines.

    Attributes:
        classes: names of the classes beside the background, the first is 1 in the label maps.
        shown: (budget, [(name of an arm, its scans)]).
    """

    classes: Sequence[str]
    shown: Sequence[tuple[int, Sequence[tuple[str, Sequence[OutlinedScan]]]]]


@dataclass(frozen=True)
class ReportContent:
    """Everything one report shows; a part left at its default is left out of the page.

    Args:
        title: names the data, at the top of the page.
        verdict: `verdict.json` as it is: arms, labels_saved, sentences, warnings, metric, unit, test_patients.
        summary: what the folder held.
        plan: what was chosen and why, one line each.
        budgets: label budgets in patients and images.
        per_class: scores per class.
        class_note: a sentence on the intervals of those.
        outlines: test scans with their true outlines and those of models.
        examples: images of the data set.
        reconstructions: per method, rows of target, masked, reconstruction.
        views: per method, rows of the original and its views.
        training: per run, per quantity, a curve.
        results: rows of the long table of all scores; every row has the same keys.
        command: what repeats this report.
        environment: name to value: versions, hardware, hours.
        links: text to place: the predictor's folder, the command that uses it.
        limits: what the verdict does not cover, beside its warnings.
        calibration: whether the chances came true, and what thresholds reach.
        groups: who fails, and what a model may rest on.
        robustness: what corrupted test images cost every arm.
        embedding: what the best pre-trained encoder makes of the labelled images, and what lies beside test errors.
        saliency: where the answers of the best pre-trained arm are sensitive, for a few test images.
    """

    title: str
    verdict: Mapping[str, Any]
    summary: DataSummary | None = None
    plan: Sequence[str] = ()
    budgets: Sequence[Budget] = ()
    per_class: Sequence[ClassScore] = ()
    class_note: str = ""
    outlines: Outlines | None = None
    examples: Gallery | None = None
    reconstructions: Mapping[str, Rows] = field(default_factory=dict)
    views: Mapping[str, Rows] = field(default_factory=dict)
    training: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    results: Sequence[Mapping[str, object]] = ()
    command: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()
    calibration: Calibration | None = None
    groups: Groups | None = None
    robustness: Robustness | None = None
    embedding: Embedding | None = None
    saliency: Saliency | None = None


@dataclass(frozen=True)
class Point:
    """A score at a budget; its bounds are None where no interval is honest."""

    budget: int
    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """One line of the figures: an arm over the budgets.

    `style` numbers its marker and, for an arm, its colour; references are grey, one marker per encoder.
    """

    arm: str
    name: str
    role: Role
    style: int
    points: tuple[Point, ...]
    pretrain_seeds: int | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class Saving:
    """How many times the labels of its reference an arm's labels are worth; None is an open bound."""

    name: str
    style: int
    budget: int
    reference: str
    ratio: float | None
    low: float | None
    high: float | None


Key = tuple[str, str, str]
"""(arm, adaptation, encoder): what makes one line of the figures."""


def series_of(verdict: Mapping[str, Any]) -> list[Series]:
    """The lines of a verdict: scratch first, then the arms in the order the verdict gives them."""
    return [one for one in _series_by_key(verdict).values() if one.points]


def savings_of(verdict: Mapping[str, Any]) -> list[Saving]:
    """The rows of the labels-saved figure in the verdict's order, styled as the line of their arm."""
    series = _series_by_key(verdict)
    return [_saving(row, series) for row in verdict.get("labels_saved", ())]


def names_of(verdict: Mapping[str, Any]) -> dict[Key, str]:
    """What each arm of a verdict is called."""
    return {key: one.name for key, one in _series_by_key(verdict).items()}


def unit_of(verdict: Mapping[str, Any], count: int = 2) -> str:
    """The word for what a budget counts, in the number that `count` asks for."""
    word = str(verdict.get("unit") or "patients").removesuffix("s")
    word = scans_of(verdict, 1) if word == "image" else word
    return word if count == 1 else f"{word}s"


def scans_of(verdict: Mapping[str, Any], count: int = 2) -> str:
    """The word for what the folder holds: images, or where outlines are learnt scans, which may be volumes."""
    word = "scan" if is_outlined(verdict) else "image"
    return word if count == 1 else f"{word}s"


def labelled_of(verdict: Mapping[str, Any]) -> str:
    """What patients of a budget are: labelled, or annotated where a label is an outline."""
    return "annotated" if is_outlined(verdict) else "labelled"


def trivial_of(verdict: Mapping[str, Any]) -> tuple[str, float] | None:
    """What the best answer that needs no model is called, and its score; None where the verdict has none."""
    answers = verdict.get("trivial") or ()
    return (f"Marking {answers[0]['answer']}", float(answers[0]["mean"])) if answers else None


def is_outlined(verdict: Mapping[str, Any]) -> bool:
    """Whether what is judged are outlines."""
    return verdict.get("metric") in OUTLINE_METRICS


def _series_by_key(verdict: Mapping[str, Any]) -> dict[Key, Series]:
    rows: dict[Key, list[Mapping[str, Any]]] = {}
    for row in verdict.get("arms", ()):
        rows.setdefault(_key(row), []).append(row)
    keys = sorted(rows, key=lambda key: _role(key) == "arm")
    arms = [key for key in keys if _role(key) == "arm"]
    encoders = list(dict.fromkeys(key[2] for key in keys if _role(key) != "arm"))
    styles = {key: arms.index(key) + 1 if key in arms else encoders.index(key[2]) + 1 for key in keys}
    return {key: _one_series(key, _name(key, keys), styles[key], rows[key]) for key in keys}


def _one_series(key: Key, name: str, style: int, rows: Sequence[Mapping[str, Any]]) -> Series:
    points = [
        Point(int(row["budget"]), float(row["mean"]), row.get("low"), row.get("high"))
        for row in rows
        if row.get("mean") is not None and math.isfinite(row["mean"])
    ]
    points.sort(key=lambda point: point.budget)
    return Series(key[0], name, _role(key), style, tuple(points), rows[0].get("pretrain_seeds"), rows[0].get("seeds"))


def _saving(row: Mapping[str, Any], series: Mapping[Key, Series]) -> Saving:
    alike = [one for one in series.values() if one.arm == row["arm"]]
    one = series.get(_key(row)) or (alike[0] if alike else None)
    name = one.name if one is not None and (_key(row) in series or len(alike) == 1) else row["arm"]
    bounds = (_ratio(row.get("ratio")), _ratio(row.get("low")), _ratio(row.get("high")))
    return Saving(name, one.style if one else 1, int(row["budget"]), row.get("reference", "scratch"), *bounds)


def _ratio(value: float | None) -> float | None:
    """A ratio that a log axis can show; zero and infinity are open like None."""
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _key(row: Mapping[str, Any]) -> Key:
    return row["arm"], row.get("adaptation") or "", row.get("encoder") or ""


def _name(key: Key, keys: Sequence[Key]) -> str:
    """The arm's name, with its adaptation or encoder only where the arm has more than one of them."""
    arm, adaptation, encoder = key
    same = [other for other in keys if other[0] == arm]
    several_encoders = len({other[2] for other in same}) > 1
    parts = [f"{arm} 2x" if _role(key) == "longer" and "2x" not in arm else arm]
    if _role(key) == "arm" and len({other[1] for other in same}) > 1:
        parts.append(adaptation)
    return ", ".join([*parts, encoder] if several_encoders else parts)


def _role(key: Key) -> Role:
    if "scratch" not in key[0].casefold():
        return "arm"
    return "longer" if "2x" in f"{key[0]} {key[1]}".casefold().replace("×", "x") else "reference"
