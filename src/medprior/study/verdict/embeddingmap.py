"""What a pre-trained encoder makes of the labelled images: a flat map, who lies beside whom, and what beside errors.

Distances are 1 - cosine of the frozen features, before any label was learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.annotations.groups import Grouping
from medprior.study.arms import Pretraining
from medprior.study.ground import Ground
from medprior.study.pretraining import features_of
from medprior.study.results import Arm, StudyResults
from medprior.study.verdict.errorsnearby import Mistake, mistakes

Array = NDArray[Any]
MOST_IMAGES, FEWEST_IMAGES = 2000, 10
COMPONENTS, PERPLEXITY = 50, 30.0
NEIGHBOURS = 5
MOST_LABELS = 4


@dataclass(frozen=True)
class Colouring:
    """The images of a map in groups.

    Attributes:
        member: (N,) group of each image, -1 where it is unknown.
        alike: share of the nearest images of other patients that are of the same group; NaN where none is known.
        chance: the same of images drawn at random.
    """

    name: str
    groups: tuple[str, ...]
    member: NDArray[np.int64]
    alike: float
    chance: float


@dataclass(frozen=True)
class EmbeddingMap:
    """Labelled images as an encoder of the first fold sees them.

    Attributes:
        arm: whose encoder it is.
        rows: (N,) of the catalog, ascending.
        places: (N, 2) in [0, 1]; only who is near whom means anything.
        tested: (N,) whether it is a test image.
        colourings: by label, then by every column that makes groups.
        left_out: labelled images that are not drawn, because there are more than 2,000.
        mistakes: test images that the arm got wrong, the surest first, with the training images nearest to them.
    """

    arm: Arm
    rows: NDArray[np.int64]
    places: Array
    tested: NDArray[np.bool_]
    colourings: tuple[Colouring, ...]
    left_out: int
    mistakes: tuple[Mistake, ...]


def map_study(
    results: StudyResults,
    verdict: dict[str, Any],
    ground: Ground,
    groupings: Sequence[Grouping],
    out: Path,
) -> EmbeddingMap | None:
    """The map of the best pre-trained arm at the largest budget; None without such an arm, or with hardly an image."""
    arm = best_pretrained(verdict)
    if arm is None or ground.outlined:
        return None
    features = features_of(out / Pretraining(arm.name, arm.encoder, 0, 0).folder)
    split = ground.splits[0]
    labelled = ground.usable(np.sort(np.concatenate([split.test, split.val, split.pool])))
    if len(labelled) < FEWEST_IMAGES:
        return None
    rows = some_of(labelled, ground.seed)
    unit = on_the_sphere(features[rows])
    near = nearest_others(unit, ground.persons[rows])
    return EmbeddingMap(
        arm,
        rows,
        flattened(features[rows], ground.seed),
        np.isin(rows, split.test),
        tuple(_coloured(one, rows, near) for one in [*label_groupings(ground), *groupings]),
        len(labelled) - len(rows),
        mistakes(results, arm, ground, features),
    )


def best_pretrained(verdict: dict[str, Any]) -> Arm | None:
    """The pre-trained arm of the highest score at the largest budget of a verdict."""
    found = [row for row in verdict["arms"] if not row["adaptation"].startswith("scratch") and row["mean"] is not None]
    if not found:
        return None
    row = max(found, key=lambda row: (row["budget"], row["mean"]))
    return Arm(row["arm"], row["encoder"], row["adaptation"])


def some_of(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """At most 2,000 of `rows`, the same for the same seed."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_IMAGES])


def flattened(features: Array, seed: int) -> Array:
    """(N, D) features to (N, 2) places in [0, 1]: PCA to 50 dimensions, then t-SNE.

    Van der Maaten and Hinton, JMLR 2008, begun at the first two principal components. Neighbourhoods are kept,
    distances between clusters and their sizes mean nothing. Features that are all one give one place.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count, width = features.shape
    spread = features - features.mean(axis=0)
    if not np.abs(spread).max() > 0:
        return np.full((count, 2), 0.5)
    kept = PCA(min(COMPONENTS, count, width), random_state=seed).fit_transform(spread / spread.std())
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    drawn = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(kept)
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    placed: Array = (drawn - low) / np.maximum(high - low, 1e-12)
    return placed


def on_the_sphere(features: Array) -> Array:
    """(N, D) in float64, each row of length 1; rows of zeros stay."""
    rows = np.asarray(features, np.float64)
    unit: Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


def nearest_others(unit: Array, persons: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, k) the nearest images of other patients, the nearest first; k is 5, or fewer; -1 where there is none."""
    likeness = unit @ unit.T
    likeness[persons[:, None] == persons[None]] = -np.inf
    near = np.argsort(-likeness, axis=1, kind="stable")[:, :NEIGHBOURS]
    return np.where(np.isfinite(np.take_along_axis(likeness, near, axis=1)), near, -1)


def label_groupings(ground: Ground) -> list[Grouping]:
    """The label as a grouping; of several labels the four most frequent, each present or absent."""
    targets, names = ground.targets, ground.task.names
    if targets.ndim == 1:
        return [Grouping("label", tuple(names), np.where(np.isnan(targets), -1, targets).astype(np.int64))]
    common = np.argsort(-np.nansum(targets == 1, axis=0), kind="stable")[:MOST_LABELS]
    known = np.where(np.isnan(targets), -1, targets).astype(np.int64)
    return [Grouping(names[k], ("absent", "present"), known[:, k]) for k in common]


def _coloured(grouping: Grouping, rows: NDArray[np.int64], near: NDArray[np.int64]) -> Colouring:
    member = grouping.member[rows]
    return Colouring(grouping.name, grouping.groups, member, *alike(member, near))


def alike(member: NDArray[np.int64], near: NDArray[np.int64]) -> tuple[float, float]:
    """Share of neighbours of the same group, and the share that chance would give; NaN where none is known."""
    counts = np.bincount(member[member >= 0])
    both = (near >= 0) & (member[:, None] >= 0) & (member[near] >= 0)
    if not both.any():
        return float("nan"), float("nan")
    same = member[near] == member[:, None]
    return float(same[both].mean()), float(((counts / counts.sum()) ** 2).sum())
