"""What the header of one file says: who, what, and where each of its frames lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from medprior.data.readers.dicom import functional, tags
from medprior.data.readers.dicom.elements import SERIES_REMEMBERED, Elements
from medprior.data.readers.dicom.functional import Frame
from medprior.data.readers.dicom.layout import Layout
from medprior.data.readers.dicom.oddities import doubts_of, other_units
from medprior.data.readers.dicom.origin import origin_of
from medprior.data.readers.dicom.pixels import rescale_of

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SEGMENTATIONS = (f"{_STORAGE}66.4", f"{_STORAGE}66.7")
DOSE, SLIDE = f"{_STORAGE}481.2", f"{_STORAGE}77.1.6"
CAPTURES = tuple(f"{_STORAGE}7{part}" for part in ("", ".1", ".2", ".3", ".4"))
PROJECTIONS = tuple(
    f"{_STORAGE}{part}" for part in ("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "12.1", "12.2", "12.1.1")
)
"""Classes whose images are shadows, not slices: computed and digital radiography, mammography, dental, fluoroscopy."""


@dataclass(frozen=True)
class Head:
    """The header of one file in plain values.

    Attributes:
        path: relative to the root.
        kind: "image", "segmentation" or "none".
        patient: what tells patients apart, in clear; "" where the header does not say.
        rows, columns, channels: of one frame.
        dtype: name of the type of the physical values, where the pixels were decoded, else of the stored ones.
        dtypes: the same of each frame, where they differ: rescaling may need more bits for some.
        window: centre and width in physical values.
        burnt: why text is likely to stand in the pixels, or "".
        references: the SOP instance UIDs and (after them) series UIDs that a segmentation refers to.
        doubts: sentences.
        units: of a CT, what its values are where its header says that they are no Hounsfield units, or "".
        origin: see `medprior.data.readers.dicom.origin.origin_of`; the site in clear.
    """

    path: str
    kind: str
    sop_class: str
    sop: str = ""
    series: str = ""
    study: str = ""
    reference_frame: str = ""
    modality: str = ""
    patient: str = ""
    image_type: tuple[str, ...] = ()
    description: str = ""
    instance: int = 0
    rows: int = 0
    columns: int = 0
    channels: int = 0
    dtype: str = ""
    dtypes: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    burnt: str = ""
    frames: tuple[Frame, ...] = ()
    references: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    units: str = ""
    origin: tuple[str, ...] = ()

    def dtype_of(self, index: int) -> str:
        """Name of the type of one frame."""
        return self.dtypes[index] if self.dtypes else self.dtype

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` takes back."""
        return {**vars(self), "frames": [tuple(vars(frame).values()) for frame in self.frames]}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Head:
        """The head that `to_json` wrote, also after a way through JSON."""
        values = {name: tuples(said[name]) for name in cls.__dataclass_fields__ if name in said}
        return cls(**{**values, "frames": frames_from_json(said["frames"])})


def frames_from_json(said: Sequence[Sequence[Any]]) -> tuple[Frame, ...]:
    """The frames that `Head.to_json` wrote."""
    return tuple(Frame(*map(tuples, frame)) for frame in said)


def tuples(value: Any) -> Any:
    """What JSON made a list of, as it was."""
    return tuple(value) if isinstance(value, list) else value


def class_of(elements: Elements) -> str:
    """UID of the SOP class."""
    return elements.text(tags.SOP_CLASS_UID) or elements.media_class


def class_name(uid: str) -> str:
    """What a SOP class is called, "" where it is private or unknown."""
    from medprior.data.readers.dicom.library import UID_dictionary  # pydicom, which files of plain slices do not need

    return UID_dictionary[uid][0] if uid in UID_dictionary else ""


def head_of(path: str, elements: Elements, layout: Layout | None, types: Sequence[np.dtype[Any]] = ()) -> Head:
    """The head of a file; `layout` is None where it holds no image, `types` are those of its frames as they were
    decoded."""
    if layout is None or layout.frames > 1 or elements.nested:
        return _head(path, elements, layout, tuple(types))
    alike = _alike(elements.alike, layout, tuple(types))
    own = {"path": path, "frames": (functional.own_frame(elements, alike.frames[0]),), **_numbered(elements)}
    return Head(**vars(alike) | own)


