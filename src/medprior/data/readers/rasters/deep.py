"""16-bit colour, of which Pillow keeps one byte of two: it is asked twice, for the first bytes and for the second ones.

Pillow's unpackers "RGB;16B" and "RGB;16L" take the first and the second byte of every value, whatever the order of
bytes in the file is, so together they give all of it, by the same tested decoders as every other image.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Byte = Literal["first", "second"]

_DEEP = re.compile("(RGB|RGBA|RGBa|RGBX|LA);16[BLN]")
_PLANES = ("R", "G", "B", "A")
_BITS, _PLANAR = 258, 284  # TIFF tags


@dataclass(frozen=True)
class Deep:
    """What 16-bit colour an image holds.

    Attributes:
        grey: it is grey with alpha, of which Pillow gives all four bytes of a pixel at once.
        big: the first byte of a value is the upper one.
        premultiplied: its colours are over black already.
    """

    grey: bool
    big: bool
    premultiplied: bool


def deep_of(image: Image.Image) -> Deep | None:
    """What 16-bit colour an image holds that was opened and not loaded; None where Pillow keeps all of its values."""
    raw = _raw_mode(image)
    if raw in _PLANES and _in_planes(image):
        big = image.tag_v2.prefix == b"MM"  # type: ignore[attr-defined]
    elif _DEEP.fullmatch(raw) and not _in_planes(image):
        big = raw.endswith("B") or (raw.endswith("N") and sys.byteorder == "big")
    else:
        return None
    return Deep(raw.startswith("LA"), big, raw.startswith("RGBa"))


def is_reduced(image: Image.Image) -> bool:
    """Whether Pillow reduces its 16-bit colours and nothing here can help (CMYK)."""
    return ";16" in _raw_mode(image) and not image.mode.startswith(("I", "F")) and deep_of(image) is None


def ask_for(image: Image.Image, byte: Byte) -> None:
    """Let a deep image, not loaded, decode to one byte of every value."""
    ending = ";16B" if byte == "first" else ";16L"
    image.tile = [_relabelled(tile, ending) for tile in image.tile]  # type: ignore[attr-defined]


def joined(first: NDArray[np.uint8], second: NDArray[np.uint8], deep: Deep) -> NDArray[np.uint16]:
    """Values (C, H, W) from their bytes, alpha last."""
    if deep.grey:
        first, second = first[0::2], first[1::2]
    upper, lower = (first, second) if deep.big else (second, first)
    return upper.astype(np.uint16) * np.uint16(256) + lower


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name for how pixels lie in the file."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    args = tiles[0][3]
    return str(args[0] if isinstance(args, tuple) and args else args)


def _in_planes(image: Image.Image) -> bool:
    """TIFF of one plane per colour: uncompressed, Pillow 13 takes it for 8 bits; compressed, it gives upper bytes."""
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(_PLANAR) == 2 and tags.get(_BITS, (8,))[0] == 16)


def _relabelled(tile: Any, ending: str) -> Any:
    args = tile[3]
    name = str(args[0] if isinstance(args, tuple) else args).partition(";")[0]
    raw = "RGBA" if name == "LA" else ("RGBA" if name == "RGBa" else name) + ending
    return tile._replace(args=(raw, *args[1:]) if isinstance(args, tuple) else raw)
