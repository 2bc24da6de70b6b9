"""Outlines as Aperio ImageScope writes them (and QuPath, MoNuSeg, MoNuSAC after it): XML of layers, regions, vertices.

A layer (`Annotation`) is a class. Its regions are polygons (`Type` 0), rectangles (1) or ellipses (2); arrows (3) and
rulers (4) mark nothing. A region with `NegativeROA="1"` is cut out of its layer. Vertices count pixels of the image
that was drawn on, whose `MicronsPerPixel` the file says; pixel edges are at whole numbers.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET  # only its elements: plainxml parses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medprior.data.annotations.plainxml import MOST_XML, parse_xml
from medprior.data.annotations.polygons import fill
from medprior.data.annotations.sidecars import read_limited
from medprior.data.readers.guard import shown
from medprior.errors import DataError

RECTANGLE, ELLIPSE, MARKS_NOTHING = "1", "2", ("3", "4")
_AROUND = 64
_DO = "Mend the region, or remove it"


@dataclass(frozen=True)
class Region:
    """A closed line: (V, 2) x and y in pixels of what was drawn on; `negative` cuts it out of its layer."""

    vertices: NDArray[np.float64]
    negative: bool = False


@dataclass(frozen=True)
class Layer:
    """A class and its regions; "" where the file does not name it."""

    name: str
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Drawing:
    """The layers of a file, in its order, and micrometres per pixel of the image they were drawn on, or None."""

    layers: tuple[Layer, ...]
    microns: float | None = None

    def rasterise(self, values: Sequence[int], shape: tuple[int, int], scale: float = 1.0) -> NDArray[np.uint16]:
        """(H, W) the value of the layer that every pixel belongs to, 0 for none; later layers lie on earlier ones.

        Args:
            values: of every layer.
            shape: of the image.
            scale: pixels of the image for each of what was drawn on.
        """
        labels = np.zeros(shape, np.uint16)
        for layer, value in zip(self.layers, values, strict=True):
            labels[_filled(layer, shape, scale)] = value
        return labels

    def overlap(self, shape: tuple[int, int], scale: float = 1.0) -> int:
        """Pixels that more than one layer claims."""
        claimed = np.zeros(shape, np.uint8)
        for layer in self.layers:
            claimed += _filled(layer, shape, scale)
        return int(np.count_nonzero(claimed > 1))

    def beyond(self, shape: tuple[int, int], scale: float = 1.0) -> float:
        """By how many pixels the drawing reaches beyond an image (H, W)."""
        ends = [region.vertices * scale for layer in self.layers for region in layer.regions]
        if not ends:
            return 0.0
        every = np.concatenate(ends)
        return float(max(0.0, -every.min(), (every - np.array(shape[::-1])).max()))


def read_aperio(file: Path, where: str) -> Drawing | None:
    """The outlines in a file, or None where the XML is of another kind.

    Args:
        where: its name for messages.

    Raises:
        DataError: it cannot be read, is no well-formed XML, declares a document type, has over `MOST_XML` bytes, or a
            region is damaged, which the message names.
    """
    data = read_limited(file, where, MOST_XML)
    if b"<Annotations" not in data.replace(b"\0", b""):
        return None
    root = parse_xml(data, where)
    if root.tag != "Annotations" or (root.find("Annotation/Regions") is None and len(root)):
        return None
    layers = tuple(_layer(each, number, where) for number, each in enumerate(root.iterfind("Annotation"), start=1))
    microns = _number(root.get("MicronsPerPixel"))
    return Drawing(layers, microns if microns and microns > 0 else None)


def _filled(layer: Layer, shape: tuple[int, int], scale: float) -> NDArray[np.bool_]:
    """(H, W) what lies in a region of a layer and in none that is cut out of it."""
    inside = np.zeros(shape, np.bool_)
    for negative in (False, True):
        for region in layer.regions:
            if region.negative == negative:
                box, pixels = fill(region.vertices * scale, shape)
                inside[box] = inside[box] & ~pixels if negative else inside[box] | pixels
    return inside


def _layer(element: ET.Element, number: int, where: str) -> Layer:
    said = element.get("Name") or next((one.get("Name") or "" for one in element.iterfind("Attributes/Attribute")), "")
    place = f"annotation {element.get('Id') or number}"
    regions = enumerate(element.iterfind("Regions/Region"), start=1)
    found = [_region(one, f"region {one.get('Id') or i} of {place}", where) for i, one in regions]
    return Layer(shown(" ".join(said.split())), tuple(region for region in found if region is not None))


def _region(element: ET.Element, place: str, where: str) -> Region | None:
    """None of what marks nothing."""
    kind = element.get("Type", "0").strip()
    if kind in MARKS_NOTHING:
        return None
    corners = [(_number(one.get("X")), _number(one.get("Y"))) for one in element.iterfind("Vertices/Vertex")]
    known = [(x, y) for x, y in corners if x is not None and y is not None]
    if len(known) != len(corners):
        raise DataError(f"{place} has a vertex without a number for X and Y", where=where, do=_DO)
    if len(known) == 2 and kind in (RECTANGLE, ELLIPSE):
        known = _between(known, kind)
    if len(known) < 3:
        raise DataError(f"{place} has {len(known)} vertices, and an outline has three or more", where=where, do=_DO)
    return Region(np.array(known, np.float64), element.get("NegativeROA", "0").strip() == "1")


def _between(ends: Sequence[tuple[float, float]], kind: str) -> list[tuple[float, float]]:
    """The line of a rectangle or an ellipse that two corners say."""
    (x0, y0), (x1, y1) = ends
    if kind == RECTANGLE:
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    turns = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    x, y = (x0 + x1) / 2 + np.cos(turns) * (x1 - x0) / 2, (y0 + y1) / 2 + np.sin(turns) * (y1 - y0) / 2
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
