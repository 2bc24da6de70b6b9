"""What a data card says, as plain data: numbers, codes and row numbers, no path and no name of a person or a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from medprior.data.card.headers import HeaderFact

SCHEMA = "medprior.data-card/1"
Counts = Mapping[str, int]


@dataclass(frozen=True)
class Spread:
    """How a number is spread over scans: extremes, quartiles and median."""

    least: float
    lower: float
    median: float
    upper: float
    most: float


@dataclass(frozen=True)
class Sizes:
    """Sizes of images or of volumes.

    Attributes:
        dims: 2 or 3.
        scans: how many there are.
        different: how many sizes.
        frequent: the most frequent sizes, (H, W) or (D, H, W), with the number of scans.
        least, most: the smallest and the largest by area or volume, sizes that are there.
        spaced: scans that say their spacing in mm.
        spacing: per axis, of those, how it is spread; () where none says it.
        anisotropic: scans whose coarsest spacing is more than twice their finest.
    """

    dims: int
    scans: int
    different: int
    frequent: tuple[tuple[tuple[int, ...], int], ...]
    least: tuple[int, ...]
    most: tuple[int, ...]
    spaced: int
    spacing: tuple[Spread, ...]
    anisotropic: int


@dataclass(frozen=True)
class Intensity:
    """Physical values of scans that are treated alike, pooled with equal weight per scan.

    Attributes:
        treatment: a name in `medprior.data.treatments.TREATMENTS`.
        how: what the plan does, see `medprior.data.intensity.Rule`.
        unit: "HU", or "" where there is none.
        scans: how many.
        ranks: percentiles that `quantiles` are.
        quantiles: the pooled values at these percentiles.
        relative: whether each scan has a window of its own; `edges` then count from 0 at its black to 1 at its white.
        edges: (bins + 1) values between which `shares` lie, physical unless `relative`.
        shares: (bins) share of the pixels in each; the first and the last hold what lies beyond, too.
        window: physical values that become black and white, the median over scans.
        varies: the 10th and 90th percentile over scans of black, and of white; None where all share the window.
        reason: a sentence.
    """

    treatment: str
    how: str
    unit: str
    scans: int
    ranks: tuple[float, ...]
    quantiles: tuple[float, ...]
    relative: bool
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    window: tuple[float, float]
    varies: tuple[tuple[float, float], tuple[float, float]] | None
    reason: str


@dataclass(frozen=True)
class Kind:
    """Scans of one modality, and of one guess where it is unknown.

    Attributes:
        modality: DICOM code, "" unknown.
        hint: the code that names of folders suggest where the modality is unknown, or "".
        scans, images, volumes: how many; images are 2D, volumes 3D.
        readers: scans by family of formats.
        types: scans by type of their physical values.
        channels: scans by number of channels.
        grey: scans of several channels that all show the same.
        burnt: scans in whose pixels text is likely to stand.
        sizes: of images, then of volumes.
        intensities: one for each treatment, the most frequent first.
        samples: rows that stand for the kind on a contact sheet.
    """

    modality: str
    hint: str
    scans: int
    images: int
    volumes: int
    readers: Counts
    types: Counts
    channels: Counts
    grey: int
    burnt: int
    sizes: tuple[Sizes, ...]
    intensities: tuple[Intensity, ...]
    samples: tuple[int, ...]


@dataclass(frozen=True)
class Patients:
    """Who the scans are of.

    Attributes:
        known: patients that have a key.
        nameless: scans without one; each counts as a patient of its own.
        scans_each: patients by number of their scans, in ranges; known patients only.
        most: scans of the patient with most.
        studies: examinations that have a key.
    """

    known: int
    nameless: int
    scans_each: Counts
    most: int
    studies: int


@dataclass(frozen=True)
class Label:
    """A class or finding: images and patients that have it, and images by split ("" without one)."""

    name: str
    images: int
    patients: int
    splits: Counts


@dataclass(frozen=True)
class Labels:
    """What the labels say.

    Attributes:
        kind: binary, multiclass or multilabel; "" without labels.
        labelled: images with a label.
        none: labelled images without any of the findings; 0 for classes.
        labels: in their order.
        together: (K, K) images with both findings, with one on the diagonal; () for classes.
    """

    kind: str
    labelled: int
    none: int
    labels: tuple[Label, ...]
    together: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Beside:
    """Masks, boxes and reports.

    Attributes:
        masks: scans with a mask.
        mask_values: masks that hold each value, where masks list theirs.
        boxed: images with boxes.
        boxes: boxes by class, the most frequent first.
        boxed_images: images by class of their boxes.
        box_share: of the image that a box covers.
        reports: scans with a report.
        different: reports that differ.
        words: in a report.
    """

    masks: int
    mask_values: Counts
    boxed: int
    boxes: Counts
    boxed_images: Counts
    box_share: Spread | None
    reports: int
    different: int
    words: Spread | None


@dataclass(frozen=True)
class Part:
    """A published split: its images, those with a label, and the known patients they are of."""

    name: str
    images: int
    labelled: int
    patients: int


@dataclass(frozen=True)
class Pair:
    """Two copies: rows of the catalog, "exact" or "near", and their distance from 0 to 1."""

    rows: tuple[int, int]
    kind: str
    distance: float
    across: str


@dataclass(frozen=True)
class Copies:
    """Scans that stand there more than once.

    Attributes:
        groups: of scans that are copies of each other, directly or over others.
        scans: in those groups.
        largest: scans of the largest group.
        spare: scans that could be left out, and something like each would stay.
        exact, near: pairs.
        distances: near pairs by distance, in steps.
        pairs: those worth a look: across lines first, then the farthest.
    """

    groups: int
    scans: int
    largest: int
    spare: int
    exact: int
    near: int
    distances: Counts
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Crossing:
    """One set of rows that crosses a line that should part it; see `medprior.data.duplicates.leaks.Leak`.

    Attributes:
        rows: the first of them; `scans` counts all.
        same: whether all have the same pixels.
    """

    kind: str
    rows: tuple[int, ...]
    scans: int
    splits: tuple[str, ...]
    distance: float | None
    same: bool


@dataclass(frozen=True)
class Leaks:
    """What crosses a line.

    Attributes:
        counts: sets by kind (split, pool, labels, patient).
        scans: scans in them, by kind.
        found: the first of every kind.
        repaired: sentences about splits that parted patients until their rows in the earlier one were dropped.
    """

    counts: Counts
    scans: Counts
    found: tuple[Crossing, ...]
    repaired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """What is to be said of files alike.

    Attributes:
        kind: see `medprior.data.scan.NOTES`.
        reason: as `medprior.data.card.plainly` leaves it, "n" for numbers that differ.
        count: how many files or remarks.
        numbers: their rows in problems.csv, 1 the first under the header; the first of many.
    """

    kind: str
    reason: str
    count: int
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """A sentence about the whole, and what can be done.

    Attributes:
        level: "mend" (training would suffer or scores deceive), or "know".
        said: a sentence.
        do: another, or "".
        part: the part of the card that holds the details, or "".
    """

    level: Literal["mend", "know"]
    said: str
    do: str = ""
    part: str = ""


@dataclass(frozen=True)
class Card:
    """A folder of scans, described so that it can be shared."""

    headline: str
    findings: tuple[Finding, ...]
    scans: int
    images: int
    volumes: int
    kinds: tuple[Kind, ...]
    patients: Patients
    labels: Labels
    headers: tuple[HeaderFact, ...]
    beside: Beside
    splits: tuple[Part, ...]
    copies: Copies
    leaks: Leaks
    problems: tuple[Problem, ...]
    problem_counts: Counts
    plan: tuple[str, ...]
    warnings: tuple[str, ...]
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """The card as data-card.json holds it."""
        return {"schema": SCHEMA, **asdict(self)}
