"""Scans as pictures: in the window that the plan chose, in their shape in millimetres, with outlines and boxes."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from medprior.data import readers
from medprior.data.catalog import Catalog
from medprior.data.intensity import IntensityPlan
from medprior.data.store.letterbox import resize
from medprior.errors import MedpriorError
from medprior.report.axes import element
from medprior.report.pictures import data_uri

COLOURS = (
    (86, 180, 233),
    (255, 143, 77),
    (53, 199, 155),
    (227, 152, 198),
    (224, 189, 63),
    (170, 164, 245),
    (255, 77, 94),
    (155, 229, 100),
    (47, 123, 255),
    (255, 255, 255),
    (192, 77, 255),
    (0, 229, 229),
    (168, 105, 58),
    (255, 217, 168),
    (125, 154, 44),
    (255, 47, 179),
    (138, 143, 152),
    (184, 255, 224),
)
"""Of outlines and boxes, on black: by class, again from the first after the last, then with broken lines."""
OUTLINE_SIDE = 288
_DASH = 5  # pixels of a stroke and of the gap after it, at that size
_LINE = 2  # pixels of an outline, at that size
_MOST_BOXES = 200

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Plane:
    """One picture: data addresses of the image and of its outlines, boxes as SVG, and what is seen."""

    name: str
    image: str
    outline: str = ""
    boxes: Markup | None = None


@dataclass(frozen=True)
class _Cut:
    """A plane of a scan: (C, H, W) physical values, the mask (H, W) or None, and mm per pixel down and across."""

    name: str
    pixels: Pixels
    mask: Pixels | None
    spacing: tuple[float, float]


def planes(catalog: Catalog, row: int, plan: IntensityPlan, side: int, classes: Sequence[str] | None) -> list[Plane]:
    """The pictures of a scan: an image, or the axial, coronal and sagittal plane through the middle of a volume or of
    its mask. Empty where it cannot be read any more.

    Args:
        side: pixels of the longer side, at most.
        classes: of boxes, whose places are their colours; those of masks come after. None draws neither.
    """
    try:
        scan = readers.read(catalog.source(row), catalog.root)
    except MedpriorError:
        return []
    mask = _mask(catalog, row, scan.pixels.shape[1:]) if classes is not None else None
    black, white = (edge[0] for edge in plan.edges(catalog.table.iloc[[row]], len(scan.pixels)))
    background = _background(catalog, row)
    boxes: Any = catalog.table["boxes"].iat[row] if classes is not None else None
    cuts = _cuts(scan.pixels, mask, _spacing(scan.spacing, scan.spatial_dims), scan.orientation, background)
    return [_plane(cut, black, white, side, background, () if boxes is None else boxes, classes or ()) for cut in cuts]


def _mask(catalog: Catalog, row: int, shape: tuple[int, ...]) -> Pixels | None:
    """The mask of a scan, or None where there is none that can be drawn."""
    try:
        mask = catalog.read_mask(row)
    except MedpriorError:
        return None
    return mask if mask is not None and mask.shape == shape else None


def box_classes(catalog: Catalog) -> list[str]:
    """The classes of all boxes, the most frequent first: their place is their colour."""
    often = Counter(box["name"] for boxes in catalog.table["boxes"].dropna() for box in boxes)
    return sorted(often, key=lambda name: (-often[name], name))


def legend(catalog: Catalog, classes: Sequence[str]) -> list[tuple[str, str]]:
    """What is drawn in which style of the page: boxes by class, then masks by their classes where outlines are to be
    learnt, else by the values in their files."""
    values = [value for value in catalog.mask_classes if value]
    masks = [f"mask, value {value:g}" for value in values] if len(values) > 1 else ["mask"] * len(values)
    if catalog.labels is not None and catalog.labels.kind == "segmentation":
        masks = [*catalog.labels.names, *["not judged"] * (len(values) > len(catalog.labels.names))]
    return [(name, _style(i)) for i, name in enumerate([*classes, *masks])]


def _style(place: int) -> str:
    """The class of a line: its colour, and whether it is broken."""
    turn, colour = divmod(place, len(COLOURS))
    return f"c{colour + 1} broken" if turn % 2 else f"c{colour + 1}"


def _background(catalog: Catalog, row: int) -> int:
    """The class that is no structure: the value 0, or -1 where masks have none."""
    mask: Any = catalog.table["mask"].iat[row]
    if mask is None or mask["reader"] == "dicom":
        return 0
    return catalog.mask_classes.index(0) if 0 in catalog.mask_classes else -1


def _spacing(spacing: Sequence[float] | None, dims: int) -> tuple[float, ...]:
    if spacing is None or len(spacing) != dims or not all(math.isfinite(step) and step > 0 for step in spacing):
        return (1.0,) * dims
    return tuple(spacing)


def _cuts(
    pixels: Pixels, mask: Pixels | None, spacing: tuple[float, ...], orientation: str | None, background: int
) -> list[_Cut]:
    if pixels.ndim == 3:
        return [_Cut("", pixels, mask, (spacing[0], spacing[1]))]
    middle = _middle(pixels.shape[1:], mask, background)
    names = ("axial", "coronal", "sagittal") if orientation == "SPL" else ("first axis", "second axis", "third axis")
    cuts = []
    for axis, name in enumerate(names):
        seen = None if mask is None else np.take(mask, middle[axis], axis)
        steps = tuple(step for i, step in enumerate(spacing) if i != axis)
        cut = _Cut(name, np.take(pixels, middle[axis], axis + 1), seen, (steps[0], steps[1]))
        cuts.append(_upright(cut) if axis and orientation == "SPL" else cut)
    return cuts


def _upright(cut: _Cut) -> _Cut:
    """The head above: volumes begin at the feet."""
    mask = None if cut.mask is None else cut.mask[::-1]
    return _Cut(cut.name, cut.pixels[:, ::-1], mask, cut.spacing)


def _middle(shape: Sequence[int], mask: Pixels | None, background: int) -> list[int]:
    if mask is None or not (drawn := mask != background).any():
        return [n // 2 for n in shape]
    return [_median(drawn.sum(axis=tuple(j for j in range(3) if j != axis))) for axis in range(3)]


def _median(counts: NDArray[Any]) -> int:
    return int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))


def _plane(
    cut: _Cut,
    black: NDArray[np.float64],
    white: NDArray[np.float64],
    side: int,
    background: int,
    boxes: Sequence[Any],
    classes: Sequence[str],
) -> Plane:
    image = resize(_colour(cut.pixels), _fitted(cut, side, enlarge=False)).astype(np.float32)
    count = len(image)
    low, high = (edge[:count].reshape(-1, 1, 1).astype(np.float32) for edge in (black, white))
    seen = np.rint((image - low) / np.maximum(high - low, 1e-12) * 255).clip(0, 255).astype(np.uint8)
    outline = "" if cut.mask is None else _outline(cut, background, len(classes))
    return Plane(cut.name, data_uri(seen, side), outline, _boxes(cut, boxes, classes))


def _colour(pixels: Pixels) -> Pixels:
    """Three channels are colour; of any others the first is shown."""
    return pixels if len(pixels) == 3 else pixels[:1]


def _fitted(cut: _Cut, side: int, *, enlarge: bool) -> tuple[int, int]:
    """(H, W) with the longer side `side` in pixels as long as they are wide; smaller where the plane has fewer."""
    extents = [n * step for n, step in zip(cut.pixels.shape[1:], cut.spacing, strict=True)]
    scale = side / max(extents)
    if not enlarge:
        scale = min(scale, 1 / min(cut.spacing))
    height, width = (max(1, round(extent * scale)) for extent in extents)
    return height, width


def _outline(cut: _Cut, background: int, colours: int) -> str:
    """The edges of the structures, each in its colour, the first after `colours` others, on nothing."""
    from PIL import Image

    assert cut.mask is not None
    shape = _fitted(cut, OUTLINE_SIDE, enlarge=True)
    places = [((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(shape, cut.mask.shape, strict=True)]
    labels = cut.mask[np.ix_(*places)].astype(np.int64)
    edge = (labels != background) & _edges(labels)
    if not edge.any():
        return ""
    place = labels - (background + 1) + colours
    down, across = np.indices(shape)
    edge &= (place // len(COLOURS) % 2 == 0) | ((down + across) // _DASH % 2 == 0)
    picture = np.zeros((*shape, 4), np.uint8)
    picture[edge, :3] = np.array(COLOURS, np.uint8)[place[edge] % len(COLOURS)]
    picture[edge, 3] = 255
    memory = io.BytesIO()
    Image.fromarray(picture).save(memory, "WEBP", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(memory.getvalue()).decode("ascii")


def _edges(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels with another label within `_LINE` pixels up, down, left or right."""
    padded = np.pad(labels, _LINE, mode="edge")
    height, width = labels.shape
    edge = np.zeros(labels.shape, np.bool_)
    for step in range(1, _LINE + 1):
        for down, across in ((step, 0), (-step, 0), (0, step), (0, -step)):
            top, left = _LINE + down, _LINE + across
            edge |= padded[top : top + height, left : left + width] != labels
    return edge


def _boxes(cut: _Cut, boxes: Sequence[Any], classes: Sequence[str]) -> Markup | None:
    """Boxes over the picture, in the units of its shape."""
    if not len(boxes):
        return None
    height, width = _fitted(cut, 1000, enlarge=True)
    down, across = height / cut.pixels.shape[1], width / cut.pixels.shape[2]
    drawn = []
    for box in list(boxes)[:_MOST_BOXES]:
        top, left, bottom, right = box["box"]
        style = _style(classes.index(box["name"]))
        place = {"x": left * across, "y": top * down, "width": (right - left) * across, "height": (bottom - top) * down}
        drawn.append(element("rect", **place, class_=style))
    return element("svg", *drawn, viewBox=f"0 0 {width} {height}", class_="boxes", aria_hidden="true")
