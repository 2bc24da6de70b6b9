"""Images as data addresses, small enough that a page with all of them stays under its limit."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medprior.report.content import Gallery, Images, Rows

if TYPE_CHECKING:
    from PIL.Image import Image

Sheet = tuple[list[str], list[tuple[str, list[str]]]]
"""(column names, rows of (caption, data addresses))."""

MAX_SIDE = 224
LOSSLESS_SIDE = 96
MAX_EXAMPLES = 24
MAX_ROWS = 4
MAX_COLUMNS = 6


def data_uri(pixels: npt.NDArray[np.uint8], max_side: int = MAX_SIDE) -> str:
    """One image (C, H, W) uint8 as a WebP data address, its longer side at most `max_side`.

    Small images are kept exactly, larger ones at a quality at which the eye sees no loss. Channels that are
    neither grey nor colour are shown by their first.
    """
    image = _image(pixels)
    image.thumbnail((max_side, max_side))
    memory = io.BytesIO()
    exact = max(image.size) <= LOSSLESS_SIDE
    image.save(memory, "WEBP", lossless=exact, quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(memory.getvalue()).decode("ascii")


def gallery(examples: Gallery, max_side: int = MAX_SIDE) -> list[tuple[str, str]]:
    """(data address, caption) of the first images, up to 24."""
    shown = zip(examples.images[:MAX_EXAMPLES], examples.captions, strict=False)
    return [(data_uri(image, max_side), caption) for image, caption in shown]


def sheets(rows: Mapping[str, Rows], max_side: int = MAX_SIDE) -> dict[str, Sheet]:
    """Per method (columns, [(caption, data addresses of one row)]), cut to a few rows and columns."""
    return {method: (list(one.columns)[:MAX_COLUMNS], _sheet(one, max_side)) for method, one in rows.items()}


def _sheet(rows: Rows, max_side: int) -> list[tuple[str, list[str]]]:
    captions = [*rows.captions, *[""] * len(rows.images)]
    return [
        (caption, [data_uri(image, max_side) for image in row[:MAX_COLUMNS]])
        for caption, row in zip(captions, rows.images[:MAX_ROWS], strict=False)
    ]


def _image(pixels: Images) -> Image:
    from PIL.Image import fromarray

    if pixels.shape[0] == 3:
        return fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
    return fromarray(np.ascontiguousarray(pixels[0]))
