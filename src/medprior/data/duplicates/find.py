"""Scans that stand in a catalog more than once: the same pixels, or a copy that was re-encoded, resized or re-windowed.

Looked for are copies, not likeness: a frame of a cine or the next slice of a stack is one only where the thumbs cannot
tell them apart. Mirrored, framed and cropped copies are not found; `benchmarks/duplicates` says what is, and how often.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from medprior.data.duplicates.likeness import Pairs, difference_hash, near_pairs, normalised
from medprior.data.facts import THUMB_2D, THUMB_3D
from medprior.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Duplicates:
    """Which rows are copies of which.

    Attributes:
        cluster: (N,) the lowest row that a row is a copy of, directly or over other copies; -1 where it has none. What
            may not be parted between training and test: in a dense stack of slices neighbours can link it all.
        original: (N,) the row that stands for a row: itself, or one that it is a direct copy of. What can be spared.
        pairs: row_a < row_b, kind (exact: the same pixels; near: they look the same), distance (0 to 1, see
            `likeness.distances`) and correlation of the thumbs. Of n exact copies n - 1 pairs are listed, each with
            the lowest row, which alone stands for them in near pairs.
    """

    cluster: Rows
    original: Rows
    pairs: pd.DataFrame

    def clusters(self) -> list[Rows]:
        """The rows of every cluster, ascending, in the order of their lowest row."""
        return members(self.cluster)


def members(cluster: Rows) -> list[Rows]:
    """The rows of every cluster of `Duplicates.cluster`, ascending, in the order of their lowest row."""
    inside = np.flatnonzero(cluster >= 0)
    order = inside[np.argsort(cluster[inside], kind="stable")]
    cuts = np.flatnonzero(np.diff(cluster[order])) + 1
    return [rows for rows in np.split(order, cuts) if len(rows)]


def find_duplicates(table: pd.DataFrame, progress: Progress = silent) -> Duplicates:
    """Find copies among the rows of a catalog's table: the columns `hash` and `thumb` are looked at.

    Images are compared with images and volumes with volumes. Modality, shape and patient do not matter: an exported
    copy has lost them, and a copy under another patient's name is what is looked for.
    """
    hashes = table["hash"].to_numpy(dtype=str)
    _, first, content = np.unique(hashes, return_index=True, return_inverse=True)
    lowest = first[content].astype(np.int64)
    copies = np.flatnonzero(lowest != np.arange(len(table)))
    one = np.ones(len(copies))
    found = [("exact", Pairs(lowest[copies], copies, 0 * one, one))]
    alone = np.sort(first)
    for shape in (THUMB_2D, THUMB_3D):
        rows, thumbs = _thumbs(table["thumb"].tolist(), alone, shape)
        unit = normalised(thumbs)
        near = near_pairs(difference_hash(unit, shape), unit, progress=progress)
        found.append(("near", Pairs(rows[near.first], rows[near.second], near.distance, near.correlation)))
    nears = [pairs for kind, pairs in found if kind == "near"]
    original = _originals(len(table), _graph(len(table), nears))[lowest]
    return Duplicates(_clusters(_graph(len(table), [pairs for _, pairs in found])), original, _listed(found))


def dropped(cluster: Rows, protected: Mask, labelled: Mask, original: Rows | None = None) -> Mask:
    """(N,) the training rows that copies make needless: those in a cluster with a protected row, and spare copies.

    Protected rows (validation, test) are never dropped. Of the rows that one row stands for stays one: a labelled row
    before an unlabelled one, and the lowest among equals.

    Args:
        cluster: (N,) as in `Duplicates`.
        protected: (N,) rows that are not trained on.
        labelled: (N,) rows with a label.
        original: (N,) as in `Duplicates`; without it one row stands for a whole cluster, however long its chain.
    """
    if original is None:
        original = np.where(cluster < 0, np.arange(len(cluster)), cluster)
    guarded = np.isin(cluster, cluster[protected & (cluster >= 0)])
    training = np.flatnonzero(~guarded & ~protected)
    order = training[np.lexsort((training, ~labelled[training], original[training]))]
    spare = np.zeros(len(cluster), np.bool_)
    spare[order[1:]] = original[order[1:]] == original[order[:-1]]
    return spare | (guarded & ~protected)


def _thumbs(values: list[Any], rows: Rows, shape: tuple[int, ...]) -> tuple[Rows, NDArray[np.float32]]:
    """Those of the rows whose thumb has this shape, and their thumbs (n, *shape)."""
    size = int(np.prod(shape))
    kept = [(row, thumb) for row in rows.tolist() if len(thumb := _floats(values[row])) == size]
    thumbs = np.array([thumb for _, thumb in kept], np.float32).reshape(-1, *shape)
    return np.array([row for row, _ in kept], np.int64), thumbs


def _floats(thumb: Any) -> NDArray[np.float32]:
    """A thumb as the table has it: bytes, a list, or None."""
    if isinstance(thumb, bytes):
        return np.frombuffer(thumb, "<f4")
    return np.asarray([] if thumb is None else thumb, np.float32).ravel()


def _graph(count: int, found: Iterable[Pairs]) -> csr_matrix:
    """(count, count) which rows are linked, both ways."""
    parts = list(found)
    first = np.concatenate([pairs.first for pairs in parts])
    second = np.concatenate([pairs.second for pairs in parts])
    ends = (np.concatenate([first, second]), np.concatenate([second, first]))
    return csr_matrix((np.ones(2 * len(first), np.int8), ends), shape=(count, count))


def _clusters(graph: csr_matrix) -> Rows:
    """(N,) the lowest row of every set of linked rows, -1 for single rows."""
    label = connected_components(graph, directed=False)[1] if graph.shape[0] else np.zeros(0, np.int64)
    _, lowest, group, sizes = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    return np.where(sizes[group] > 1, lowest[group], -1).astype(np.int64)


def _originals(count: int, graph: csr_matrix) -> Rows:
    """(N,) each row's own number, or that of the linked row that stands for it: those with most links come first."""
    original = np.arange(count)
    links = np.diff(graph.indptr)
    free = links > 0
    for row in np.lexsort((original, -links))[: int(free.sum())]:
        if free[row]:
            around = graph.indices[graph.indptr[row] : graph.indptr[row + 1]]
            original[around[free[around]]] = row
            free[around] = free[row] = False
    return original.astype(np.int64)


def _listed(found: list[tuple[str, Pairs]]) -> pd.DataFrame:
    import pandas as pd

    frames = [
        {
            "row_a": pairs.first,
            "row_b": pairs.second,
            "kind": np.full(len(pairs), kind, object),
            "distance": pairs.distance,
            "correlation": pairs.correlation,
        }
        for kind, pairs in found
    ]
    joined = {name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]}
    return pd.DataFrame(joined).sort_values(["row_a", "row_b"], ignore_index=True)
