"""When the pages of a TIFF are the slices of a volume: where ImageJ or OME metadata says so.

Pages of other files are images of their own: a scanner writes the sheets of a report in the same way. Spacing comes
from that metadata alone, for the resolution of other files is one of printing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

from medprior.data.readers.volumes.canonical import MAX_CHANNELS, MAX_VOXELS
from medprior.errors import DataError

_DESCRIPTION, _X, _Y = 270, 282, 283  # TIFF tags
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "nm": 1e-6} | dict.fromkeys(
    ("um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer"), 0.001
)
_ATTRIBUTE = re.compile(r'(\w+)\s*=\s*"([^"]*)"')


@dataclass(frozen=True)
class Stack:
    """What metadata says of all pages together.

    Attributes:
        slices: of the volume; 1 for a flat image.
        planes: pages of one slice, one per channel.
        interleaved: whether the planes of a slice follow each other; otherwise all slices of a plane do.
        spacing: mm as (D, H, W), each None where unknown.
    """

    slices: int
    planes: int
    interleaved: bool
    spacing: tuple[float | None, ...]

    def spacing_of(self, axes: int) -> tuple[float, ...] | None:
        """Of the last axes, where all of theirs are known."""
        known = [size for size in self.spacing[-axes:] if size is not None]
        return tuple(known) if len(known) == axes else None


def stack_of(image: Image.Image) -> Stack | None:
    """What ImageJ or OME says of a TIFF; None for other files, and for time series."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return None
    text = tags.get(_DESCRIPTION, "")
    if not isinstance(text, str):
        return None
    text = _decoded(text)
    if text.startswith("ImageJ="):
        return _of_imagej(text, tags)
    return _of_ome(text, len(image.getbands())) if "<OME" in text[:4096] else None


def slices_in(image: Image.Image, stack: Stack | None, pages: int) -> tuple[int, ...]:
    """The pages that make a volume, slice by slice and in each plane by plane; () where they are images.

    Raises:
        DataError: the volume would be larger than `MAX_VOXELS`.
    """
    if stack is None or stack.slices < 2 or stack.slices * stack.planes != pages or stack.planes > MAX_CHANNELS:
        return ()
    if pages * math.prod(image.size) * len(image.getbands()) > MAX_VOXELS:
        raise DataError(f"a stack of {pages:,} pages is larger than {MAX_VOXELS:,} voxels")
    if stack.interleaved:
        return tuple(range(pages))
    return tuple(plane * stack.slices + index for index in range(stack.slices) for plane in range(stack.planes))


def _decoded(text: str) -> str:
    """Pillow takes text for Latin-1; OME's is UTF-8, ImageJ's may be either."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _of_imagej(text: str, tags: Any) -> Stack | None:
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if _count(fields.get("frames")) > 1:
        return None
    unit = _MILLIMETRES.get(fields.get("unit", "").strip().lower())
    across = [_size(1 / float(tags[tag]) if tags.get(tag) else None, unit) for tag in (_Y, _X)]
    spacing = (_size(_number(fields.get("spacing")), unit), across[0], across[1])
    return Stack(_count(fields.get("slices")), _count(fields.get("channels")), True, spacing)


def _of_ome(text: str, bands: int) -> Stack | None:
    """From the one element `Pixels`, by its text alone: entities of XML are never followed."""
    found = re.findall(r"<(?:\w+:)?Pixels\b([^>]*)>", text)
    if len(found) != 1:
        return None
    fields = dict(_ATTRIBUTE.findall(found[0]))
    if _count(fields.get("SizeT")) > 1:
        return None
    spacing = [
        _size(_number(fields.get(f"PhysicalSize{axis}")), _MILLIMETRES.get(fields.get(f"PhysicalSize{axis}Unit", "µm")))
        for axis in "ZYX"
    ]
    order = fields.get("DimensionOrder", "XYCZT")
    channels = _count(fields.get("SizeC"))
    planes = channels // bands if channels % bands == 0 else channels
    return Stack(_count(fields.get("SizeZ")), planes, order.find("C") < order.find("Z"), tuple(spacing))


def _count(text: str | None) -> int:
    return max(1, int(text)) if text is not None and text.strip().isdecimal() and len(text) < 10 else 1


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _size(number: float | None, unit: float | None) -> float | None:
    if number is None or unit is None or not math.isfinite(number) or number <= 0:
        return None
    return number * unit
