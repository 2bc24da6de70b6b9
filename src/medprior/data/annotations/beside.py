"""What lies beside images, laid to them: masks, boxes and reports, each held against its image first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data import readers
from medprior.data.annotations.boxes import find_boxes
from medprior.data.annotations.drawings import NOT_USED as NOT_USED
from medprior.data.annotations.drawings import READER as DRAWN
from medprior.data.annotations.drawings import find_drawings, plain, read_drawing
from medprior.data.annotations.masklabels import (
    ImageFacts,
    MaskFacts,
    check_mask,
    class_values,
    mask_facts,
    read_labels,
)
from medprior.data.annotations.masks import Pairing, pair_masks
from medprior.data.annotations.organs import FURTHER as FURTHER
from medprior.data.annotations.organs import READER as JOINED
from medprior.data.annotations.organs import join_parts, parts_beside, read_organs
from medprior.data.annotations.reports import find_reports
from medprior.data.indexing.assembling import objects
from medprior.data.scan import Note, Scan, Source
from medprior.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

ALONE = "a mask whose image is not there, or cannot be read: name it as its image, or remove it"
SEVERAL = "a mask that could be of several images: name it as one of them"
_ONE_VALUE = "all its pixels have the same value"
Mask = dict[str, Any]
"""A `Source` as plain values, the `values` that are its classes, in their order, and the `names` of the values that
`frames` gives its parts, where it has parts."""


def lay_beside(
    scans: pd.DataFrame, root: Path, sidecars: Sequence[str], segmentations: Mapping[str, Source]
) -> tuple[pd.DataFrame, list[Note]]:
    """Scans without those that are masks, with columns `mask`, `boxes` and `report`; and what is to be said.

    Args:
        scans: one row per scan.
        sidecars: files that may tell of boxes or be reports, relative to `root`.
        segmentations: DICOM segmentations by the first path of their scan.
    """
    whole = scans[(scans["frame"] < 0) & (scans["member"] == "") & (scans["reader"] != "dicom")]
    pairing = pair_masks(whole["path"].tolist())
    parts = parts_beside(whole, [*pairing.masks, *pairing.not_images()])
    pairing = replace(pairing, masks={**pairing.masks, **parts})
    masks, said = fitting_masks(whole, root, pairing.masks)
    masks |= {path: plain(source, ()) for path, source in segmentations.items()}
    images = scans[~scans["path"].isin(pairing.not_images())].reset_index(drop=True)
    drawn, more = find_drawings(images, root, drawing_files(sidecars), masks)
    masks |= drawn
    boxes, wrong = _boxes(images, root, sidecars)
    reports = find_reports(root, sidecars, _alone_in_file(images))
    paths = images["path"]
    images["mask"] = objects([masks.get(path) for path in paths])
    images["boxes"] = objects([boxes.get(path) for path in paths])
    images["report"] = objects([reports.get(path) for path in paths])
    return images, [*left_over(pairing), *said, *more, *wrong, *_constant(images)]


def drawing_files(sidecars: Sequence[str]) -> list[str]:
    """Those among files beside scans that may hold outlines."""
    return [path for path in sidecars if path.lower().endswith(".xml")]


def left_over(pairing: Pairing) -> list[Note]:
    """What is to be said of masks without an image."""
    alone = [Note(path, "apart", ALONE) for path in pairing.alone]
    return alone + [Note(path, "doubt", SEVERAL) for path in pairing.ambiguous]


def attach_masks(
    scans: pd.DataFrame, root: Path, named: Mapping[str, Sequence[str]]
) -> tuple[pd.DataFrame, list[Note]]:
    """Scans with the masks that a table names, by path of their image; files that are masks are no scans any more."""
    masks, notes = fitting_masks(scans, root, named)
    kept = scans[~scans["path"].isin({path for found in named.values() for path in found})].reset_index(drop=True)
    kept["mask"] = objects(masks.get(path, old) for path, old in zip(kept["path"], kept["mask"], strict=True))
    return kept, notes


def mask_source(mask: Mask) -> Source:
    """Where a mask of the column `mask` lies."""
    return Source(mask["reader"], tuple(mask["paths"]), mask["member"], mask["frame"], tuple(mask["frames"]))


def read_mask(mask: Mask, classes: Sequence[int], scan: Source, root: Path) -> NDArray[np.uint8 | np.uint16]:
    """(*S) class of every pixel of a scan, an index of `classes`; of a DICOM segmentation whose values are not known
    the number of the segment.

    Raises:
        DataError: the mask cannot be read, or holds other values than when it was indexed.
    """
    source = mask_source(mask)
    if source.reader == "dicom":
        from medprior.data.readers.dicom.segmentation import read_segmentation

        numbers = read_segmentation(source, root, scan).values
        if not len(mask["values"]):
            return numbers
        labels = read_labels(Scan(numbers[None], source.paths[0]), class_values([mask["values"]]))
    elif source.reader in (DRAWN, JOINED):
        made = read_drawing(source, scan, root) if source.reader == DRAWN else read_organs(source, root)
        labels = read_labels(Scan(made[None], source.paths[0]), class_values([mask["values"]]))
    else:
        labels = read_labels(readers.read(source, root), class_values([mask["values"]]))
    return classes_of(mask, classes)[labels]


def classes_of(mask: Mask, classes: Sequence[int]) -> NDArray[np.uint8 | np.uint16]:
    """The index in `classes` of every class that a mask has by itself, the background first. Black and white are (0, 1)
    alone, and keep their value beside other classes."""
    values, own = mask["values"], class_values([mask["values"]])
    white = 255 if 255 in values and 255 in classes else 1
    said = [white if own == (0, 1) and value == 1 else value for value in own]
    return np.array([classes.index(value) for value in said], np.uint16 if len(classes) > 256 else np.uint8)


def fitting_masks(
    scans: pd.DataFrame, root: Path, masks: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Mask], list[Note]]:
    """The mask of each image, the first that fits it or those of one structure each as one (`organs`), and what is to
    be said of all; `scans` has a row for every path."""
    rows: dict[str, dict[str, Any]] = {row["path"]: row for row in _records(scans)}
    fitting: dict[str, list[Mask]] = {}
    notes = []
    for image, found in masks.items():
        for path in found:
            source = Source(rows[path]["reader"], (path, *(rows[path]["companions"] or ())))
            try:
                facts = _facts(rows[path], source, root)
            except DataError as error:
                advice = f"; {error.do[0].lower()}{error.do[1:]}" if error.do else ""
                notes.append(Note(path, "doubt", f"{NOT_USED}{error.what}{advice}"))
                continue
            check = check_mask(ImageFacts(tuple(rows[image]["shape"]), _affine(rows[image])), facts)
            notes += [Note(path, "doubt", f"{NOT_USED}{reason}") for reason in check.refused]
            notes += [Note(path, "doubt", reason) for reason in check.doubts if check.usable]
            if check.usable:
                fitting.setdefault(image, []).append(plain(source, facts.values))
    kept, said = join_parts(fitting, root)
    return kept, [*notes, *said, *_two_ways(list(kept.values()))]


def _two_ways(masks: Sequence[Mask]) -> list[Note]:
    """Said once where the masks of a collection write the same class differently."""
    ones = [mask for mask in masks if 1 in mask["values"]]
    whites = [mask for mask in masks if 255 in mask["values"]]
    if not ones or not whites or class_values(mask["values"] for mask in masks) != (0, 1):
        return []
    said = f"white is 1 in {len(ones):,}, 255 in {len(whites):,}; both are read as 1"
    odd = min(ones, whites, key=len)[0]["paths"][0]
    return [Note(odd, "doubt", f"masks of this collection are written in two ways: {said}")]


def _constant(images: pd.DataFrame) -> list[Note]:
    """Images that show nothing at all, each file once."""
    counts = Counter(images["path"])
    flat = images[np.array([bool(values) and len(values) == 1 for values in images["values"]], np.bool_)]
    return [
        Note(path, "doubt", f"{_ONE_VALUE}{_share(count, counts[path])}")
        for path, count in Counter(flat["path"]).items()
    ]


def without_masks(problems: pd.DataFrame, scans: pd.DataFrame) -> pd.DataFrame:
    """What was said of images, without what is said of none: a mask may have one value."""
    constant = problems["reason"].str.startswith(_ONE_VALUE).astype(bool)
    return problems[~constant | problems["path"].isin(scans["path"])]


def _share(count: int, whole: int) -> str:
    return f" ({count:,} of {whole:,} images in it)" if whole > 1 else ""


def _records(scans: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in scans.to_dict("records")]


def _facts(row: Mapping[str, Any], source: Source, root: Path) -> MaskFacts:
    """From the index where that knows all values, else from the pixels."""
    if row["values"] is None or row["channels"] > 1:
        return mask_facts(readers.read(source, root))
    return MaskFacts(tuple(row["shape"]), _affine(row), tuple(row["values"]))


def _affine(row: Mapping[str, Any]) -> tuple[float, ...] | None:
    return None if row["affine"] is None else tuple(row["affine"])


def _boxes(
    images: pd.DataFrame, root: Path, sidecars: Sequence[str]
) -> tuple[dict[str, list[dict[str, Any]]], list[Note]]:
    flat = images[images["shape"].map(len) == 2]
    shapes = dict(zip(flat["path"], map(tuple, flat["shape"]), strict=True))
    found = find_boxes(root, sidecars, _alone_in_file(flat), shapes)
    return {path: [asdict(box) for box in boxes] for path, boxes in found.by_image.items()}, found.problems


def _alone_in_file(images: pd.DataFrame) -> list[str]:
    """Paths that hold one scan each."""
    return [path for path, count in Counter(images["path"]).items() if count == 1]
