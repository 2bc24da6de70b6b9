"""Where Pillow 13 mistakes the values of a TIFF, without a word: signs, and the order of bytes under compression."""

from __future__ import annotations

import re
from typing import Any

from PIL import Image

from medprior.errors import DataError

_BITS, _COMPRESSION, _PHOTOMETRIC, _FORMAT = 258, 259, 262, 339  # TIFF tags
_UNSIGNED, _SIGNED = 1, 2
_BIG = re.compile("((?:I;16|I;32|F;32))B(S|F)")


def require_room(image: Image.Image, there: int) -> None:
    """Refuse an uncompressed TIFF whose pixels do not fit into the `there` bytes of its file, before they take memory.

    Raises:
        DataError: it is truncated.
    """
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(_COMPRESSION) == 1 and image.width * image.height * sum(tags.get(_BITS, (1,))) // 8 > there:
        raise DataError("the file is truncated: it announces more pixels than it has bytes for")


def mend(image: Image.Image) -> None:
    """Let a compressed TIFF, not loaded, be unpacked in the machine's order of bytes, in which libtiff gives it."""
    tiles: list[Any] = getattr(image, "tile", [])
    if len(tiles) == 1 and tiles[0][0] == "libtiff":
        name, *rest = tiles[0][3]
        if _BIG.fullmatch(str(name)):
            image.tile = [tiles[0]._replace(args=(_BIG.sub(r"\1N\2", name), *rest))]  # type: ignore[attr-defined]


def true_type(image: Image.Image) -> str | None:
    """The type of a TIFF's values where Pillow takes it for another one of the same size."""
    tags: Any = getattr(image, "tag_v2", {})
    kind = (tags.get(_BITS, (1,))[0], tags.get(_FORMAT, (_UNSIGNED,))[0], image.mode)
    return {(8, _SIGNED, "L"): "int8", (32, _UNSIGNED, "I"): "uint32"}.get(kind)


def is_inverted(image: Image.Image) -> bool:
    """Whether the lowest value of 16 bits is white; Pillow turns those of 8 bits itself."""
    tags: Any = getattr(image, "tag_v2", {})
    return image.mode.startswith("I;16") and bool(tags.get(_PHOTOMETRIC, 1) == 0)
