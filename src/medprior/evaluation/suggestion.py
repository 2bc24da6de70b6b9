"""Which patients to label next, read from embeddings: what is typical of every part of the data, or what is uncertain.

Every patient is chosen once before any is chosen twice, as budgets count patients; no image is chosen of which a copy
was. With a seed the same images come out, whatever the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.evaluation.metrics import Kind

Array = NDArray[Any]
MOST_GROUPS = 500
SMALL_GROUP = 5
NEIGHBOURS = 20
"""As published for TypiClust: more groups than that, and smaller ones, say little."""
MANY = 20_000
"""Images from which groups are found on small batches of them."""
_CHUNK = 2**24  # distances held at a time


@dataclass(frozen=True)
class Images:
    """Images and whose they are.

    Attributes:
        features: (N, D) embeddings.
        patients: (N,) the number of each image's patient.
        copies: (N,) a number that an image shares with its copies, -1 where it has none.
    """

    features: Array
    patients: Array
    copies: Array

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Choice:
    """One image to label: its place among the candidates and the group it was chosen from.

    `group` counts from 0 in the order in which groups are visited; `size` is the images in it.
    """

    image: int
    group: int
    size: int


def typical(candidates: Images, count: int, *, labelled: Images | None = None, seed: int = 0) -> list[Choice]:
    """The most typical image of each of many groups, those without a label first, then the larger.

    TypiClust (Hacohen, Dekel and Weinshall, ICML 2022, arXiv 2202.02794): as many groups (k-means) as patients that are
    asked for and that are labelled, `MOST_GROUPS` at most; groups of fewer than `SMALL_GROUP` images come last. Typical
    is what lies near its nearest neighbours. Here these are images of other patients: many slices of one patient lie
    near each other without being typical of anything.

    Returns:
        `count` images; fewer only where there are no more. A patient is chosen again when all were chosen.
    """
    if not len(candidates) or count < 1:
        return []
    before = len(labelled) if labelled is not None else 0
    everything = candidates.features if labelled is None else np.concatenate([candidates.features, labelled.features])
    known = len(np.unique(labelled.patients)) if labelled is not None else 0
    points = _directions(everything)
    group = _groups(points, min(count + known, MOST_GROUPS), np.ones(len(points)), seed)
    inside = np.arange(len(points)) < len(points) - before
    sizes, held = np.bincount(group), np.bincount(group, ~inside)
    order = np.lexsort((-sizes, sizes < SMALL_GROUP, held))
    group = group[inside]
    value = _typicality(points[inside], candidates.patients, group)
    return _visit(candidates, group, order, sizes, value, count, again=True)


def uncertain(candidates: Images, doubt: Array, count: int, *, seed: int = 0) -> list[Choice]:
    """The middle of each of `count` groups that are drawn to what is uncertain: no two alike, each patient once.

    CLUE (Prabhu, Chandrasekaran, Saenko and Hoffman, ICCV 2021, arXiv 2010.08666): k-means in which an image weighs as
    much as it is in doubt, then the image nearest to each centre. The group of the most doubt comes first.

    Args:
        doubt: (N,) of every candidate, see `uncertainty`.

    Returns:
        `count` images; fewer only where there are fewer patients.
    """
    if not len(candidates) or count < 1:
        return []
    points = _directions(candidates.features)
    weights = np.maximum(doubt, 1e-6)  # of images without any doubt the middle counts
    group = _groups(points, min(count, MOST_GROUPS), weights, seed)
    sizes = np.bincount(group)
    total = np.bincount(group, weights)
    centres = np.zeros((len(sizes), points.shape[1]))
    np.add.at(centres, group, points * weights[:, None])
    centres /= np.maximum(total, 1e-12)[:, None]
    near = -np.linalg.norm(points - centres[group], axis=1)
    return _visit(candidates, group, np.argsort(-total, kind="stable"), sizes, near, count, again=False)


def uncertainty(chances: Array, kind: Kind) -> Array:
    """(N,) entropy of probabilities (N, K), between 0 (sure) and 1 (every class alike); of labels their mean."""
    chances = np.clip(np.asarray(chances, np.float64), 1e-12, 1)
    if kind == "multilabel":
        other = np.clip(1 - chances, 1e-12, 1)
        labels: Array = -(chances * np.log2(chances) + other * np.log2(other)).mean(1)
        return np.clip(labels, 0, 1)
    classes: Array = -(chances * np.log(chances)).sum(1) / np.log(max(2, chances.shape[1]))
    return np.clip(classes, 0, 1)


def _directions(features: Array) -> Array:
    """Features about their mean, of length 1: what all images share tells none apart."""
    points = np.asarray(features, np.float32)
    points = points - points.mean(0)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    unit: Array = points / np.where(lengths > 0, lengths, 1)
    return unit


def _groups(points: Array, count: int, weights: Array, seed: int) -> Array:
    """(N,) the group of each point by weighted k-means; sums of several threads would differ from call to call."""
    import warnings

    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    kind = MiniBatchKMeans if len(points) > MANY else KMeans
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than groups: some stay empty
        found: Array = kind(min(count, len(points)), n_init=1, random_state=seed).fit_predict(
            points, sample_weight=weights
        )
    return found.astype(np.int64)


def _typicality(points: Array, patients: Array, group: Array) -> Array:
    """(N,) inverse mean distance to the nearest images of other patients in the group, 0 where there are none."""
    value = np.zeros(len(points))
    for number in np.unique(group):
        inside = np.flatnonzero(group == number)
        nearest = min(NEIGHBOURS, max(1, len(inside) // 2))
        for rows in np.array_split(inside, 1 + len(inside) ** 2 // _CHUNK):
            squares = np.clip(2 - 2 * points[rows] @ points[inside].T, 0, None)
            squares[patients[rows][:, None] == patients[inside]] = np.inf
            distance = np.sqrt(np.partition(squares, nearest - 1, axis=1)[:, :nearest])
            there = np.isfinite(distance)
            mean = np.where(there, distance, 0).sum(1) / np.maximum(there.sum(1), 1)
            value[rows] = np.where(there.any(1), 1 / (mean + 1e-5), 0)
    return value


def _visit(
    images: Images, group: Array, order: Array, sizes: Array, value: Array, count: int, *, again: bool
) -> list[Choice]:
    """Round after round through the groups in their order, the free image of the greatest value from each."""
    place = np.argsort(order)  # of every group, in the order
    hits = np.zeros(len(order), np.int64)
    gone, free = np.zeros(len(images), bool), np.ones(len(images), bool)
    chosen: list[Choice] = []
    while len(chosen) < count and not gone.all():
        if not free.any():
            if not again:
                break
            free = ~gone
        there = np.bincount(group[free], minlength=len(order)) > 0
        number = min(np.flatnonzero(there), key=lambda one: (hits[one], place[one]))
        inside = np.flatnonzero(free & (group == number))
        image = int(inside[value[inside].argmax()])
        copies = (images.copies == images.copies[image]) & (images.copies >= 0)
        copies[image] = True
        gone |= copies
        free &= ~gone & (images.patients != images.patients[image])
        hits[number] += 1
        chosen.append(Choice(image, int(place[number]), int(sizes[number])))
    return chosen
