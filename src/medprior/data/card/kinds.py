"""Kinds of scan: what each modality holds, in numbers, and which rows stand for it in pictures."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.annotations.modalities import modality_hint
from medprior.data.card.content import Counts, Kind, Sizes, Spread
from medprior.data.card.values import intensities
from medprior.data.intensity import IntensityPlan
from medprior.data.treatments import modalities

if TYPE_CHECKING:
    import pandas as pd

IMAGES_SHOWN, VOLUMES_SHOWN = 12, 3
_FREQUENT = 8  # sizes that are listed
_COARSE = 2.0  # coarsest spacing by finest, from which voxels count as anisotropic

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


def kinds(table: pd.DataFrame, plan: IntensityPlan, original: Rows) -> tuple[Kind, ...]:
    """The kinds of scan in a catalog's table, the most frequent first.

    Args:
        original: (N,) which row stands for a row, see `medprior.data.duplicates.find.Duplicates`.
    """
    burnt = table["burnt"].notna().to_numpy()
    clean = ~np.isin(original, original[burnt])  # a copy of a picture with text shows the text, too
    names = _names(table)
    often = sorted(Counter(names).items(), key=lambda one: (-one[1], one[0]))
    place = {name: i for i, (name, _) in enumerate(often)}
    places = np.array([place[name] for name in names])
    where = {name: np.flatnonzero(places == i) for name, i in place.items()}
    return tuple(
        _kind(*name, table.iloc[rows], rows, plan, original[rows], clean[rows]) for name, rows in where.items()
    )


def numbers_spread(values: Sequence[float] | NDArray[Any]) -> Spread | None:
    """Extremes, quartiles and median, or None of nothing."""
    if not len(values):
        return None
    return Spread(*(float(value) for value in np.percentile(np.asarray(values, np.float64), (0, 25, 50, 75, 100))))


def counts_of(values: Iterable[Any]) -> Counts:
    """How often each value is there, the most frequent first."""
    often = Counter(str(value) for value in values)
    return dict(sorted(often.items(), key=lambda one: (-one[1], one[0])))


def _names(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The modality of every scan and, where it is unknown, what its folders suggest."""
    known = modalities(table).tolist()
    return [(code, "" if code else modality_hint(path) or "") for code, path in zip(known, table["path"], strict=True)]


def _kind(
    modality: str, hint: str, table: pd.DataFrame, rows: Rows, plan: IntensityPlan, original: Rows, clean: Flags
) -> Kind:
    dims = table["shape"].map(len).to_numpy()
    channels = table["channels"].to_numpy(dtype=int)
    return Kind(
        modality=modality,
        hint=hint,
        scans=len(table),
        images=int((dims == 2).sum()),
        volumes=int((dims == 3).sum()),
        readers=counts_of(table["reader"]),
        types=counts_of(table["dtype"]),
        channels=counts_of(channels),
        grey=int((table["grey"].to_numpy(dtype=bool) & (channels > 1)).sum()),
        burnt=int(table["burnt"].notna().sum()),
        sizes=tuple(_sizes(table[dims == n], n) for n in (2, 3) if (dims == n).any()),
        intensities=intensities(table, plan),
        samples=_samples(table, rows, dims, original, clean),
    )


def _sizes(table: pd.DataFrame, dims: int) -> Sizes:
    shapes = [tuple(map(int, shape)) for shape in table["shape"]]
    often = sorted(Counter(shapes).items(), key=lambda one: (-one[1], one[0]))
    spacing = np.array([one for one in table["spacing"] if one is not None], np.float64).reshape(-1, dims)
    by_extent = sorted(often, key=lambda one: (np.prod(one[0], dtype=float), one[0]))
    each = [numbers_spread(axis) for axis in spacing.T]
    coarse = spacing.max(axis=1, initial=0) > _COARSE * spacing.min(axis=1, initial=np.inf)
    return Sizes(
        dims=dims,
        scans=len(table),
        different=len(often),
        frequent=tuple(often[:_FREQUENT]),
        least=by_extent[0][0],
        most=by_extent[-1][0],
        spaced=len(spacing),
        spacing=tuple(one for one in each if one is not None),
        anisotropic=int(coarse.sum()),
    )


def _samples(table: pd.DataFrame, rows: Rows, dims: NDArray[Any], original: Rows, clean: Flags) -> tuple[int, ...]:
    """Rows from as many folders as can be, half of them with a mask or boxes where there are; of copies among images,
    and among volumes, one; none with burnt-in text."""
    places = Counter(table["path"])
    together = [path if places[path] > 1 else posixpath.dirname(path) for path in table["path"]]
    folders = np.unique(together, return_inverse=True)[1]
    drawn = (table["mask"].notna() | table["boxes"].notna()).to_numpy()
    chosen: list[int] = []
    for n, count in ((2, IMAGES_SHOWN), (3, VOLUMES_SHOWN)):
        here = _one_of_each(original, clean & (dims == n), drawn)
        marked, plain = here & drawn, here & ~drawn
        half = max(count // 2, count - int(plain.sum()))
        first = _spread(rows, marked, folders, half)
        chosen += sorted([*first, *_spread(rows, plain, folders, count - len(first))])
    return tuple(chosen)


def _one_of_each(original: Rows, here: Flags, drawn: Flags) -> Flags:
    """Of the rows here that one row stands for the first, if possible one that is drawn on."""
    there = np.flatnonzero(here)
    order = there[np.lexsort((there, ~drawn[there], original[there]))]
    first = np.ones(len(order), np.bool_)
    first[1:] = original[order[1:]] != original[order[:-1]]
    kept = np.zeros(len(here), np.bool_)
    kept[order[first]] = True
    return kept


def _spread(rows: Rows, here: Flags, folders: Rows, count: int) -> list[int]:
    """Up to `count` rows, as evenly as can be over folders, and over each folder."""
    there = np.unique(folders[here])
    chosen = there[_middles(len(there), count)] if len(there) > count else there
    found = [rows[here & (folders == folder)] for folder in chosen]
    sizes = np.zeros(len(found), int)
    while sizes.sum() < min(count, sum(map(len, found))):
        room = [i for i, some in enumerate(found) if sizes[i] < len(some)]
        sizes[min(room, key=lambda i: (sizes[i], -len(found[i]), i))] += 1
    return [int(some[place]) for some, size in zip(found, sizes, strict=True) for place in _middles(len(some), size)]


def _middles(length: int, count: int) -> list[int]:
    """The middles of `count` equal parts of a row of places."""
    return [int((i + 0.5) * length / count) for i in range(count)]
