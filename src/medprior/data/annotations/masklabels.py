"""Whether a mask fits its image, and its pixels as class numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.facts import is_grey
from medprior.data.scan import Scan
from medprior.errors import DataError

MOST_CLASSES = 16
"""Of an image; a mask of more values is a picture, or numbers its objects."""
MOST_PARTS = 256
"""Of a volume, whose masks may name every organ."""
MOST_GREY = 0xFFFF
"""Values of images above it are colours, of which 255 is blue."""
TWO_TONES = (0, 255)
_DARK, _LIGHT = 40, 215
"""A pixel of a mask of two tones that was compressed with loss, or smoothed, is seldom between these."""
_MOST_BETWEEN = 0.05
_TENTH = 0.1
_WHOLE = "write whole numbers from 0 (background) on"
_ROUNDING = 1e-3
_PIECE = 1 << 20


@dataclass(frozen=True)
class ImageFacts:
    """What a mask must fit: shape (H, W) or (D, H, W), and the affine as `ScanInfo` holds it, or None."""

    shape: tuple[int, ...]
    affine: tuple[float, ...] | None = None


@dataclass(frozen=True)
class MaskFacts:
    """What is known of a mask.

    Attributes:
        shape: (H, W) or (D, H, W).
        affine: 12 numbers, see `ScanInfo`, or None.
        values: what `label_values` gives; () when there are too many.
        smoothed: whether greys lie between its black and white, which are cut at half.
    """

    shape: tuple[int, ...]
    affine: tuple[float, ...] | None = None
    values: tuple[float, ...] = ()
    smoothed: bool = False


@dataclass(frozen=True)
class MaskCheck:
    """What was found: a mask with `refused` is not to be attached to its image; `doubts` are odd, and it is used."""

    refused: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether the mask can be attached."""
        return not self.refused


def mask_facts(scan: Scan) -> MaskFacts:
    """What is to be known of a mask that was read.

    Raises:
        DataError: its values are no classes, see `label_values`.
    """
    affine = None if scan.affine is None else tuple(scan.affine[:3].ravel().tolist())
    numbers = _numbers(scan)
    return MaskFacts(scan.pixels.shape[1:], affine, label_values(scan), _smoothed(numbers))


def check_mask(image: ImageFacts, mask: MaskFacts) -> MaskCheck:
    """Hold a mask against its image. The shape must be the same. Where both know where they lie, no corner may be off
    by more than a tenth of the smallest voxel edge. Values must be whole numbers from 0, and few."""
    refused = [_misshapen(image.shape, mask.shape)] if image.shape != mask.shape else []
    doubts = []
    if not refused and image.affine and mask.affine:
        refused += _displaced(image.shape, image.affine, mask.affine)
    elif not refused and (image.affine is None) != (mask.affine is None):
        doubts.append("only one of image and mask says where it lies: whether they lie in one place is unknown")
    wrong, odd = _values_said(mask)
    return MaskCheck((*refused, *wrong), (*doubts, *odd))


def _misshapen(image: Sequence[int], mask: Sequence[int]) -> str:
    said = f"the mask has {_by(mask)} pixels, its image {_by(image)}"
    if sorted(image) == sorted(mask):
        return f"{said}: it is turned; turn it as its image lies"
    ratios = {round(a / b, 2) for a, b in zip(image, mask, strict=False)}
    alike = len(image) == len(mask) and len(ratios) == 1
    if not alike:
        return f"{said}; give the mask that was drawn on this image"
    return f"{said}: it was made on another resolution; resample it to its image, without mixing its values"


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _displaced(shape: Sequence[int], image: Sequence[float], mask: Sequence[float]) -> list[str]:
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in shape))], np.float64)
    a, b = (np.array(affine, np.float64).reshape(3, 4) for affine in (image, mask))
    off = float(np.linalg.norm(corners @ (a - b).T, axis=1).max())
    edge = float(np.linalg.norm(a[:, :3], axis=0).min())
    if off <= _TENTH * edge:
        return []
    said = f"the mask lies elsewhere than its image, by up to {off:.3g} mm where a voxel has {edge:.3g} mm"
    return [f"{said}; resample it to its image, or mend the header that is wrong"]


def _values_said(mask: MaskFacts) -> tuple[list[str], list[str]]:
    """What makes the values unusable, and what is odd about them."""
    values, most = mask.values, MOST_PARTS if len(mask.shape) == 3 else MOST_CLASSES
    if not values or len(values) > most:
        said = f"the mask holds more than {most} values: it is a picture, or numbers its objects"
        return [f"{said}; write one value for each class"], []
    if any(value != int(value) or value < 0 for value in values):
        return [f"the mask holds values that are no classes ({_listed(values)}); {_WHOLE}"], []
    if mask.smoothed:
        return [], ["the mask was compressed with loss, or smoothed: it is cut at half"]
    if len(values) == 1:
        return [], ["the mask marks every pixel" if values[0] else "the mask marks nothing"]
    if 255 in values and max(values) <= MOST_GREY and not set(values) <= set(TWO_TONES):
        return [], ["the mask holds 255 beside other classes, which often means: not judged"]
    return [], []


def _listed(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:5])
    return f"{shown}, ..." if len(values) > 5 else shown


