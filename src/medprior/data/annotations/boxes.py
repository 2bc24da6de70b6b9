"""The boxes that lie beside images, matched to them and checked: none is used that has no area or lies elsewhere."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medprior.data.annotations.boxfiles import Box as Box
from medprior.data.annotations.boxfiles import Told, box_columns, boxes_from_table, read_coco, read_voc
from medprior.data.annotations.label_table import read_label_table
from medprior.data.annotations.matching import Matcher
from medprior.data.readers import stem_of
from medprior.data.readers.guard import shown
from medprior.data.scan import Note
from medprior.errors import DataError, LabelError

_SLACK = 1.0
"""Pixels that a box may reach beyond its image without a word: tools count from 0 or from 1."""
_HEADER = 1 << 16


@dataclass
class BoxesFound:
    """Boxes by path of their image, in the order they were told, and what is wrong with others."""

    by_image: dict[str, list[Box]] = field(default_factory=dict)
    problems: list[Note] = field(default_factory=list)


def find_boxes(
    root: Path,
    sidecars: Sequence[str],
    image_paths: Sequence[str],
    shapes: Mapping[str, tuple[int, int]] | None = None,
) -> BoxesFound:
    """The boxes that Pascal VOC, COCO and tables among `sidecars` tell of images.

    A file of VOC is about the image of its own stem, else about the one it names. What two files tell alike counts
    once.

    Args:
        root: the folder that all paths are relative to.
        sidecars: files that may tell of boxes; others are passed by.
        image_paths: the images.
        shapes: (H, W) of images where known; boxes of others are not held against their edges.
    """
    finder = _Finder(root, image_paths, shapes or {})
    for path in sorted(sidecars):
        if read := _READERS.get(posixpath.splitext(path)[1].lower()):
            finder.take(path, read)
    return finder.found


def place_boxes(
    told: Iterable[Told], where: str, matcher: Matcher, shapes: Mapping[str, tuple[int, int]]
) -> BoxesFound:
    """The boxes of a table that stands elsewhere; `where` names it, `matcher` knows the images."""
    finder = _Finder(matcher.root, (), shapes, matcher)
    finder.place(list(told), where)
    return finder.found


def _voc(file: Path, where: str) -> list[Told]:
    told = read_voc(file, where)
    return [] if told is None else [told]


def _table(file: Path, where: str) -> list[Told]:
    """The boxes of a table, which is read only when its first line names their columns."""
    with file.open("rb") as stream:
        head = stream.read(_HEADER).replace(b"\0", b"").decode("latin-1")
    first = next((line for line in head.splitlines() if line.strip()), "")
    columns = [cell.strip(' "\ufeff') for cell in first.replace(";", ",").replace("\t", ",").split(",")]
    return boxes_from_table(read_label_table(file)) if box_columns(columns) else []


_READERS: dict[str, Callable[[Path, str], list[Told]]] = {
    ".xml": _voc,
    ".json": read_coco,
    ".csv": _table,
    ".tsv": _table,
}


class _Finder:
    def __init__(
        self,
        root: Path,
        image_paths: Sequence[str],
        shapes: Mapping[str, tuple[int, int]],
        matcher: Matcher | None = None,
    ) -> None:
        self.root, self.shapes, self.found = root, shapes, BoxesFound()
        self.matcher = matcher or Matcher(image_paths, root, root)

    def take(self, path: str, read: Callable[[Path, str], list[Told]]) -> None:
        """What one file tells, or a note that it cannot be read."""
        try:
            told = read(self.root / path, path)
        except (DataError, LabelError, OSError) as error:
            reason = error.what if isinstance(error, DataError | LabelError) else "the file cannot be opened"
            self.note(path, f"no boxes were taken from it: {reason}")
            return
        self.place(told, path)

    def note(self, path: str, reason: str) -> None:
        self.found.problems.append(Note(path, "doubt", shown(reason)))

    def place(self, told: Sequence[Told], where: str) -> None:
        """Give each image what is told of it."""
        own = stem_of(where).removesuffix(".xml") if where.lower().endswith(".xml") else ""
        strange: list[str] = []
        for entry in told:
            for sentence in entry.wrong:
                self.note(where, f"{sentence}: left out")
            image = self._image(entry, own, where)
            if image is not None:
                self._keep(entry, image, where)
            elif entry.image and entry.boxes:
                strange.append(entry.image)
        if strange:
            several = f", and {len(strange) - 1} more" if len(strange) > 1 else ""
            self.note(where, f'it has boxes of "{strange[0]}"{several}, which is no image here, or several: left out')

    def _image(self, entry: Told, own: str, where: str) -> str | None:
        """The one image that is meant. A file's name weighs more than what it says, which copies keep."""
        by_own = self._match(own, where)
        named = self._match(entry.image, where)
        if len(by_own) == 1 and len(named) == 1 and by_own != named:
            self.note(
                where, f'it says that it is about "{entry.image}", and is called after another image: that one counts'
            )
        chosen = by_own if len(by_own) == 1 else named
        return chosen[0] if len(chosen) == 1 else None

    def _match(self, cell: str, where: str) -> list[str]:
        """The images a name may mean: as a path from the file's folder, then by name; of several the nearest to it."""
        if not cell.strip():
            return []
        folder = posixpath.dirname(where)
        beside = self.matcher.paths.get(posixpath.normpath(posixpath.join(folder, cell.strip().replace("\\", "/"))))
        return [beside] if beside else nearest_to(self.matcher.match(cell), where)

    def _keep(self, entry: Told, image: str, where: str) -> None:
        shape = self.shapes.get(image)
        if entry.boxes and shape and entry.size and entry.size != shape:
            drawn, real = (f"{height} x {width}" for height, width in (entry.size, shape))
            self.note(where, f"its boxes were drawn on an image of {drawn} pixels, and {image} has {real}: left out")
            return
        kept = self.found.by_image.get(image, [])
        for box, place in zip(entry.boxes, entry.place, strict=True):
            fitted, reason = fit(box, shape)
            if reason:
                self.note(where, f"{place} ({box.name}) of {image} {reason}")
            if fitted is not None and fitted not in kept:
                kept.append(fitted)
        if kept:
            self.found.by_image[image] = kept


def nearest_to(paths: list[str], where: str) -> list[str]:
    """Of several paths those that share most folders with the file `where`."""
    if len(paths) < 2:
        return paths
    folder = posixpath.dirname(where)
    shared: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        shared[len(posixpath.commonpath(["/" + folder, "/" + posixpath.dirname(path)]))].append(path)
    return shared[max(shared)]


def fit(box: Box, shape: tuple[int, int] | None) -> tuple[Box | None, str]:
    """The box within its image (H, W), or None where it cannot be used, and what is to be said of it, or ""."""
    y0, x0, y1, x1 = box.box
    if y1 < y0 or x1 < x0:
        return None, f"ends before it begins {_shown(box)}: left out"
    if y1 == y0 or x1 == x0:
        return None, f"has no area {_shown(box)}: left out"
    height, width = shape or (float("inf"), float("inf"))
    inside = (max(y0, 0.0), max(x0, 0.0), min(y1, float(height)), min(x1, float(width)))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return None, f"lies outside the image {_shown(box)}: left out"
    beyond = max(abs(a - b) for a, b in zip(inside, box.box, strict=True))
    said = f"reaches {beyond:g} pixels beyond the image {_shown(box)}: cut" if beyond > _SLACK else ""
    return Box(box.name, inside), said


def _shown(box: Box) -> str:
    y0, x0, y1, x1 = box.box
    return f"(x {x0:g} to {x1:g}, y {y0:g} to {y1:g})"
