"""Segmentation objects laid onto the voxels of the scan that they were drawn on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.readers.dicom import geometry, tags
from medprior.data.readers.dicom.examine import File, opened
from medprior.data.readers.dicom.functional import Frame
from medprior.data.readers.dicom.headers import Head
from medprior.data.readers.dicom.reading import frames_of, is_volume
from medprior.data.readers.dicom.space import space_of, turned
from medprior.data.readers.dicom.stacking import SAME_PLACE
from medprior.data.readers.guard import refusing
from medprior.data.scan import Source
from medprior.errors import DataError


@dataclass(frozen=True)
class Labels:
    """A segmentation in the voxel grid of a scan.

    Attributes:
        values: (D, H, W), or (H, W) of an image: 0, or the number of a segment; uint8, or uint16 above 255.
        names: what each segment is called, by its number.
        doubts: what is odd (segments that overlap, frames that lie on no slice).
    """

    values: NDArray[Any]
    names: dict[int, str]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Slice:
    frame: Frame
    sop: str


def read_segmentation(source: Source, root: Path, scan: Source) -> Labels:
    """Lay the frames of a segmentation onto the slices of `scan`, by their places or by the images they refer to.

    Where segments overlap the one of the higher number stays. A fraction counts from one half.

    Raises:
        DataError: one of the files cannot be read, or no frame lies on a slice of the scan.
    """
    heads, slices = _slices(scan, root)
    path = source.paths[0]
    with refusing(path, root):
        file = opened(root / path)
        head = file.head(path)
        if head.kind != "segmentation" or file.layout is None:
            raise DataError("it is no segmentation")
        names = _names(file)
        labels, doubts = _laid(file, head, slices, (len(slices), heads[0].rows, heads[0].columns))
        if not is_volume(scan):
            return Labels(labels[0], names, doubts)
        space = space_of([one.frame for one in slices], heads[0].rows, heads[0].columns)
        return Labels(np.ascontiguousarray(turned(labels, space.turn)), names, doubts)


def _slices(scan: Source, root: Path) -> tuple[list[Head], list[_Slice]]:
    heads: dict[str, Head] = {}
    for path in scan.paths:
        if path not in heads:
            with refusing(path, root):
                heads[path] = opened(root / path).head(path)
    each = [heads[path] for path in scan.paths]
    frames = frames_of(scan, each)
    sops = [head.sop for head in each] if len(each) == len(frames) else [each[0].sop] * len(frames)
    return each, [_Slice(frame, sop) for frame, sop in zip(frames, sops, strict=True)]


def _names(file: File) -> dict[int, str]:
    segments = file.elements.dataset.get(tags.SEGMENT_SEQUENCE)
    found = {}
    for item in segments.value if segments is not None else ():
        label = item.get(tags.SEGMENT_LABEL)
        number = int(item[tags.SEGMENT_NUMBER].value)
        found[number] = str(label.value) if label is not None else f"segment {number}"
    return found


def _laid(
    file: File, head: Head, slices: Sequence[_Slice], shape: tuple[int, ...]
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """(n, rows, columns) labels as the scan is stored."""
    highest = max((frame.segment for frame in head.frames), default=0)
    labelmap = file.elements.text(tags.SEGMENTATION_TYPE).upper() == "LABELMAP"
    wide = highest > 255 or (labelmap and file.layout is not None and file.layout.allocated > 8)
    labels = np.zeros(shape, np.uint16 if wide else np.uint8)
    half = _half(file)
    lost, overlapping = 0, 0
    for frame, values in zip(head.frames, file.stored(), strict=True):
        marked = values if labelmap else (values >= half).astype(labels.dtype) * (frame.segment or 1)
        there = [n for n, one in enumerate(slices) if _same_place(frame, one, len(head.frames))]
        lost += not there
        for n in there:
            overlapping += _paint(labels[n], marked, _offset(frame, slices[n].frame))
    if lost == len(head.frames):
        raise DataError("none of its frames lies on a slice of the scan")
    return labels, tuple(_doubts(lost, len(head.frames), overlapping))


def _half(file: File) -> float:
    if file.elements.text(tags.SEGMENTATION_TYPE).upper() != "FRACTIONAL":
        return 1
    return max(1.0, file.elements.integer(tags.MAXIMUM_FRACTIONAL_VALUE, 255) / 2)


def _same_place(frame: Frame, one: _Slice, count: int) -> bool:
    """Whether a frame lies in the plane of a slice; without places, whether it says to be made from it."""
    here, there = frame, one.frame
    if not (here.position and here.orientation and there.position and there.orientation):
        return bool(one.sop) and one.sop in frame.sources
    apart = [a - b for a, b in zip(here.position, there.position, strict=True)]
    normal = geometry.normal_of(there.orientation)
    turned_by = max(abs(a - b) for a, b in zip(here.orientation, there.orientation, strict=True))
    return abs(geometry.dot(apart, normal)) <= SAME_PLACE and turned_by < 2e-3


def _offset(frame: Frame, there: Frame) -> tuple[int, int]:
    """Rows and columns from the slice's first pixel to the frame's.

    Raises:
        DataError: the pixels of the two do not fall onto each other.
    """
    if not (frame.position and there.position and there.orientation and there.spacing):
        return 0, 0
    spacing = frame.spacing or there.spacing
    apart = [a - b for a, b in zip(frame.position, there.position, strict=True)]
    rows = geometry.dot(apart, there.orientation[3:]) / there.spacing[0]
    columns = geometry.dot(apart, there.orientation[:3]) / there.spacing[1]
    same = all(math.isclose(a, b, rel_tol=2e-3) for a, b in zip(spacing, there.spacing, strict=True))
    if not same or abs(rows - round(rows)) > 0.05 or abs(columns - round(columns)) > 0.05:
        raise DataError("its pixels do not fall onto those of the scan", do="Resample it to the grid of the scan")
    return round(rows), round(columns)


def _paint(labels: NDArray[Any], marked: NDArray[Any], offset: tuple[int, int]) -> int:
    """Write the marked pixels into one slice; how many had another label before."""
    (row, column), (rows, columns) = offset, marked.shape
    top, left = max(0, row), max(0, column)
    window = labels[top : max(0, row + rows), left : max(0, column + columns)]
    part = marked[top - row : top - row + window.shape[0], left - column : left - column + window.shape[1]]
    clash = int(((window > 0) & (part > 0) & (window != part)).sum())
    np.maximum(window, part, out=window, casting="unsafe")
    return clash


def _doubts(lost: int, count: int, overlapping: int) -> list[str]:
    found = []
    if lost:
        found.append(f"{lost} of {count} frames of the segmentation lie on no slice of the scan")
    if overlapping:
        found.append(f"segments overlap in {overlapping:,} voxels; there the higher number stays")
    return found
