"""Who was scanned, where and with what, as a header says it: the columns that groups of patients are made of.

Values are cleaned, so that one thing has one name, and what is out of its range says nothing. Ages are kept, dates
never.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from medprior.data.readers.dicom import tags
from medprior.data.readers.dicom.elements import Elements
from medprior.data.scan import ORIGIN

_SEXES = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F", "O": "O", "OTHER": "O"}
_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
_DAYS = 365.25
_OLDEST = 120.0
_UNSAID = frozenset(
    ("", "NONE", "N/A", "NA", "UNKNOWN", "UNDEFINED", "ANONYMOUS", "ANONYMIZED", "ANONYMISED", "REMOVED")
)
_FIRM = frozenset(
    (
        *("medical", "systems", "system", "healthcare", "healthineers", "health", "care", "imaging", "equipment"),
        *(
            "gmbh",
            "ag",
            "kg",
            "inc",
            "ltd",
            "limited",
            "llc",
            "co",
            "corp",
            "corporation",
            "company",
            "nv",
            "bv",
            "spa",
        ),
    )
)
"""Words after a maker's name that one and the same maker writes in some files and not in others."""
_MOST_TESLA, _GAUSS = 25.0, 1e4
_MOST_KVP = 500.0


def origin_of(elements: Elements) -> tuple[str, ...]:
    """What a header says of each of `ORIGIN`, in their order, "" where it does not say; () where it says none of them.

    The site stands in it in clear: it must not leave this process, see `medprior.data.privacy.PatientKeys.site`.
    """
    said = {
        "sex": _SEXES.get(_text(elements, tags.PATIENT_SEX).upper(), ""),
        "age": _age(elements),
        "site": _text(elements, tags.INSTITUTION_NAME),
        "manufacturer": maker(_text(elements, tags.MANUFACTURER)),
        "scanner": _text(elements, tags.MANUFACTURER_MODEL_NAME),
        "field_strength": _tesla(elements.number(tags.MAGNETIC_FIELD_STRENGTH)),
        "kvp": _kilovolts(elements.number(tags.KVP)),
    }
    return tuple(said[name] for name in ORIGIN) if any(said.values()) else ()


def maker(said: str) -> str:
    """A maker's name without the words that come and go ("GE MEDICAL SYSTEMS" and "G.E. Medical Systems" give "GE")."""
    words = [word for word in re.split(r"[\s,_/()]+", said.replace(".", "")) if word]
    while len(words) > 1 and words[-1].casefold() in _FIRM:
        words.pop()
    return " ".join(words)


def _text(elements: Elements, tag: int) -> str:
    """The value with single blanks, "" for what stands for nothing."""
    said = " ".join(elements.text(tag).replace("\0", " ").split())
    return "" if said.upper() in _UNSAID else said


def _age(elements: Elements) -> str:
    """Age in years at the examination, or else the years between birth and examination; 000Y says nothing, and
    neither does a birth on the day itself: both stand for what was taken out."""
    found = re.fullmatch(r"(\d{1,3})\s*([YMWD]?)", _text(elements, tags.PATIENT_AGE).upper())
    years = int(found[1]) / _PER_YEAR[found[2]] if found and int(found[1]) else None
    if years is None:
        born, seen = _date(elements.text(tags.PATIENT_BIRTH_DATE)), next(_examined(elements), None)
        years = (seen - born).days / _DAYS if born and seen else None
    return f"{years:.4g}" if years is not None and 0 < years <= _OLDEST else ""


def _examined(elements: Elements) -> Iterator[date]:
    for tag in (tags.STUDY_DATE, tags.SERIES_DATE, tags.ACQUISITION_DATE):
        if found := _date(elements.text(tag)):
            yield found


def _date(said: str) -> date | None:
    found = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", said)  # dots are those of ACR-NEMA
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        return None


def _tesla(said: float | None) -> str:
    """Field strength as it is called: 2.89 is 3, 1.494 is 1.5; larger numbers than any magnet has are gauss."""
    if said is None or said <= 0:
        return ""
    tesla = said / _GAUSS if said > _MOST_TESLA else said
    rounded = round(2 * tesla) / 2 if tesla > 1 else round(tesla, 1)
    return f"{rounded:g} T" if 0 < rounded <= _MOST_TESLA else ""


def _kilovolts(said: float | None) -> str:
    return f"{said:.0f}" if said is not None and 1 <= said <= _MOST_KVP else ""