@lru_cache(maxsize=SERIES_REMEMBERED)
def _alike(elements: Elements, layout: Layout, types: tuple[np.dtype[Any], ...]) -> Head:
    return _head("", elements, layout, types)


def _numbered(elements: Elements) -> dict[str, Any]:
    return {"sop": elements.text(tags.SOP_INSTANCE_UID), "instance": elements.integer(tags.INSTANCE_NUMBER, 0)}


def _head(path: str, elements: Elements, layout: Layout | None, types: tuple[np.dtype[Any], ...]) -> Head:
    uid = class_of(elements)
    kind = "none" if layout is None else "segmentation" if uid in SEGMENTATIONS else "image"
    return Head(
        path,
        kind,
        uid,
        **_numbered(elements),
        series=elements.text(tags.SERIES_INSTANCE_UID),
        study=elements.text(tags.STUDY_INSTANCE_UID),
        reference_frame=elements.text(tags.FRAME_OF_REFERENCE_UID),
        modality=elements.text(tags.MODALITY),
        patient=patient_of(elements),
        image_type=elements.texts(tags.IMAGE_TYPE),
        description=elements.text(tags.SERIES_DESCRIPTION),
        rows=layout.rows if layout else 0,
        columns=layout.columns if layout else 0,
        channels=channels_of(layout) if layout else 0,
        dtype=(common(set(types)) if types else layout.dtype).name if layout else "",
        dtypes=tuple(one.name for one in types) if len(set(types)) > 1 else (),
        window=window_of(elements, layout) if layout else None,
        burnt=_burnt(elements, uid),
        frames=functional.frames_of(elements, layout.frames) if layout else (),
        references=functional.references_of(elements) if kind == "segmentation" else (),
        doubts=doubts_of(elements) if kind == "image" else (),
        units=other_units(elements) if kind == "image" else "",
        origin=origin_of(elements) if kind == "image" else (),
    )


def common(types: set[np.dtype[Any]]) -> np.dtype[Any]:
    """The type that holds the values of all."""
    found = np.result_type(*types)
    return np.dtype(np.float32) if found.kind == "f" else found


def channels_of(layout: Layout) -> int:
    """Channels after palettes are looked up."""
    return 3 if layout.samples == 3 or layout.photometric == "PALETTE_COLOR" else 1


def patient_of(elements: Elements) -> str:
    """The identifier with its issuer, or else name and birth date; "" where neither is there."""
    identifier, issuer = elements.text(tags.PATIENT_ID), elements.text(tags.ISSUER_OF_PATIENT_ID)
    if identifier:
        return f"{identifier}|{issuer}" if issuer else identifier
    name, birth = elements.text(tags.PATIENT_NAME).strip("^ "), elements.text(tags.PATIENT_BIRTH_DATE)
    return f"{name}|{birth}" if name else ""


def window_of(elements: Elements, layout: Layout) -> tuple[float, float] | None:
    """Centre and width of the first window, turned with the values where these are inverted."""
    centre, width = elements.number(tags.WINDOW_CENTER), elements.number(tags.WINDOW_WIDTH)
    if centre is None or width is None:
        centre, width = functional.window_of(elements)
    if centre is None or width is None or not math.isfinite(centre + width) or width <= 0 or channels_of(layout) > 1:
        return None
    if layout.inverted and not layout.floats:
        slope, intercept = rescale_of(elements)
        lowest, highest = layout.limits
        centre = slope * (lowest + highest) + 2 * intercept - centre
    return float(centre), float(width)


def _burnt(elements: Elements, uid: str) -> str:
    said = elements.text(tags.BURNED_IN_ANNOTATION).upper()
    if said == "YES":
        return "its header says that text is burnt into the pixels"
    if elements.text(tags.MODALITY) == "US":  # vendors write NO under pictures that are full of text
        return "it is ultrasound, which often has text burnt into the pixels"
    if uid in CAPTURES and said != "NO":
        return "it is a secondary capture, which often has text burnt into the pixels"
    return ""
