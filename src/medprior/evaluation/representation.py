"""How well embeddings fill their space, measured without a label; and what their neighbourhoods know of labels.

Embeddings are (N, D), one row per image; everything is computed in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.evaluation.metrics import Kind, one_versus_rest, score

Array = NDArray[Any]
EPSILON = 1e-7
"""Added to every normalised singular value, as published for embeddings in float32."""
SCALE = 2.0
"""t of the published uniformity."""
NEIGHBOURS = 20
"""Votes at most: what is usual for probes of pre-trained networks."""


def deviation(embeddings: Array) -> float:
    """Standard deviation of each dimension over images of unit length, the mean over dimensions.

    Near 1 / sqrt(D) where the images lie all around the sphere, 0 where all are one point (Chen and He, CVPR 2021,
    arXiv 2011.10566).
    """
    return float(_unit(embeddings).std(axis=0).mean())


def effective_rank(embeddings: Array) -> float:
    """RankMe: the exponential of the entropy of the normalised singular values; between 1 and min(N, D).

    Garrido et al., ICML 2023, arXiv 2210.02885. The embeddings are taken as they are, neither centred nor scaled.
    Those that are all zero are one point: 1.
    """
    rows = np.asarray(embeddings, np.float64)
    # The products of the shorter side have the squares of the singular values, at a tenth of the cost for wide rows;
    # what squaring loses is smaller than EPSILON.
    products = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    sizes = np.sqrt(np.clip(np.linalg.eigvalsh(products), 0, None))
    total = sizes.sum()
    if total == 0:
        return 1.0
    shares = sizes / total + EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))


def alignment(first: Array, second: Array) -> float:
    """Mean squared distance, on the unit sphere, of two views of the same images: both (N, D); 0 where they agree.

    Wang and Isola, ICML 2020, arXiv 2005.10242, with their alpha of 2.
    """
    return float(((_unit(first) - _unit(second)) ** 2).sum(axis=1).mean())


def uniformity(embeddings: Array) -> float:
    """Logarithm of the mean of exp(-2 d^2) over pairs of different images, d their distance on the unit sphere.

    0 where all are one point, lower the more evenly they are spread, about -4 at best in many dimensions. Wang and
    Isola, ICML 2020, arXiv 2005.10242. NaN for fewer than two images.
    """
    unit = _unit(embeddings)
    first, second = np.triu_indices(len(unit), k=1)
    if not len(first):
        return math.nan
    squares = np.clip(2 - 2 * (unit @ unit.T)[first, second], 0, None)
    return float(np.log(np.exp(-SCALE * squares).mean()))


def neighbour_votes(embeddings: Array, targets: Array, patients: Array, kind: Kind, classes: int) -> Array:
    """What the nearest images of other patients say of each image: shares of votes (N, K), K classes or labels.

    Of n images with a label min(20, sqrt(n)) vote, those of the largest cosine; the image's own patient never does. A
    row or label on which nobody can vote is NaN.

    Args:
        targets: (N,) or (N, K) as in `medprior.evaluation.metrics`.
        patients: (N,) names or numbers.
    """
    unit, patients = _unit(embeddings), np.asarray(patients)
    nearness = np.where(patients[:, None] == patients[None, :], -np.inf, unit @ unit.T)
    truth = one_versus_rest(targets, classes, kind)
    return np.stack([_votes(nearness, label) for label in truth.T], axis=1)


def neighbour_scores(
    embeddings: Array, targets: Array, patients: Array, kind: Kind, classes: int
) -> tuple[float, float]:
    """AUROC and accuracy of `neighbour_votes`; NaN where nothing can be told apart."""
    votes = neighbour_votes(embeddings, targets, patients, kind, classes)
    silent = np.isnan(votes) if kind == "multilabel" else np.isnan(votes).any(axis=1)
    judged, votes = np.where(silent, np.nan, targets), np.nan_to_num(votes)
    return score("auroc", votes, judged, kind), score("accuracy", votes, judged, kind)


def _votes(nearness: Array, label: Array) -> Array:
    """Share of the nearest images (N,) for which a label (N,) of 0, 1 and NaN holds."""
    known = np.isfinite(label)
    count = min(NEIGHBOURS, math.isqrt(int(known.sum())))
    nearest = np.argsort(-nearness[:, known], axis=1, kind="stable")[:, :count]
    chosen = label[known][nearest]
    allowed = np.isfinite(np.take_along_axis(nearness[:, known], nearest, axis=1))
    votes = allowed.sum(axis=1)
    share: Array = np.divide((chosen * allowed).sum(axis=1), votes, out=np.full(len(votes), np.nan), where=votes > 0)
    return share


def _unit(embeddings: Array) -> Array:
    """Rows of length 1; a row of zeros stays."""
    rows = np.asarray(embeddings, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = rows / np.where(lengths > 0, lengths, 1)
    return unit
