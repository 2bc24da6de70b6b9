"""Outlines in XML laid to their images: each class has one value in a whole collection, by its name.

The mask of such an image is a `Source` with the reader "aperio", whose `frames` are the values of the file's layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data import readers
from medprior.data.annotations.aperio import Drawing, read_aperio
from medprior.data.annotations.boxes import nearest_to
from medprior.data.annotations.matching import Matcher
from medprior.data.scan import Note, Source
from medprior.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

READER = "aperio"
FOREGROUND = "foreground"
"""The class of outlines and masks of which nothing says what it is."""
NOT_USED = "not used: "
"""How the reason begins why what is drawn is not attached to its image."""
_SLACK = 1.0
"""Pixels that a drawing may reach beyond its image without a word."""
_ALIKE = 0.01
_OTHERS = "other images have masks of pixels, whose values say no names: give all as XML, or all as masks"
_SEVERAL = "its image is not there, or could be one of several: name it as its image"


@dataclass(frozen=True)
class Drawn:
    """A drawing and the image that it is of: its path, its shape (H, W), and pixels of it for each drawn on."""

    path: str
    image: str
    shape: tuple[int, int]
    drawing: Drawing
    scale: float

    @property
    def names(self) -> list[str]:
        """What the layers are called: a single one without a name is the foreground."""
        layers = self.drawing.layers
        return [
            layer.name or (FOREGROUND if len(layers) == 1 else f"layer {number}")
            for number, layer in enumerate(layers, start=1)
        ]


def find_drawings(
    images: pd.DataFrame, root: Path, files: Sequence[str], taken: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], list[Note]]:
    """Masks by path of their image, as the column `mask` holds them, and what is to be said of drawings.

    Args:
        images: one row per scan.
        root: the folder that all paths are relative to.
        files: XML that may hold drawings; of other kinds it is passed by.
        taken: images that have a mask of pixels, which goes before.
    """
    flat = images[(images["shape"].map(len) == 2) & (images["frame"] < 0) & (images["member"] == "")]
    rows = dict(zip(flat["path"], zip(flat["shape"], flat["spacing"], strict=True), strict=True))
    matcher, found, notes = Matcher(rows, root, root), list[Drawn](), list[Note]()
    for path in sorted(files):
        try:
            drawing = read_aperio(root / path, path)
        except DataError as error:
            notes.append(_unused(path, error.what))
            continue
        if drawing is None:
            continue
        meant = nearest_to(matcher.match(PurePosixPath(path).stem), path)
        if len(meant) != 1 or meant[0] in taken:
            notes.append(_unused(path, "its image has a mask of pixels" if len(meant) == 1 else _SEVERAL))
            continue
        shape, spacing = rows[meant[0]]
        one = Drawn(path, meant[0], (int(shape[0]), int(shape[1])), drawing, _scale(drawing, spacing))
        notes += _said(one)
        found.append(one)
    if taken and any(one.names != [FOREGROUND] for one in found):
        return {}, [*notes, *(_unused(one.path, _OTHERS) for one in found)]
    return _masks(found), notes


def plain(source: Source, values: Sequence[float], names: Sequence[str] = ()) -> dict[str, Any]:
    """A mask as the column `mask` holds it: where it lies, its values, and what the values in `frames` are called."""
    kept = asdict(source)
    where = {name: kept[name] for name in ("reader", "paths", "member", "frame", "frames")}
    return where | {"values": list(values), "names": list(names)}


def part_names(mask: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The value and the name of every part of a mask of the column `mask`; catalogs of older versions have none."""
    names = mask.get("names")
    return [] if names is None else [(int(v), str(n)) for v, n in zip(mask["frames"], names, strict=False)]


def read_drawing(source: Source, scan: Source, root: Path) -> NDArray[np.uint16]:
    """(H, W) the value of the class of every pixel of a scan, 0 for none.

    Raises:
        DataError: the file cannot be read any more, or has other layers than when it was indexed.
    """
    drawing = read_aperio(root / source.paths[0], source.paths[0])
    if drawing is None or len(drawing.layers) != len(source.frames):
        raise DataError("its layers have changed", where=source.paths[0], do="Index the scans again")
    info = readers.reader(scan.reader).describe(scan, root)
    return drawing.rasterise(source.frames, (info.shape[0], info.shape[1]), _scale(drawing, info.spacing))


def _masks(found: Sequence[Drawn]) -> dict[str, dict[str, Any]]:
    """The masks of drawings; their classes are numbered by name, over the whole collection."""
    values = {name: value for value, name in enumerate(sorted({n for one in found for n in one.names}), start=1)}
    kept: dict[str, dict[str, Any]] = {}
    for one in found:
        mine = [values[name] for name in one.names]
        there = np.unique(one.drawing.rasterise(mine, one.shape, one.scale)).tolist()
        where = Source(READER, (one.path,), frames=tuple(mine))
        kept[one.image] = plain(where, sorted({0, *there}), one.names)
    return kept


def _scale(drawing: Drawing, spacing: Sequence[float] | None) -> float:
    """Pixels of an image for each that was drawn on, where both say how large theirs are."""
    if drawing.microns is None or spacing is None or len(spacing) != 2:
        return 1.0
    scale = drawing.microns / 1000 / float(np.mean(spacing))
    return 1.0 if abs(scale - 1) <= _ALIKE else scale


def _said(one: Drawn) -> list[Note]:
    """What is odd about a drawing that is used."""
    reasons = []
    if one.scale != 1:
        reasons.append(f"it was drawn at another resolution than its image has, and is enlarged {one.scale:.3g} times")
    beyond = one.drawing.beyond(one.shape, one.scale)
    if beyond > _SLACK:
        reasons.append(f"it reaches {beyond:.0f} pixels beyond its image, where it is cut: is it of this image?")
    if both := one.drawing.overlap(one.shape, one.scale):
        reasons.append(f"its layers share {both:,} pixels, which count for the last of them")
    return [Note(one.path, "doubt", reason) for reason in reasons]


def _unused(path: str, reason: str) -> Note:
    return Note(path, "doubt", f"{NOT_USED}{reason}")
