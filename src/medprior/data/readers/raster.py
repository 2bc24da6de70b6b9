"""PNG, JPEG, TIFF, BMP, WebP and GIF, through Pillow: one 2D scan per image.

What becomes of each mode:
    L, I;16, I, F       one channel: uint8, uint16, int32, float32.
    1                   one channel, 0 and 255.
    RGB                 three channels, also where the content is grey (the catalog's column `grey` tells).
    P, CMYK, YCbCr, LAB converted to RGB.
    LA, RGBA            composited over black, the background of radiology. An alpha that is the same everywhere
                        (all opaque, or all clear by a writer's mistake) says nothing and is dropped.
Colour of 16 bits stays uint16 (`medprior.data.readers.rasters.deep`). EXIF orientation is applied.

Pages of a TIFF are the slices of one volume (C, D, H, W), in stored order, where ImageJ or OME says so
(`medprior.data.readers.rasters.stack`), and otherwise scans of their own; smaller copies and masks among them, which
the format marks, are passed by. Of an animation the first picture is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from medprior.data.readers import FORMATS
from medprior.data.readers.guard import odd_values, physical, refusal, refusing, require_sides
from medprior.data.readers.rasters.deep import Byte, Deep, ask_for, deep_of, is_reduced, joined
from medprior.data.readers.rasters.stack import slices_in, stack_of
from medprior.data.readers.rasters.tiff import is_inverted, mend, require_room, true_type
from medprior.data.scan import Scan, ScanInfo, Source
from medprior.errors import DataError

suffixes = FORMATS["raster"]
MAX_MEGAPIXELS = 89
"""Larger images are refused as decompression bombs: Pillow's own threshold, some 9,400 x 9,400."""

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
_ORIENTATION, _KIND = 0x0112, 254  # EXIF and TIFF tags
_NO_PAGE = 0b101  # of tag 254: a smaller copy, a mask
_BYTES: tuple[Byte, ...] = ("first", "second")
_GREY = {"1": "uint8", "L": "uint8", "LA": "uint8", "La": "uint8", "I": "int32", "F": "float32"}


@dataclass(frozen=True)
class _Head:
    """What is known before pixels are decoded."""

    info: ScanInfo
    slices: int
    deep: Deep | None
    inverted: bool
    true_type: str | None


def group(paths: Sequence[str], root: Path) -> list[Source]:
    """One source per image; a TIFF of several pages gives one source per page, or one for the volume that they make.

    Raises:
        DataError: a TIFF whose pages cannot be counted.
    """
    return [source for path in paths for source in _sources(path, root)]


def describe(source: Source, root: Path) -> ScanInfo:
    """Size, channels and type as `read` will give them, from the header.

    Raises:
        DataError: the header cannot be read.
    """
    with _opened(source, root) as image:
        return _head(image, source).info


def read(source: Source, root: Path) -> Scan:
    """Decode to pixels (C, H, W), C = 1 or 3, or of a volume (C, D, H, W), spacing in mm where it can be trusted.

    Raises:
        DataError: absent, truncated, corrupt, not an image, or above `MAX_MEGAPIXELS`.
    """
    with _opened(source, root) as image:
        head = _head(image, source)
        pages = [] if head.deep else _pixels(image, source, None)
    if head.deep:
        pages = _deep_pixels(source, root, head.deep)
    with refusing(source.paths[0], root):
        flat = [_over_black(page, head.deep) if alpha else page for page, alpha in pages]
        values = _stacked(flat, head.slices) if source.frames else flat[0]
        pixels = np.ascontiguousarray(physical(values))
    pixels = pixels.view(head.true_type) if head.true_type else pixels
    pixels = np.iinfo(pixels.dtype).max - pixels if head.inverted else pixels
    return Scan(pixels, source.paths[0], spacing=head.info.spacing, doubts=head.info.doubts + odd_values(values))


def _sources(path: str, root: Path) -> list[Source]:
    if not path.lower().endswith((".tif", ".tiff")):
        return [Source("raster", (path,))]
    with _opened(Source("raster", (path,)), root) as image:
        count = int(getattr(image, "n_frames", 1))
        if count == 1 or image.format != "TIFF":
            return [Source("raster", (path,))]
        frames = slices_in(image, stack_of(image), count)
        pages = [*_pages(image, count)]
    if frames and len(pages) == count and len({alike for _, alike in pages}) == 1:
        return [Source("raster", (path,), frames=frames)]
    return [Source("raster", (path,), frame=page) for page, _ in pages]


def _pages(image: Image.Image, count: int) -> Iterator[tuple[int, object]]:
    """Each page that is an image of its own."""
    for page in range(count):
        image.seek(page)
        if page == 0 or not image.tag_v2.get(_KIND, 0) & _NO_PAGE:  # type: ignore[attr-defined]
            yield page, _kind(image)


