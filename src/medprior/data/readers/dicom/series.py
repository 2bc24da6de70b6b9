"""Files put together into scans: volumes of parallel slices, single images, frames. Pure: no file is opened."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medprior.data.facts import THUMB_3D, Facts, combine
from medprior.data.readers.dicom.examine import Examined
from medprior.data.readers.dicom.functional import Frame
from medprior.data.readers.dicom.geometry import Turn
from medprior.data.readers.dicom.headers import CAPTURES, PROJECTIONS, Head, common
from medprior.data.readers.dicom.space import space_of, turned
from medprior.data.readers.dicom.stacking import Item, Stack, parted, stacks_of, untangled, without_copies
from medprior.data.scan import Note, ScanInfo, Source
from medprior.data.store.letterbox import resize

_SECTIONAL = ("CT", "MR", "PT")
_SCREENS = ("SCREEN SAVE", "SCREENSAVE", "SCREEN_SAVE", "SCREEN CAPTURE")
_ODD_SHARE = 5


@dataclass(frozen=True)
class Assembled:
    """One scan: where it lies, what it is, and the facts of its pixels (None where they were not decoded)."""

    source: Source
    info: ScanInfo
    facts: Facts | None


@dataclass(frozen=True)
class Segmentation:
    """A segmentation object: masks for a scan that is told by what it refers to.

    Attributes:
        source: reader "dicom", member "seg".
        instances: SOP instance UIDs of the images, and UIDs of their series, that it refers to.
        reference_frame: UID of the frame of reference, "" where it does not say.
        segments: numbers of its segments.
    """

    source: Source
    instances: tuple[str, ...]
    reference_frame: str
    patient: str
    study: str
    segments: tuple[int, ...]


@dataclass
class Assembly:
    """All that came of a set of files."""

    scans: list[Assembled] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    segmentations: list[Segmentation] = field(default_factory=list)


def assemble(files: Sequence[Examined]) -> Assembly:
    """Put files together into scans.

    Files of one series, patient and frame of reference make volumes where their slices are parallel; a series is split
    where size, orientation, pixel spacing, echo, time point or diffusion weight differ, and where slices compete for a
    place. Every file ends in a scan, in a segmentation, or in a note that says why not.
    """
    found = Assembly()
    groups: dict[Any, list[Examined]] = defaultdict(list)
    for file in sorted(files, key=lambda one: one.head.path):
        head, reason = file.head, _apart(file.head)
        if file.note:
            found.notes.append(file.note)
        elif head.kind == "segmentation":
            found.segmentations.append(_segmentation(head))
        elif reason:
            found.notes.append(Note(head.path, "apart", reason))
        else:
            groups[_belonging(head)].append(file)
    for group in groups.values():
        _assemble_group(group, found)
    heads = {file.head.path: file.head for file in files}
    found.notes += dict.fromkeys(note for scan in found.scans for note in _said_headers(scan, heads))
    return found


def _said_headers(scan: Assembled, heads: Mapping[str, Head]) -> Iterator[Note]:
    """What is odd in the headers of the files of a scan, each once."""
    paths = tuple(dict.fromkeys(scan.source.paths))
    for doubt, count in Counter(doubt for path in paths for doubt in heads[path].doubts).items():
        share = f" ({count} of {len(paths)} slices)" if len(paths) > 1 else ""
        yield Note(paths[0], "doubt", f"{doubt}{share}")


def _belonging(head: Head) -> Any:
    """What files of one volume have in common."""
    alone = head.path if len(head.frames) > 1 or not head.series else ""
    shape = (head.rows, head.columns, head.channels)
    return head.patient, head.study, head.series, head.reference_frame, head.sop_class, head.modality, shape, alone


def _apart(head: Head) -> str:
    kinds = {kind.upper() for kind in head.image_type}
    if "LOCALIZER" in kinds or "SCOUT" in kinds:
        return "it is a localiser"
    if kinds & set(_SCREENS):
        return "it is a copy of a screen"
    if head.sop_class not in CAPTURES:
        return ""
    if head.modality in ("", "OT", "SC", "DOC", "SR"):
        return "it is a secondary capture, and its header names no modality"
    if head.modality in _SECTIONAL and head.frames[0].position is None:
        return f"it is a secondary capture of {head.modality} without a place in space, likely a copy of a screen"
    return ""


def _segmentation(head: Head) -> Segmentation:
    segments = tuple(sorted({frame.segment for frame in head.frames if frame.segment}))
    source = Source("dicom", (head.path,), member="seg")
    return Segmentation(source, head.references, head.reference_frame, head.patient, head.study, segments)


def _assemble_group(files: list[Examined], found: Assembly) -> None:
    flat = files[0].head.sop_class in PROJECTIONS
    placed = [file for file in files if not flat and _in_space(file)]
    unplaced = [file for file in files if flat or not _in_space(file)]
    for file in unplaced:
        found.scans += _images(file)
    if unplaced and not flat:
        found.notes += _said_unplaced(unplaced, files)
    if placed:
        _assemble_placed(placed, found)


def _said_unplaced(unplaced: Sequence[Examined], files: Sequence[Examined]) -> Iterator[Note]:
    """Why slices that were taken together make no volume together."""
    head = unplaced[0].head
    frame = next(frame for one in unplaced for frame in one.head.frames if not _has_place(frame))
    if head.modality not in _SECTIONAL or sum(len(file.head.frames) for file in files) == 1:
        return
    parts = (("position", frame.position), ("orientation", frame.orientation), ("pixel spacing", frame.spacing))
    lacking = " and ".join(name for name, value in parts if not value)
    count = sum(len(file.head.frames) for file in unplaced)
    if count == 1:
        reason = f"its header gives no usable {lacking}: it stands alone and is no slice of the volume of its series"
    else:
        reason = f"{count} slices of one series make no volume and stand alone: no usable {lacking} is given"
    yield Note(head.path, "doubt", reason)


def _assemble_placed(files: list[Examined], found: Assembly) -> None:
    items = [_item(number, index, file) for number, file in enumerate(files) for index in range(len(file.head.frames))]
    families = [part for part in parted(items, _hard) for part in _parallel(part)]
    most = max(map(len, families))
    for family in families:
        if _is_odd(family, most, files):
            reason = "its orientation differs from that of most slices of its series: likely a localiser"
            found.notes += [Note(path, "apart", reason) for path in _paths(family, files)]
        else:
            _assemble_family(family, files, found)


def _in_space(file: Examined) -> bool:
    return all(map(_has_place, file.head.frames))


def _has_place(frame: Frame) -> bool:
    return bool(frame.position and frame.orientation and frame.spacing)


def _item(number: int, index: int, file: Examined) -> Item:
    seen = file.facts[index].hash if file.facts else file.head.sop or file.head.path
    key = seen if file.facts or len(file.head.frames) == 1 else f"{seen}/{index}"
    return Item(number, index, file.head.frames[index], key, (file.head.instance, index))


def _hard(item: Item) -> Any:
    return item.frame.hard


def _parallel(items: Sequence[Item]) -> list[list[Item]]:
    """Slices of the same orientation and pixel spacing together, up to how headers round them."""
    exact = parted(items, lambda item: (item.frame.orientation, item.frame.spacing))
    found: list[list[Item]] = []
    for part in exact:
        home = next((other for other in found if _alike(other[0], part[0])), None)
        if home is None:
            found.append(list(part))
        else:
            home.extend(part)
    return found


def _alike(one: Item, two: Item) -> bool:
    a, b = one.frame, two.frame
    assert a.orientation and b.orientation and a.spacing and b.spacing
    turned = max(abs(x - y) for x, y in zip(a.orientation, b.orientation, strict=True))
    return turned < 2e-3 and all(abs(x - y) <= 2e-3 * x for x, y in zip(a.spacing, b.spacing, strict=True))


def _is_odd(family: Sequence[Item], most: int, files: Sequence[Examined]) -> bool:
    """A few slices across a long stack, in the classes of CT and MR that put localisers into the series."""
    return len(family) <= 3 and most >= max(8, _ODD_SHARE * len(family)) and files[0].head.modality in _SECTIONAL


def _paths(items: Sequence[Item], files: Sequence[Examined]) -> list[str]:
    return list(dict.fromkeys(files[item.file].head.path for item in items))


def _assemble_family(family: Sequence[Item], files: Sequence[Examined], found: Assembly) -> None:
    kept, dropped = without_copies(family)
    for item, _ in dropped:
        reason = "it is a copy of another slice at the same place and was left out"
        if len(files[item.file].head.frames) == 1:
            found.notes.append(Note(files[item.file].head.path, "doubt", reason))
    parts, by_number = untangled(kept)
    said = ("slices with different pixels lie at the same places; they were parted by their numbers",) * by_number
    for part in parts:
        for stack in stacks_of(part):
            twice = _said_copies([one for one, twin in dropped if twin in stack.items])
            _add_stack(replace(stack, doubts=(*twice, *said, *stack.doubts)), files, found)


def _said_copies(dropped: Sequence[Item]) -> Iterator[str]:
    if dropped:
        verb = "slice lies" if len(dropped) == 1 else "slices lie"
        yield f"{len(dropped)} {verb} twice at the same place with the same pixels; one of each was used"


def _add_stack(stack: Stack, files: Sequence[Examined], found: Assembly) -> None:
    if len(stack.items) == 1:
        item = stack.items[0]
        scan = _image(files[item.file], item.index)
        found.scans.append(replace(scan, info=replace(scan.info, doubts=stack.doubts + scan.info.doubts)))
    else:
        found.scans.append(_volume(stack, files))
    path = found.scans[-1].source.paths[0]
    found.notes += [Note(path, "doubt", doubt) for doubt in stack.doubts]


def _images(file: Examined) -> list[Assembled]:
    return [_image(file, index) for index in range(len(file.head.frames))]


def _image(file: Examined, index: int) -> Assembled:
    """One frame as it is shown."""
    head, frame = file.head, file.head.frames[index]
    source = Source("dicom", (head.path,), frame=index if len(head.frames) > 1 else -1)
    info = replace(_info(head, head.dtype_of(index)), shape=(head.rows, head.columns), spacing=frame.spacing)
    return Assembled(source, info, file.facts[index] if file.facts else None)


def _info(head: Head, dtype: str) -> ScanInfo:
    return ScanInfo(
        (head.rows, head.columns),
        head.channels,
        dtype,
        modality=head.modality or None,
        patient=head.patient or None,
        study=head.study or None,
        window=head.window,
        doubts=head.doubts,
        units=head.units,
        origin=head.origin,
    )


def _volume(stack: Stack, files: Sequence[Examined]) -> Assembled:
    owners = [files[item.file] for item in stack.items]
    head = owners[0].head
    dtype = common({np.dtype(files[item.file].head.dtype_of(item.index)) for item in stack.items})
    space = space_of([item.frame for item in stack.items], head.rows, head.columns)
    placed = {"shape": space.shape, "spacing": space.spacing, "affine": space.affine, "orientation": "SPL"}
    info = replace(_info(head, dtype.name), doubts=(*stack.doubts, *head.doubts), **placed)  # type: ignore[arg-type]
    return Assembled(_source_of(stack, files), info, _facts(stack, owners, space.turn))


def _source_of(stack: Stack, files: Sequence[Examined]) -> Source:
    paths = tuple(files[item.file].head.path for item in stack.items)
    if len(files[stack.items[0].file].head.frames) == 1:
        return Source("dicom", paths)
    return Source("dicom", paths[:1], frames=tuple(item.index for item in stack.items))


def _facts(stack: Stack, owners: Sequence[Examined], turn: Turn) -> Facts | None:
    if not owners[0].facts:
        return None
    slices = [owner.facts[item.index] for owner, item in zip(owners, stack.items, strict=True)]
    found = combine(slices)
    if turn == Turn():
        return found
    thumb = resize(turned(np.stack([one.thumb for one in slices]), turn)[None], THUMB_3D)[0]
    return replace(found, thumb=np.asarray(thumb, np.float32))
