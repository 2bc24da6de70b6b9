"""PNG, JPEG, TIFF and BMP, through Pillow: one 2D scan per image, one per page of a multi-page TIFF.

What becomes of each mode:
    L, I;16, I, F       one channel: uint8, uint16, int32, float32.
    1                   one channel, 0 and 255.
    RGB                 three channels, also where the content is grey (the catalog's column `grey` tells).
    P, CMYK, YCbCr, LAB converted to RGB.
    LA, RGBA            composited over black, the background of radiology. An alpha that is the same everywhere
                        (all opaque, or all clear by a writer's mistake) says nothing and is dropped.
16-bit colour is read at 8 bits, the most Pillow holds. EXIF orientation is applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from medprior.data.readers import FORMATS
from medprior.data.readers.guard import physical, refusal, refusing
from medprior.data.scan import Scan, ScanInfo, Source

suffixes = FORMATS["raster"]
MAX_MEGAPIXELS = 89
"""Larger images are refused as decompression bombs: Pillow's own threshold, some 9,400 x 9,400."""

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_ORIENTATION = 0x0112
_GREY = {"1": "uint8", "L": "uint8", "LA": "uint8", "La": "uint8", "I": "int32", "F": "float32"}


def group(paths: Sequence[str], root: Path) -> list[Source]:
    """One source per image; a TIFF of several pages gives one source per page.

    Raises:
        DataError: a TIFF whose pages cannot be counted.
    """
    return [source for path in paths for source in _pages(path, root)]


def _pages(path: str, root: Path) -> list[Source]:
    if not path.lower().endswith((".tif", ".tiff")):
        return [Source("raster", (path,))]
    with _opened(Source("raster", (path,)), root) as image:
        count = int(getattr(image, "n_frames", 1))
    return [Source("raster", (path,), frame=page if count > 1 else -1) for page in range(count)]


def describe(source: Source, root: Path) -> ScanInfo:
    """Size, channels and type as `read` will give them, from the header.

    Raises:
        DataError: the header cannot be read.
    """
    with _opened(source, root) as image:
        width, height = image.size
        if image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
            width, height = height, width
        grey = "uint16" if image.mode.startswith("I;16") else _GREY.get(image.mode)
        return ScanInfo((height, width), 1 if grey else 3, grey or "uint8")


def read(source: Source, root: Path) -> Scan:
    """Decode to pixels (C, H, W), C = 1 or 3.

    Raises:
        DataError: absent, truncated, corrupt, not an image, or above `MAX_MEGAPIXELS`.
    """
    with _opened(source, root) as image:
        pixels = physical(_pixels(ImageOps.exif_transpose(image)))
    return Scan(np.ascontiguousarray(pixels), source.paths[0])


@contextmanager
def _opened(source: Source, root: Path) -> Iterator[Image.Image]:
    path = source.paths[0]
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    with refusing(path, root):
        try:
            # from a stream, for Pillow 13 maps a named, uncompressed TIFF with its turned sides mistaken
            with (root / path).open("rb") as stream, Image.open(stream, formats=_FORMATS) as image:
                if source.frame > 0:
                    image.seek(source.frame)
                if image.width * image.height > MAX_MEGAPIXELS * 1_000_000:
                    raise Image.DecompressionBombError
                yield image
        except bombs:
            reason = f"the image is larger than {MAX_MEGAPIXELS} megapixels, more than is unpacked from one file"
            raise refusal(reason, path, do="Scale it down or cut it into tiles") from None


def _pixels(image: Image.Image) -> NDArray[Any]:
    """(C, H, W) from an upright image of any mode."""
    image = _plain(image)
    values = np.asarray(image)
    if values.ndim == 2:
        return values[None]
    channels = np.moveaxis(values, -1, 0)
    return _over_black(channels) if image.mode in ("LA", "RGBA") else channels


def _plain(image: Image.Image) -> Image.Image:
    """The same image in a mode whose array is its pixels."""
    mode = image.mode
    if mode in ("L", "LA", "RGB", "RGBA", "I", "F") or mode.startswith("I;16"):
        return image
    if mode in ("PA", "RGBa") or (mode == "P" and "transparency" in image.info):
        return image.convert("RGBA")
    return image.convert({"1": "L", "La": "LA"}.get(mode, "RGB"))


def _over_black(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(C + 1, H, W) with alpha last, to (C, H, W)."""
    colour, alpha = channels[:-1], channels[-1]
    if alpha.min() == alpha.max() and alpha.flat[0] in (0, 255):
        return colour
    blended: NDArray[np.uint16] = (colour.astype(np.uint16) * alpha + 127) // 255
    return blended.astype(np.uint8)
