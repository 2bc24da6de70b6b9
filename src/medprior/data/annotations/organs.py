"""Masks of one structure each (liver.nii.gz, spleen.nii.gz) joined into one label map of an image.

A file is a part when it is black and white and its name says what it shows: what is left of it without its image's name
and words for masks. Classes are numbered by name over a whole collection. The mask of such an image is a `Source` with
the reader "organs", whose `frames` are the values of its files. Where parts overlap the smaller one counts: a tumour
lies in its organ. Two files that mark nearly the same are two readers of one structure, and are not joined.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data import readers
from medprior.data.annotations import masknames
from medprior.data.annotations.drawings import NOT_USED, plain
from medprior.data.annotations.masklabels import MOST_PARTS, TWO_TONES, class_values, label_values, read_labels
from medprior.data.scan import Note, Source
from medprior.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

READER = "organs"
FURTHER = f"{NOT_USED}its image has another mask that fits, the first by name"
_LOOKED_AT = 3
"""Images of a collection whose parts are held against each other before they are joined."""
_SAME = 0.5
"""Of what two parts mark together; sharing more they are two readers of one structure."""
_WORD = re.compile(r"[^\W\d_]{3}")
Mask = dict[str, Any]


@dataclass
class _Shared:
    """Voxels of parts and of pairs of them, by name."""

    alone: dict[str, int] = field(default_factory=dict)
    both: dict[tuple[str, str], int] = field(default_factory=dict)

    def same(self) -> tuple[str, str] | None:
        """Two parts that mark nearly the same."""
        for (one, other), shared in self.both.items():
            if shared > _SAME * (self.alone[one] + self.alone[other] - shared):
                return one, other
        return None


def join_parts(fitting: Mapping[str, Sequence[Mask]], root: Path) -> tuple[dict[str, Mask], list[Note]]:
    """One mask for each image, and what is to be said of the others.

    Args:
        fitting: the masks of each image that fit it, in the order of their names.
    """
    parts = {image: found for image, masks in fitting.items() if (found := _parts(image, masks))}
    several = [image for image, found in parts.items() if len(found) > 1]
    if not several:
        return _first(fitting)
    notes = []
    for image in several[:_LOOKED_AT]:
        shared = _shared(parts[image], root)
        if (two := shared.same()) is not None:
            reason = f"{two[0]} and {two[1]} mark nearly the same: two drawings of one structure, which are not joined"
            kept, more = _first(fitting)
            return kept, [*more, Note(parts[image][two[0]]["paths"][0], "doubt", reason)]
        if shared.both:
            (one, other), count = max(shared.both.items(), key=lambda pair: pair[1])
            said = f"{one} and {other} share {count:,} voxels: where masks of one structure overlap, the smaller counts"
            notes.append(Note(parts[image][one]["paths"][0], "doubt", said))
    return _joined(fitting, parts, notes)


def part_name(mask: str, image: str) -> str:
    """What a mask shows by its name: "left_lung" of "case_7_left_lung_mask"; "" where that does not say it."""
    stem, own = masknames.stem(mask), masknames.stem(image)
    of = [name for name in (own, masknames.shared_name(own), masknames.image_name(own)) if name]
    for name in masknames.bares(stem) or (stem,):
        rest = next((name[len(start) :] for start in of if name.startswith(start)), name).strip("-_. ")
        if _WORD.search(rest) and rest not in of:
            return rest
    return ""


def read_organs(source: Source, root: Path) -> NDArray[np.uint16]:
    """(*S) the value of the smallest part that marks each voxel, 0 for none.

    Raises:
        DataError: a part cannot be read any more, or has another shape than the first.
    """
    marked = [_marked(path, root) for path in source.paths]
    if len({one.shape for one in marked}) > 1:
        do = "Index the scans again"
        raise DataError("its masks of one structure each have changed in shape", where=source.paths[0], do=do)
    labels = np.zeros(marked[0].shape, np.uint16)
    for part in sorted(range(len(marked)), key=lambda i: -int(marked[i].sum())):
        labels[marked[part]] = source.frames[part]
    return labels


def _marked(path: str, root: Path) -> NDArray[np.bool_]:
    family = readers.format_of(path)
    assert family is not None
    scan = readers.read(Source(family, (path,)), root)
    return read_labels(scan, class_values([label_values(scan)])) > 0


def _parts(image: str, masks: Sequence[Mask]) -> dict[str, Mask]:
    """The masks of an image by what they show; nothing where one of them does not say it, or two say the same."""
    named = {part_name(mask["paths"][0], image): mask for mask in masks}
    whole = all(set(m["values"]) <= {0, 1} or set(m["values"]) <= set(TWO_TONES) for m in masks)
    alone = all(len(mask["paths"]) == 1 and readers.format_of(mask["paths"][0]) for mask in masks)
    return named if "" not in named and len(named) == len(masks) and whole and alone else {}


def _shared(parts: Mapping[str, Mask], root: Path) -> _Shared:
    """What the parts of one image have in common; what cannot be read has nothing."""
    found, marked = _Shared(), dict[str, NDArray[np.bool_]]()
    for name, mask in parts.items():
        try:
            marked[name] = _marked(mask["paths"][0], root)
        except DataError:
            continue
        found.alone[name] = int(marked[name].sum())
    boxes = {name: _box(one) for name, one in marked.items() if one.any()}
    for one, other in combinations(boxes, 2):
        if all(a.start < b.stop and b.start < a.stop for a, b in zip(boxes[one], boxes[other], strict=True)):
            shared = int(np.count_nonzero(marked[one][boxes[one]] & marked[other][boxes[one]]))
            found.both |= {(one, other): shared} if shared else {}
    return found


def _box(marked: NDArray[np.bool_]) -> tuple[slice, ...]:
    along = (
        np.flatnonzero(marked.any(tuple(a for a in range(marked.ndim) if a != axis))) for axis in range(marked.ndim)
    )
    return tuple(slice(int(places[0]), int(places[-1]) + 1) for places in along)


def _first(fitting: Mapping[str, Sequence[Mask]]) -> tuple[dict[str, Mask], list[Note]]:
    """The first mask of each image by name."""
    further = [mask["paths"][0] for masks in fitting.values() for mask in masks[1:]]
    kept = {image: masks[0] for image, masks in fitting.items() if masks}
    return kept, [Note(path, "doubt", FURTHER) for path in further]


def _joined(
    fitting: Mapping[str, Sequence[Mask]], parts: Mapping[str, Mapping[str, Mask]], notes: list[Note]
) -> tuple[dict[str, Mask], list[Note]]:
    names = sorted({name for found in parts.values() for name in found})
    if len(names) >= MOST_PARTS:
        kept, more = _first(fitting)
        path = next(iter(kept.values()))["paths"][0]
        return kept, [*more, Note(path, "doubt", f"masks of {len(names):,} structures are too many to be joined")]
    values = {name: value for value, name in enumerate(names, start=1)}
    kept = {}
    for image, masks in fitting.items():
        if not masks:
            continue
        if image not in parts:
            reason = f"{NOT_USED}other images have a mask for each structure, and its name does not say which it shows"
            notes.append(Note(masks[0]["paths"][0], "doubt", reason))
            continue
        mine = sorted(parts[image])
        source = Source(READER, tuple(parts[image][n]["paths"][0] for n in mine), frames=tuple(values[n] for n in mine))
        there = {values[n] for n in mine if set(parts[image][n]["values"]) - {0}}
        kept[image] = plain(source, sorted({0, *there}), mine)
    return kept, notes


def parts_beside(scans: pd.DataFrame, paired: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Volumes that are masks of the one image in their folder, although nothing calls them so: it is the only one that
    is not black and white, and they have its shape and names that say what they show.

    Args:
        scans: one row per file.
        paired: paths that are masks or have some.
    """
    volumes = scans[(scans["shape"].map(len) == 3) & ~scans["path"].isin(set(paired))]
    folders: dict[str, list[tuple[str, tuple[int, ...], bool]]] = defaultdict(list)
    for path, shape, values in zip(volumes["path"], volumes["shape"], volumes["values"], strict=True):
        flat = values is not None and (set(values) <= {0, 1} or set(values) <= set(TWO_TONES))
        folders[posixpath.dirname(path)].append((path, tuple(shape), flat))
    found = {}
    for there in folders.values():
        images = [(path, shape) for path, shape, flat in there if not flat]
        parts = tuple(path for path, shape, flat in there if flat and images and shape == images[0][1])
        if len(images) == 1 and len(parts) == len(there) - 1 > 0 and all(part_name(p, images[0][0]) for p in parts):
            found[images[0][0]] = tuple(sorted(parts))
    return found