def label_values(scan: Scan) -> tuple[int, ...]:
    """The distinct values of a mask, sorted; () when there are more than `MOST_PARTS`.

    Colours are numbers 0xRRGGBB. A mask of two tones that was compressed with loss, or smoothed, has (0, 255).

    Raises:
        DataError: values are fractions or negative, or there are channels that are no colours.
    """
    numbers = _numbers(scan)
    if _smoothed(numbers):
        return TWO_TONES
    found = _distinct(numbers)
    return tuple(sorted(found)) if len(found) <= MOST_PARTS else ()


def class_values(masks: Iterable[Iterable[float]]) -> tuple[int, ...]:
    """The values of the classes of a collection, from those of each of its masks; the place of a value is its class.

    0 is the first, the background, whether or not a mask has it. Where masks are black and white (0 and 255), or hold
    0 and 1, the classes are (0, 1).
    """
    found = [{int(value) for value in values} for values in masks]
    if all(values <= set(TWO_TONES) or values <= {0, 1} for values in found):
        return (0, 1) if any(values - {0} for values in found) else (0,)
    return tuple(sorted({0}.union(*found)))


def written_values(masks: Iterable[Iterable[float]]) -> tuple[int, ...]:
    """What stands in the files for every class of `class_values`: 255 for white where none of the masks writes 1."""
    found = [{int(value) for value in values} for values in masks]
    classes = class_values(found)
    return TWO_TONES if classes == (0, 1) and not any(1 in values for values in found) else classes


def read_labels(scan: Scan, values: Sequence[float]) -> NDArray[np.uint8 | np.uint16]:
    """The classes (*S) of a mask: the place of each pixel's value in `values`, as `class_values` gives them.

    Nothing is interpolated. Where the classes are (0, 1), black and white are these two, and what loss or smoothing
    left between them is cut at half. The type is uint8, or uint16 for more than 256 classes.

    Raises:
        DataError: the mask holds a value that is not among `values`; or as `label_values` says.
    """
    numbers = _numbers(scan)
    if tuple(values) in ((0, 1), TWO_TONES) and _two_toned(numbers):
        return (numbers > 127).astype(np.uint8)
    known = np.array(sorted({int(value) for value in values} or {-1}), np.int64)
    labels = np.empty(numbers.shape, np.uint8 if len(known) <= 256 else np.uint16)
    for start, part in _parts(numbers):
        places = np.searchsorted(known, part).clip(max=len(known) - 1)
        strange = part[known[places] != part]
        if len(strange):
            raise DataError(f"the mask holds the value {strange[0]}, which is none of its classes", where=scan.source)
        labels.reshape(-1)[start : start + len(part)] = places
    return labels


def _numbers(scan: Scan) -> NDArray[Any]:
    """(*S) one whole number per pixel."""
    pixels = scan.pixels
    alike = _alike(pixels)
    if len(pixels) == 3 and pixels.dtype == np.uint8 and not alike:
        return colour_numbers(pixels)
    if not alike:
        what = f"a mask has one channel, or colours of 8 bits, not {len(pixels)} channels"
        raise DataError(what, where=scan.source, do="Write all classes into one channel, each as a value of its own")
    whole: NDArray[Any] = np.rint(pixels[0]).astype(np.int64) if pixels.dtype.kind == "f" else pixels[0]
    if pixels.dtype.kind == "f" and np.abs(whole - pixels[0]).max() > _ROUNDING:
        raise DataError("the mask holds fractions, which are no classes", where=scan.source, do=_WHOLE.capitalize())
    if whole.min() < 0:
        what = "the mask holds negative values, which are no classes"
        raise DataError(what, where=scan.source, do=_WHOLE.capitalize())
    return whole


def colour_numbers(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(*S) the numbers 0xRRGGBB of colours (3, *S)."""
    red, green, blue = pixels.astype(np.uint32)
    return np.asarray(red << 16 | green << 8 | blue)


def _alike(pixels: NDArray[Any]) -> bool:
    """Whether all channels show the same; up to what JPEG leaves only where there is white, for channels that hold
    one class each differ by 1."""
    return bool((pixels == pixels[:1]).all()) or bool(pixels.max() >= _LIGHT and is_grey(pixels))


def _parts(numbers: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Flat pieces and where they start, so that a large volume needs little beside itself."""
    flat = np.ascontiguousarray(numbers).reshape(-1)
    return ((start, flat[start : start + _PIECE]) for start in range(0, len(flat), _PIECE))


def _distinct(numbers: NDArray[Any]) -> set[int]:
    """The distinct values; where there are more than `MOST_PARTS` perhaps only so many."""
    found: set[int] = set()
    for _, part in _parts(numbers):
        found.update(np.unique(part).tolist())
        if len(found) > MOST_PARTS:
            break
    return found


def _smoothed(numbers: NDArray[Any]) -> bool:
    """Whether a mask of two tones holds more values, which are no classes: too many, or all next to black or white."""
    values = _distinct(numbers)
    near = all(value <= _DARK or value >= _LIGHT for value in values)
    return len(values) > 2 and (near or len(values) > MOST_CLASSES) and _two_toned(numbers)


def _two_toned(numbers: NDArray[Any]) -> bool:
    """Whether values of 8 bits are black and white, up to what loss or smoothing leaves; or all white."""
    if numbers.min() == 255 == numbers.max():
        return True
    if not _LIGHT <= numbers.max() <= 255 or numbers.min() > _DARK:
        return False
    between = np.count_nonzero((numbers > _DARK) & (numbers < _LIGHT))
    dark, light = np.count_nonzero(numbers == 0), np.count_nonzero(numbers == 255)
    return bool(between <= _MOST_BETWEEN * numbers.size and dark + light >= numbers.size / 2)
