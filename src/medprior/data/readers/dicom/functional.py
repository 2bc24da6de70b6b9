"""Where each frame of a file lies, how it is scaled, and what sets it apart from others at the same place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from medprior.data.readers.dicom import tags
from medprior.data.readers.dicom.elements import Elements

_SHARED, _PER_FRAME = tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE


@dataclass(frozen=True)
class Frame:
    """One frame of a file.

    Attributes:
        position: centre of its first pixel in mm (x, y, z), LPS.
        orientation: direction of increasing column, then of increasing row.
        spacing: mm between rows, mm between columns.
        hard: stack, echo, time point, diffusion weight: frames that differ in it are never of one volume.
        soft: further differences, the most telling first: they part frames that lie at the same place.
        rescale: slope and intercept of this frame, or None for the file's.
        segment: number of the segment, of segmentations.
        sources: SOP instance UIDs of the images it was made from.
    """

    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] | None = None
    hard: str = ""
    soft: tuple[str, ...] = ()
    rescale: tuple[float, float] | None = None
    segment: int = 0
    sources: tuple[str, ...] = ()


def frames_of(elements: Elements, count: int) -> tuple[Frame, ...]:
    """One `Frame` per frame of the file."""
    if _PER_FRAME in elements.nested:
        shared = _items(elements.dataset, _SHARED)
        each = _items(elements.dataset, _PER_FRAME)
        one = shared[0] if shared else None
        return tuple(_grouped(each[n] if n < len(each) else None, one) for n in range(count))
    if count > 1:
        return _tomographic(elements, count) or tuple(Frame(spacing=_spacing(elements)) for _ in range(count))
    return (_plain(elements),)


def _plain(elements: Elements) -> Frame:
    echo = elements.text(tags.ECHO_NUMBERS) or _rounded(elements.number(tags.ECHO_TIME))
    hard = (
        f"{echo}/{elements.text(tags.TEMPORAL_POSITION_IDENTIFIER)}/{_rounded(elements.number(tags.DIFFUSION_B_VALUE))}"
    )
    direction = _direction(elements.numbers(tags.IMAGE_ORIENTATION_PATIENT))
    return own_frame(elements, Frame(None, direction, _spacing(elements), hard))


def own_frame(elements: Elements, alike: Frame) -> Frame:
    """The frame of a file of one, from that of a file that differs in `tags.OWN` alone."""
    soft = (
        "\\".join(elements.texts(tags.IMAGE_TYPE)),
        elements.text(tags.ACQUISITION_NUMBER),
        elements.text(tags.TRIGGER_TIME),
        elements.text(tags.ACQUISITION_TIME),
        elements.text(tags.CONTENT_TIME),
    )
    position = _numbers(elements.numbers(tags.IMAGE_POSITION_PATIENT), 3)
    return Frame(position, alike.orientation, alike.spacing, alike.hard, soft)


def _spacing(elements: Elements) -> tuple[float, ...] | None:
    for tag in (tags.PIXEL_SPACING, tags.IMAGER_PIXEL_SPACING, tags.NOMINAL_SCANNED_PIXEL_SPACING):
        found = _numbers(elements.numbers(tag), 2)
        if found and min(found) > 0:
            return found
    return None


def _rounded(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    if values is None or isinstance(values, str | bytes):
        return None
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(math.isfinite(n) and abs(n) < 1e9 for n in found) else None


def _direction(values: Any) -> tuple[float, ...] | None:
    """Six cosines of two perpendicular unit vectors, or None where they are none."""
    found = _numbers(values, 6)
    if found is None:
        return None
    one, two = found[:3], found[3:]
    lengths = math.hypot(*one), math.hypot(*two)
    if not all(0.95 < length < 1.05 for length in lengths):
        return None
    return found if abs(sum(a * b for a, b in zip(one, two, strict=True))) < 0.02 else None


def _items(dataset: Any, tag: int) -> list[Any]:
    element = dataset.get(tag) if dataset is not None else None
    value = element.value if element is not None else None
    return (
        list(value) if value is not None and not isinstance(value, bytes | str) and hasattr(value, "__iter__") else []
    )


def _first(tag: int, *groups: Any) -> Any:
    """The first item of a sequence in the first of the groups that has one."""
    return next((items[0] for group in groups if group is not None and (items := _items(group, tag))), None)


def _value(item: Any, tag: int) -> Any:
    element = item.get(tag) if item is not None else None
    return None if element is None else element.value


def _grouped(own: Any, shared: Any) -> Frame:
    content, stack = _first(tags.FRAME_CONTENT_SEQUENCE, own), ""
    measures = _numbers(_value(_first(tags.PIXEL_MEASURES_SEQUENCE, own, shared), tags.PIXEL_SPACING), 2)
    if content is not None:
        stack = f"{_value(content, tags.STACK_ID) or ''}/{_value(content, tags.TEMPORAL_POSITION_INDEX) or ''}"
    echo = _value(_first(tags.MR_ECHO_SEQUENCE, own, shared), tags.EFFECTIVE_ECHO_TIME)
    weight = _value(_first(tags.MR_DIFFUSION_SEQUENCE, own, shared), tags.DIFFUSION_B_VALUE)
    segment = _value(_first(tags.SEGMENT_IDENTIFICATION_SEQUENCE, own, shared), tags.REFERENCED_SEGMENT_NUMBER)
    return Frame(
        _numbers(_value(_first(tags.PLANE_POSITION_SEQUENCE, own, shared), tags.IMAGE_POSITION_PATIENT), 3),
        _direction(_value(_first(tags.PLANE_ORIENTATION_SEQUENCE, own, shared), tags.IMAGE_ORIENTATION_PATIENT)),
        measures if measures and min(measures) > 0 else None,
        f"{stack}/{'' if echo is None else echo}/{'' if weight is None else weight}/{segment or ''}",
        _frame_soft(own, shared, content),
        _frame_rescale(_first(tags.PIXEL_VALUE_TRANSFORMATION_SEQUENCE, own, shared)),
        int(segment or 0),
        _sources(own, shared),
    )


def _frame_soft(own: Any, shared: Any, content: Any) -> tuple[str, ...]:
    kinds = [
        _value(_first(tag, own, shared), tags.FRAME_TYPE)
        for tag in (tags.MR_IMAGE_FRAME_TYPE_SEQUENCE, tags.CT_IMAGE_FRAME_TYPE_SEQUENCE, tags.PET_FRAME_TYPE_SEQUENCE)
    ]
    gate = _value(_first(tags.CARDIAC_SYNCHRONIZATION_SEQUENCE, own, shared), tags.NOMINAL_CARDIAC_TRIGGER_DELAY_TIME)
    later = (
        [
            _value(content, tag)
            for tag in (tags.FRAME_ACQUISITION_NUMBER, tags.FRAME_ACQUISITION_DATE_TIME, tags.FRAME_REFERENCE_DATE_TIME)
        ]
        if content is not None
        else []
    )
    direction = _first(tags.MR_DIFFUSION_SEQUENCE, own, shared)
    gradient = (
        _value(_first(tags.DIFFUSION_GRADIENT_DIRECTION_SEQUENCE, direction), tags.DIFFUSION_GRADIENT_ORIENTATION)
        if direction is not None
        else None
    )
    return tuple(str(value) if value is not None else "" for value in (*kinds, gradient, gate, *later))


def _frame_rescale(item: Any) -> tuple[float, float] | None:
    slope, intercept = _value(item, tags.RESCALE_SLOPE), _value(item, tags.RESCALE_INTERCEPT)
    try:
        return None if item is None else (float(slope or 1) or 1.0, float(intercept or 0))
    except (TypeError, ValueError):
        return None


def _sources(own: Any, shared: Any) -> tuple[str, ...]:
    derivation = _first(tags.DERIVATION_IMAGE_SEQUENCE, own, shared)
    images = _items(derivation, tags.SOURCE_IMAGE_SEQUENCE) if derivation is not None else []
    return tuple(str(uid) for image in images if (uid := _value(image, tags.REFERENCED_SOP_INSTANCE_UID)))


def transformation_of(elements: Elements) -> tuple[float | None, str]:
    """Slope and unit of the rescale of the first frame, where the header groups such things; (None, "") else."""
    item = _first(tags.PIXEL_VALUE_TRANSFORMATION_SEQUENCE, *_groups(elements))
    return _lone(_value(item, tags.RESCALE_SLOPE)), str(_value(item, tags.RESCALE_TYPE) or "").strip()


def has_wrong_spacing(elements: Elements) -> bool:
    """Whether a pixel spacing is said that is not two positive, finite numbers."""
    if elements.text(tags.PIXEL_SPACING):
        return not _positive(elements.numbers(tags.PIXEL_SPACING))
    said = _value(_first(tags.PIXEL_MEASURES_SEQUENCE, *_groups(elements)), tags.PIXEL_SPACING)
    return said is not None and not _positive(said)


def _positive(values: Any) -> bool:
    found = _numbers(values, 2)
    return found is not None and min(found) > 0


def _groups(elements: Elements) -> list[Any]:
    """The functional groups of the first frame, then those that all frames share."""
    if _SHARED not in elements.nested and _PER_FRAME not in elements.nested:
        return []
    return [items[0] for tag in (_PER_FRAME, _SHARED) if (items := _items(elements.dataset, tag))]


def window_of(elements: Elements) -> tuple[float | None, float | None]:
    """Centre and width of the window of the first frame."""
    item = _first(tags.FRAME_VOILUT_SEQUENCE, *_groups(elements))
    centre, width = (_lone(_value(item, tag)) for tag in (tags.WINDOW_CENTER, tags.WINDOW_WIDTH))
    return centre, width


def _lone(value: Any) -> float | None:
    try:
        return float(value[0] if hasattr(value, "__getitem__") and not isinstance(value, str) else value)
    except (TypeError, ValueError, IndexError):
        return None


def references_of(elements: Elements) -> tuple[str, ...]:
    """UIDs of the instances, then of the series, that a segmentation refers to."""
    instances: dict[str, None] = {}
    series: dict[str, None] = {}
    for one in _items(elements.dataset, tags.REFERENCED_SERIES_SEQUENCE):
        series[str(_value(one, tags.SERIES_INSTANCE_UID) or "")] = None
        instances.update(
            dict.fromkeys(
                str(_value(i, tags.REFERENCED_SOP_INSTANCE_UID) or "")
                for i in _items(one, tags.REFERENCED_INSTANCE_SEQUENCE)
            )
        )
    for frame in _items(elements.dataset, _PER_FRAME):
        instances.update(dict.fromkeys(_sources(frame, None)))
    return tuple(uid for uid in (*instances, *series) if uid)


def _tomographic(elements: Elements, count: int) -> tuple[Frame, ...] | None:
    """Reconstructed slices of nuclear medicine: one place, one direction and one step for all."""
    kinds = elements.texts(tags.IMAGE_TYPE)
    if "RECON TOMO" not in kinds or tags.DETECTOR_INFORMATION_SEQUENCE not in elements.nested:
        return None
    detectors = _items(elements.dataset, tags.DETECTOR_INFORMATION_SEQUENCE)
    if len(detectors) != 1:
        return None
    first = _numbers(_value(detectors[0], tags.IMAGE_POSITION_PATIENT), 3)
    turned = _direction(_value(detectors[0], tags.IMAGE_ORIENTATION_PATIENT))
    step = elements.number(tags.SPACING_BETWEEN_SLICES)
    if not (first and turned and step):
        return None
    (a, b, c), (d, e, f) = turned[:3], turned[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return tuple(
        Frame(tuple(p + n * step * index for p, n in zip(first, normal, strict=True)), turned, _spacing(elements))
        for index in range(count)
    )
