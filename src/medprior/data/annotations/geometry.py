"""Labelled scans whose sizes make them hard to learn from together: what is said of them before any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medprior.data.catalog import Catalog
from medprior.data.scan import Note

_UNLIKE = 1.5  # times; spacings that differ more are said


def oddities(catalog: Catalog) -> tuple[list[Note], list[str]]:
    """What is odd about the sizes of labelled scans: volumes of one slice, and spacings that are unlike."""
    table = catalog.table[catalog.table["mask"].notna()]
    flat = [path for path, shape in zip(table["path"], table["shape"], strict=True) if len(shape) == 3 and 1 in shape]
    advice = "give the whole volume, or save it as an image"
    notes = [Note(path, "doubt", f"a volume of one slice: nothing can be learned across it; {advice}") for path in flat]
    said = [f"Labelled volumes of one slice: {len(flat):,}."] if flat else []
    for axes in (2, 3):
        spaced = [(path, spacing) for path, spacing in zip(table["path"], table["spacing"], strict=True)
                  if spacing is not None and len(spacing) == axes]  # fmt: skip
        note, more = _unlike(spaced)
        notes, said = [*notes, *note], [*said, *more]
    return notes, said


def _unlike(spaced: Sequence[tuple[str, Sequence[float]]]) -> tuple[list[Note], list[str]]:
    """The scan whose spacing is furthest from the middle, where spacings differ by much."""
    if not spaced:
        return [], []
    sizes = np.array([spacing for _, spacing in spaced], np.float64)
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    if (high <= _UNLIKE * low).all():
        return [], []
    middle = np.median(sizes, axis=0)
    odd = int(np.abs(np.log(sizes / middle)).max(axis=1).argmax())
    advice = "set data.spacing, so that all are learned on one grid"
    reason = f"its voxels have {_millimetres(sizes[odd])}, in the middle of all labelled scans {_millimetres(middle)}"
    said = f"Spacings of labelled scans differ, from {_millimetres(low)} to {_millimetres(high)}: {advice}."
    return [Note(spaced[odd][0], "doubt", f"{reason}; {advice}")], [said]


def _millimetres(sizes: Any) -> str:
    return f"{' x '.join(f'{size:.3g}' for size in sizes)} mm"
