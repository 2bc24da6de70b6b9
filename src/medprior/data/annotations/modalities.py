"""Names of modalities as tables and folders write them, as DICOM codes."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from pathlib import PurePosixPath

MODALITIES: dict[str, str] = {
    name: code
    for code, names in {
        "DX": ("xray", "x ray", "xrays", "x rays", "radiograph", "radiographs", "radiography", "cxr", "chestxray"),
        "CT": ("computed tomography", "ct scan", "cat scan", "cect", "ncct", "hrct", "cta", "ct slices"),
        "MR": ("mri", "magnetic resonance", "magnetic resonance imaging", "mr scan", "mri scan", "fmri"),
        "US": ("ultrasound", "ultrasonography", "sonography", "sonogram", "echo", "echocardiography", "bus"),
        "MG": ("mammography", "mammogram", "mammograms", "mammo", "ffdm"),
        "PT": ("pet", "pet scan", "positron emission tomography"),
        "NM": ("nuclear medicine", "scintigraphy", "spect"),
        "OP": ("fundus", "fundus photography", "fundus photo", "color fundus", "colour fundus", "retina", "cfp"),
        "OPT": ("oct", "optical coherence tomography"),
        "SM": ("histology", "histopathology", "pathology", "wsi", "whole slide", "slide microscopy"),
        "GM": ("microscopy", "light microscopy"),
        "XC": ("dermoscopy", "dermatoscopy", "photo", "photograph", "photography"),
        "ES": ("endoscopy", "colonoscopy", "gastroscopy", "laparoscopy"),
        "XA": ("angiography", "angiogram"),
        "RF": ("fluoroscopy",),
        "PX": ("panoramic xray", "panoramic x ray", "opg", "orthopantomogram"),
        "IO": ("intraoral", "intra oral"),
    }.items()
    for name in names
}
"""What people write, in small letters with single blanks, and the code it means."""
CODES = frozenset({*MODALITIES.values(), "CT", "MR", "CR", "DM", "IVUS", "BMD", "EPS", "ECG", "OAM", "OPM"})
HINTS: dict[str, str] = {
    "ct": "CT",
    "mri": "MR",
    "mris": "MR",
    "xray": "DX",
    "xrays": "DX",
    "cxr": "DX",
    "chestxray": "DX",
    "ultrasound": "US",
    "mammo": "MG",
    "mammography": "MG",
    "mammograms": "MG",
    "histology": "SM",
    "histopathology": "SM",
    "fundus": "OP",
    "pet": "PT",
}
"""Words of folders that mean one thing."""
_WORD = re.compile(r"[^\W\d_]+")


def modality_code(text: str) -> str | None:
    """The DICOM code of a modality as a table writes it ("X-ray" gives DX), or None when it is none that is known."""
    plain = " ".join(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text)))
    if plain.upper() in CODES:
        return plain.upper()
    return MODALITIES.get(plain.casefold())


def modality_hint(path: str) -> str | None:
    """The DICOM code that the folders of a path suggest, or None: the innermost that speaks decides, and one that says
    two things ("pet-ct") says nothing. The file's own name is not asked."""
    for folder in reversed(PurePosixPath(path).parts[:-1]):
        if said := _said(folder):
            return said.pop() if len(said) == 1 else None
    return None


def _said(folder: str) -> set[str]:
    found = _WORD.findall(folder)
    together = [a + b for a, b in pairwise(found)]
    said = {HINTS[word.casefold()] for word in (*found, *together) if word.casefold() in HINTS}
    return said | ({"MR"} if "MR" in found or folder == "mr" else set())
