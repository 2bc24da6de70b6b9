"""Scans decoded: a file, a frame of one, or the slices of a series as one volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.readers.dicom.examine import Examined, File, examine, opened, skimmed
from medprior.data.readers.dicom.functional import Frame
from medprior.data.readers.dicom.headers import Head, common
from medprior.data.readers.dicom.layout import MOST_SAMPLES
from medprior.data.readers.dicom.series import assemble
from medprior.data.readers.dicom.space import space_of, turned
from medprior.data.readers.guard import refusing
from medprior.data.scan import Scan, ScanInfo, Source
from medprior.errors import DataError


def group(paths: Sequence[str], root: Path) -> list[Source]:
    """The scans that lie in `paths`, from their headers; files without an image give none.

    Raises:
        DataError: a header cannot be read.
    """
    return [scan.source for scan in assemble([skimmed(path, root) for path in paths]).scans]


def describe(source: Source, root: Path) -> ScanInfo:
    """What `read` will give. The pixels are decoded for it, slice by slice: the type follows from their values.

    Raises:
        DataError: as `read`.
    """
    files = {path: examine(path, root) for path in dict.fromkeys(source.paths)}
    with refusing(source.paths[0], root):
        return _described(source, files)


def _described(source: Source, files: dict[str, Examined]) -> ScanInfo:
    first = files[source.paths[0]].head
    if first.kind != "image":
        raise DataError("it holds no image")
    frames = frames_of(source, [files[path].head for path in source.paths])
    used = source.frames or (max(source.frame, 0),)
    dtype = common({np.dtype(files[path].head.dtype_of(index)) for path in source.paths for index in used}).name
    common_facts: dict[str, Any] = {
        "channels": first.channels,
        "dtype": dtype,
        "modality": first.modality or None,
        "patient": first.patient or None,
        "study": first.study or None,
        "window": first.window,
    }
    if not is_volume(source):
        return ScanInfo((first.rows, first.columns), spacing=frames[0].spacing, **common_facts)
    space = space_of(frames, first.rows, first.columns)
    return ScanInfo(space.shape, spacing=space.spacing, affine=space.affine, orientation="SPL", **common_facts)


def is_volume(source: Source) -> bool:
    """Whether a source is a stack of slices."""
    return len(source.paths) > 1 or len(source.frames) > 1


def frames_of(source: Source, heads: Sequence[Head]) -> list[Frame]:
    """The frame of each slice, in the order of the source."""
    if source.frames:
        if max(source.frames) >= len(heads[0].frames):
            raise DataError("the file has fewer frames than it had when it was indexed")
        return [heads[0].frames[index] for index in source.frames]
    if len(heads) == 1:
        index = max(source.frame, 0)
        if index >= len(heads[0].frames):
            raise DataError("the file has fewer frames than it had when it was indexed")
        return [heads[0].frames[index]]
    return [head.frames[0] for head in heads]


def read(source: Source, root: Path) -> Scan:
    """Decode one scan to pixels (C, H, W), or (C, D, H, W) in the orientation "SPL".

    Raises:
        DataError: a file is absent, damaged, not decoded or not what it was when it was indexed.
    """
    if not is_volume(source):
        return _read_image(source, root)
    path = source.paths[0]
    with refusing(path, root):
        heads, slices = _slices(source, root)
        frames = frames_of(source, heads)
        space = space_of(frames, heads[0].rows, heads[0].columns)
        stack = np.stack(slices, axis=1).astype(common({one.dtype for one in slices}), copy=False)
        pixels = turned(stack, space.turn)
        matrix = np.vstack([np.array(space.affine).reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])
        told = {"spacing": space.spacing, "affine": matrix, "orientation": "SPL"}
        return _scan(np.ascontiguousarray(pixels), source, heads[0], told)


def _scan(pixels: NDArray[Any], source: Source, head: Head, told: dict[str, Any]) -> Scan:
    return Scan(
        pixels,
        source.paths[0],
        modality=head.modality or None,
        patient=head.patient or None,
        study=head.study or None,
        series=head.series or None,
        window=head.window,
        **told,
    )


def _read_image(source: Source, root: Path) -> Scan:
    path = source.paths[0]
    with refusing(path, root):
        file, head = _image_file(path, root)
        index = source.frames[0] if source.frames else max(source.frame, 0)
        frame = frames_of(Source("dicom", (path,), frame=index), [head])[0]
        pixels = next(file.frames((index,)))
        return _scan(np.ascontiguousarray(pixels), source, head, {"spacing": frame.spacing})


def _image_file(path: str, root: Path) -> tuple[File, Head]:
    with refusing(path, root):
        file = opened(root / path)
        head = file.head(path)
        if head.kind != "image":
            raise DataError("it holds no image")
        return file, head


def _slices(source: Source, root: Path) -> tuple[list[Head], list[NDArray[Any]]]:
    """The head of each file and the values (C, H, W) of each slice, in the order of the source."""
    if len(source.paths) == 1:
        file, head = _image_file(source.paths[0], root)
        wanted = tuple(sorted(set(source.frames)))
        found = dict(zip(wanted, file.frames(wanted), strict=True))
        return [head], [found[index] for index in source.frames]
    heads, slices, known = [], [], dict[str, tuple[Head, NDArray[Any]]]()
    for path in source.paths:
        if path not in known:
            known[path] = _slice(path, root)
        heads.append(known[path][0])
        slices.append(known[path][1])
        _check_shape(slices, path, len(source.paths))
    return heads, slices


def _slice(path: str, root: Path) -> tuple[Head, NDArray[Any]]:
    file, head = _image_file(path, root)
    with refusing(path, root):
        return head, next(file.frames())


def _check_shape(slices: Sequence[NDArray[Any]], path: str, count: int) -> None:
    if slices[-1].shape != slices[0].shape:
        raise DataError("the file has another size than the rest of its series", where=path, do="Index again")
    if count * slices[0].size > MOST_SAMPLES:
        raise DataError(f"the series holds more than {MOST_SAMPLES:,} samples, which one volume may have")