def _kind(image: Image.Image) -> tuple[object, ...]:
    """What the slices of a volume have in common."""
    return image.size, image.mode, deep_of(image), true_type(image), is_inverted(image)


def _head(image: Image.Image, source: Source) -> _Head:
    deep, stack, slices = deep_of(image), stack_of(image), 1
    doubts = _doubts(image)  # all before EXIF is looked for, for which Pillow decodes a PNG
    width, height = image.size
    turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    shape: tuple[int, ...] = (width, height) if turned else (height, width)
    grey = true_type(image) or ("uint16" if image.mode.startswith("I;16") else _GREY.get(image.mode))
    channels = 1 if grey or (deep and deep.grey) else 3
    if source.frames:
        if stack is None or sorted(slices_in(image, stack, len(source.frames))) != sorted(source.frames):
            raise DataError("its pages are no volume any more")
        slices, channels, shape = stack.slices, channels * stack.planes, (stack.slices, *shape)
    spacing = stack.spacing_of(len(shape)) if stack and _tag(image, _ORIENTATION, 1) == 1 else None
    info = ScanInfo(shape, channels, "uint16" if deep else grey or "uint8", spacing=spacing, doubts=doubts)
    return _Head(info, slices, deep, is_inverted(image), true_type(image))


def _tag(image: Image.Image, tag: int, default: int) -> Any:
    return getattr(image, "tag_v2", {}).get(tag, default)


def _doubts(image: Image.Image) -> tuple[str, ...]:
    doubts = ["its colours of 16 bits are read at 8 bits"] if is_reduced(image) else []
    if image.format != "TIFF" and getattr(image, "is_animated", False):
        doubts.append("it is an animation, of which the first picture is read")
    return tuple(doubts)


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
                require_sides((image.height, image.width))
                require_room(image, (root / path).stat().st_size)
                yield image
        except UnidentifiedImageError:
            if _begins(root / path) in (b"II", b"MM"):
                raise DataError(
                    "a TIFF of values that are not read (as of 64 bits), or its header is damaged"
                ) from None
            raise
        except bombs:
            reason = f"the image is larger than {MAX_MEGAPIXELS} megapixels, more than is unpacked from one file"
            raise refusal(reason, path, do="Scale it down or cut it into tiles") from None


def _begins(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(2)


def _pixels(image: Image.Image, source: Source, byte: Byte | None) -> list[tuple[NDArray[Any], bool]]:
    """(C, H, W) of every page, upright, and whether the last channel is alpha; one byte of deep values."""
    found = []
    alike = _kind(image)
    for page in source.frames or (max(source.frame, 0),):
        if source.frames:
            image.seek(page)
        if _kind(image) != alike:
            raise DataError("its pages are not alike")
        mend(image)
        if byte:
            ask_for(image, byte)
        plain = _plain(ImageOps.exif_transpose(image))
        values = np.asarray(plain)
        channels = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
        found.append((channels, plain.mode in ("LA", "RGBA")))
    return found


def _deep_pixels(source: Source, root: Path, deep: Deep) -> list[tuple[NDArray[Any], bool]]:
    """The same of 16-bit colour."""
    halves: list[list[tuple[NDArray[Any], bool]]] = []
    for byte in _BYTES:
        with _opened(source, root) as image:  # anew, for an image is decoded once
            halves.append(_pixels(image, source, byte))
    return [(joined(first, second, deep), alpha) for (first, alpha), (second, _) in zip(*halves, strict=True)]


def _plain(image: Image.Image) -> Image.Image:
    """The same image in a mode whose array is its pixels."""
    mode = image.mode
    if mode in ("L", "LA", "RGB", "RGBA", "I", "F") or mode.startswith("I;16"):
        return image
    if mode in ("PA", "RGBa") or (mode == "P" and "transparency" in image.info):
        return image.convert("RGBA")
    return image.convert({"1": "L", "La": "LA"}.get(mode, "RGB"))


def _stacked(pages: Sequence[NDArray[Any]], slices: int) -> NDArray[Any]:
    """(C, D, H, W) from pages (c, H, W), slice by slice."""
    planes = np.concatenate(pages)
    return planes.reshape(slices, -1, *planes.shape[1:]).swapaxes(0, 1)


def _over_black(channels: NDArray[Any], deep: Deep | None) -> NDArray[Any]:
    """(C + 1, H, W) with alpha last, to (C, H, W)."""
    colour, alpha = channels[:-1], channels[-1]
    top = int(np.iinfo(channels.dtype).max)
    if (deep and deep.premultiplied) or (alpha.min() == alpha.max() and alpha.flat[0] in (0, top)):
        return colour
    blended: NDArray[np.uint32] = (colour.astype(np.uint32) * alpha + np.uint32(top // 2)) // np.uint32(top)
    return blended.astype(channels.dtype)
