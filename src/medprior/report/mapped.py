"""From a finished study to its embedding map with pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medprior.report.embedding import TILES, Embedding
from medprior.report.seen import as_bytes, small, whole
from medprior.study.ground import Ground
from medprior.study.lost import LostStore
from medprior.study.study import Outcome
from medprior.study.verdict.embeddingmap import EmbeddingMap, map_study


def embedding_of(outcome: Outcome) -> Embedding | None:
    """The map of the best pre-trained arm; None where there is none. Text may be burnt into what is not shown."""
    ground = outcome.ground
    found = map_study(outcome.results, outcome.verdict, ground, outcome.told.groupings, outcome.out)
    if found is None:
        return None
    if isinstance(ground.store, LostStore):
        return Embedding(found)
    thumbs = small(ground, found.rows, max(TILES.values()))
    thumbs[_hidden(ground, found.rows)] = 0
    return Embedding(found, thumbs, _pictures(ground, found))


def _pictures(ground: Ground, found: EmbeddingMap) -> dict[int, NDArray[np.uint8]]:
    rows = {one.row for one in found.mistakes} | {near.row for one in found.mistakes for near in one.near}
    shown = np.array(sorted(rows), np.int64)
    shown = shown[~_hidden(ground, shown)]
    return dict(zip(shown.tolist(), as_bytes(whole(ground, shown)), strict=True)) if len(shown) else {}


def _hidden(ground: Ground, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pictures may not be shown."""
    burnt: NDArray[np.bool_] = ground.catalog.table["burnt"].notna().to_numpy()[rows]
    return burnt
