"""Transfer syntaxes: how each is decoded, or what would read one that is not."""

from __future__ import annotations

from medprior.data.readers.dicom.elements import BIG, DEFLATED, IMPLICIT
from medprior.errors import DataError

_J = "1.2.840.10008.1.2.4."
NATIVE = frozenset((IMPLICIT, "1.2.840.10008.1.2.1", DEFLATED, BIG))
RLE = "1.2.840.10008.1.2.5"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
JPEG_BASELINE = f"{_J}50"
JPEG_LOSSY = frozenset(f"{_J}{n}" for n in (50, 51, 53, 55))
JPEG_LOSSLESS = frozenset(f"{_J}{n}" for n in (57, 70))
JPEG_LS = frozenset(f"{_J}{n}" for n in (80, 81))
JPEG_2000 = frozenset(f"{_J}{n}" for n in (90, 91, 201, 202, 203))
DECODED = NATIVE | {RLE, DEFLATED_FRAMES} | JPEG_LOSSY | JPEG_LOSSLESS | JPEG_LS | JPEG_2000

_NAMES = {
    f"{_J}51": "JPEG extended",
    f"{_J}52": "JPEG extended, hierarchical",
    f"{_J}92": "JPEG 2000 part 2, lossless",
    f"{_J}93": "JPEG 2000 part 2",
    f"{_J}94": "JPIP referenced",
    f"{_J}95": "JPIP referenced, deflated",
    f"{_J}100": "MPEG-2 main profile, main level",
    f"{_J}101": "MPEG-2 main profile, high level",
    f"{_J}110": "JPEG XL lossless",
    f"{_J}111": "JPEG XL JPEG recompression",
    f"{_J}112": "JPEG XL",
    "1.2.840.113619.5.2": "GE private, implicit VR big endian",
}
_VIDEO = (f"{_J}100", f"{_J}101", f"{_J}102", f"{_J}103", f"{_J}104", f"{_J}105", f"{_J}106", f"{_J}107", f"{_J}108")


def check(syntax: str) -> None:
    """Refuse a transfer syntax that is not decoded.

    Raises:
        DataError: it names the syntax, and the package that would read it.
    """
    if syntax not in DECODED:
        what = f"its transfer syntax {name(syntax)} cannot be decoded"
        if syntax.startswith(_VIDEO):
            what += ": it is a video, which ffmpeg and PyAV read"
        raise DataError(what, do=_advice(syntax))


def name(syntax: str) -> str:
    """What a transfer syntax is called, with its UID."""
    from medprior.data.readers.dicom.library import UID_dictionary

    known = _NAMES.get(syntax) or UID_dictionary.get(syntax, ("",))[0]
    return f"{known} ({syntax})" if known else f"{syntax} (private or unknown)"


def _advice(syntax: str) -> str:
    if syntax.startswith(_VIDEO):
        return "It is a video: take its frames out with PyAV (pip install av) or ffmpeg, and save them as PNG"
    if syntax.startswith((f"{_J}94", f"{_J}95", f"{_J}204", f"{_J}205")):
        return "Its pixels lie on a server: fetch the object from there in another transfer syntax"
    if syntax in (f"{_J}110", f"{_J}111", f"{_J}112"):
        return "Convert it with imagecodecs (pip install imagecodecs), which reads JPEG XL, or with dcmtk's dcmdjpxl"
    if syntax in (f"{_J}92", f"{_J}93"):
        return "Convert it with Kakadu, or ask the archive for it uncompressed; no free package reads it"
    return "Convert it to explicit VR little endian with GDCM (gdcmconv --raw) or dcmtk (dcmconv), then index again"
