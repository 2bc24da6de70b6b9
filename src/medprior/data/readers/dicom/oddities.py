"""What is odd in the header of an image that can be read all the same: numbers that are none, units that mislead."""

from __future__ import annotations

from collections.abc import Iterator

from medprior.data.readers.dicom import functional, tags
from medprior.data.readers.dicom.elements import Elements
from medprior.data.readers.guard import shown

_MAPS = (
    *("PERFUSION", "RCBF", "RCBV", "CBF", "CBV", "MTT", "TTP", "TMAX", "TTD", "PBF", "PBV", "PERMEABILITY"),
    *("PARAMETRIC", "IODINE", "Z_EFF", "ZEFF", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "MAT_SPECIFIC", "DOSE"),
)
"""Words of an image type that name something else than attenuation: perfusion, materials, dose."""
_LONGEST = 16  # characters of a code in DICOM; anything may stand there
UNSPECIFIED = "US"
"""DICOM's word for a unit that is not said, which some programs also write over Hounsfield units."""


def doubts_of(elements: Elements) -> tuple[str, ...]:
    """Sentences about one file."""
    return tuple(_sentences(elements))


def _sentences(elements: Elements) -> Iterator[str]:
    grouped = functional.transformation_of(elements)
    if functional.has_wrong_spacing(elements):
        yield "its pixel spacing is not two positive numbers: it is not used"
    if 0 in (elements.number(tags.RESCALE_SLOPE), grouped[0]):
        yield "its rescale slope is 0, which would make all values the same: it is read as 1"
    units = other_units(elements)
    if units == UNSPECIFIED:
        yield "its header leaves the unit of its values open (rescale type US): they may be no Hounsfield units"
    elif units:
        yield f"its values are no Hounsfield units, its header says: {units}"


def other_units(elements: Elements) -> str:
    """What the values of a CT are, where the header says that they are no Hounsfield units; else ""."""
    if elements.text(tags.MODALITY) != "CT":
        return ""
    maps = [kind for kind in elements.texts(tags.IMAGE_TYPE)[2:] if kind.upper() in _MAPS]
    if maps:
        return maps[-1]
    unit = elements.text(tags.RESCALE_TYPE) or functional.transformation_of(elements)[1]
    if unit.upper().startswith(("HU", "HOUNSFIELD")):
        return ""
    return UNSPECIFIED if unit.upper() == "UNSPECIFIED" else shown(unit)[:_LONGEST]
