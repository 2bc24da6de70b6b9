"""One look at one file: its header, and every frame decoded once."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.facts import Facts, facts_of
from medprior.data.readers.dicom import functional, headers, pixels, tags
from medprior.data.readers.dicom.decoding import stored_frames
from medprior.data.readers.dicom.elements import Elements, scan
from medprior.data.readers.dicom.headers import Head
from medprior.data.readers.dicom.layout import Layout, layout_of
from medprior.data.readers.guard import refusing
from medprior.data.scan import Note
from medprior.errors import DataError

_PICTURES = {b"\xff\xd8\xff": ("JPEG", ".jpg"), b"\x89PNG\r\n": ("PNG", ".png")}
_MAPPED = 64 << 20  # larger files are mapped, not read at once


@dataclass(frozen=True)
class Examined:
    """What one look at one file leaves.

    Attributes:
        head: what its header says.
        facts: one per frame, () where it holds no image or was not decoded.
        note: why it holds no image, or None.
    """

    head: Head
    facts: tuple[Facts, ...] = ()
    note: Note | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` takes back."""
        note = self.note and [self.note.path, self.note.kind, self.note.reason]
        return {"head": self.head.to_json(), "facts": [_plain(one) for one in self.facts], "note": note}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Examined:
        """What `to_json` wrote, also after a way through JSON."""
        facts = tuple(
            Facts(
                one["hash"],
                one["grey"],
                np.array(one["quantiles"], np.float64),
                np.array(one["thumb"], np.float32).reshape(one["sides"]),
                tuple(one["values"]),
                one["voxels"],
            )
            for one in said["facts"]
        )
        return cls(Head.from_json(said["head"]), facts, Note(*said["note"]) if said["note"] else None)


def _plain(facts: Facts) -> dict[str, Any]:
    return {
        "hash": facts.hash,
        "grey": facts.grey,
        "quantiles": facts.quantiles.tolist(),
        "thumb": facts.thumb.ravel().tolist(),
        "sides": list(facts.thumb.shape),
        "values": list(facts.values),
        "voxels": facts.voxels,
    }


def examine(path: str, root: Path) -> Examined:
    """Read the header of one file and decode every frame of it once, one frame in memory at a time.

    Raises:
        DataError: the file is no DICOM, damaged or truncated, or its transfer syntax is not decoded.
    """
    with refusing(path, root):
        file = opened(root / path)
        if file.layout is None:
            return Examined(file.head(path), note=file.note(path))
        facts, types = [], []
        for values in file.frames():
            facts.append(facts_of(values))
            types.append(values.dtype)
        return Examined(file.head(path, types), tuple(facts))


def skimmed(path: str, root: Path) -> Examined:
    """The same without decoding pixels: no facts, and the type is that of the stored values.

    Raises:
        DataError: the header cannot be read.
    """
    with refusing(path, root):
        file = opened(root / path)
        return Examined(file.head(path), note=None if file.layout else file.note(path))


@dataclass(frozen=True)
class File:
    """One opened file: its elements, and how its pixels lie, None where it holds no image."""

    elements: Elements
    layout: Layout | None

    def head(self, path: str, types: Sequence[np.dtype[Any]] = ()) -> Head:
        """What the header says; `types` are those of the frames, where they were decoded."""
        return headers.head_of(path, self.elements, self.layout, types)

    def note(self, path: str) -> Note:
        """Why it holds no image."""
        name = headers.class_name(headers.class_of(self.elements))
        kind = name.removesuffix(" Storage") or "an object of a private kind"
        what = "it holds a dose, which is no image" if "Dose" in kind else "it holds no image"
        return Note(path, "no image", f"{what} ({kind})")

    def stored(self) -> Iterator[NDArray[Any]]:
        """Stored values (H, W) of each frame, as a segmentation means them."""
        assert self.layout is not None
        return (values for values, _ in stored_frames(self.elements, self.layout))

    def frames(self, wanted: tuple[int, ...] = ()) -> Iterator[NDArray[Any]]:
        """Physical values (C, H, W) of each frame, or of the wanted ones in rising order."""
        assert self.layout is not None
        layout, elements = self.layout, self.elements
        rescale = pixels.rescale_of(elements)
        table = pixels.modality_table(elements, layout)
        palette = pixels.palette_of(elements, layout) if layout.photometric == "PALETTE_COLOR" else ()
        grouped = tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE in elements.nested
        places = functional.frames_of(elements, layout.frames) if grouped else ()
        for index, (stored, space) in enumerate(stored_frames(elements, layout)):
            if not wanted or index in wanted:
                own = (places[index].rescale if places else None) or rescale
                yield pixels.to_physical(stored, space, layout, own, table, palette)


def opened(path: Path) -> File:
    """Read a file.

    Raises:
        DataError: it is no DICOM, or its header makes no sense.
    """
    content = _content(path)
    _require_no_picture(bytes(content[:132]))
    elements = scan(content)
    uid = headers.class_of(elements)
    if elements.pixels is None and not _should_have_image(elements, uid):
        if not uid and not elements.values:
            raise DataError("it is no DICOM file, or its header is damaged")
        return File(elements, None)
    if uid == headers.SLIDE:
        do = "Export it as TIFF or as PNG tiles"
        raise DataError("it is a whole slide in tiles, which is not read from DICOM", do=do)
    return File(elements, None if uid == headers.DOSE else layout_of(elements))


def _require_no_picture(head: bytes) -> None:
    """A picture may have been given DICOM's ending."""
    found = next((kind for start, kind in _PICTURES.items() if head.startswith(start)), None)
    if found and head[128:] != b"DICM":
        name, ending = found
        raise DataError(f"it is a {name} image, no DICOM file: rename it to {ending}", do=f"Rename it to {ending}")


def _should_have_image(elements: Elements, uid: str) -> bool:
    return tags.ROWS in elements.values or "Image Storage" in headers.class_name(uid)


def _content(path: Path) -> Any:
    with open(path, "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size == 0:
            raise DataError("the file is empty")
        return stream.read(size) if size <= _MAPPED else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
