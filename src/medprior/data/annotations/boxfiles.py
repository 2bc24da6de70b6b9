"""Boxes as files tell them: Pascal VOC (XML), COCO (JSON) and tables. Nothing is checked against images here.

Coordinates are those of pixel edges: the first pixel lies between 0 and 1, so a box (y0, x0, y1, x1) is `y1 - y0` high.
COCO and tables are written so. Pascal VOC counts pixels from 1 and includes the last: xmin=1, xmax=W is the whole width
and becomes (0, W), as its authors define it and most tools write it.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET  # only its elements: plainxml parses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medprior.data.annotations.label_table import PATHS, UNKNOWN, LabelTable
from medprior.data.annotations.plainxml import MOST_XML, parse_xml
from medprior.data.annotations.sidecars import decoded, read_limited
from medprior.errors import DataError

MOST_JSON = 128 << 20
IMAGES = (*PATHS, "image_id", "image_name", "file_name", "image index", "patientid")
CLASSES = ("class", "class_name", "category", "category_name", "name", "label", "finding label", "type")
CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
)
SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("bbox [x", "y", "w", "h]"))


@dataclass(frozen=True)
class Box:
    """A named box (y0, x0, y1, x1) in pixels, half open, with pixel edges at whole numbers."""

    name: str
    box: tuple[float, float, float, float]


@dataclass
class Told:
    """What a file says of one image.

    Attributes:
        image: what it calls the image, with or without folders and ending; "" where it does not say.
        size: (H, W) of the image the boxes were drawn on, or None.
        boxes: as written, not yet checked.
        place: for each box where in the file it stands, for messages.
        wrong: sentences about entries that are no boxes.
    """

    image: str
    size: tuple[int, int] | None = None
    boxes: list[Box] = field(default_factory=list)
    place: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, name: str, corners: Sequence[float | None], place: str) -> None:
        """Note a box, or why it is none."""
        numbers = [number for number in corners if number is not None and math.isfinite(number)]
        if len(numbers) != 4:
            self.wrong.append(f"{place} ({name}) has no four numbers for its edges")
            return
        y0, x0, y1, x1 = numbers
        self.boxes.append(Box(name, (y0, x0, y1, x1)))
        self.place.append(place)


def read_voc(file: Path, where: str) -> Told | None:
    """The boxes of a Pascal VOC file, or None when the XML is of another kind.

    Args:
        file: the XML.
        where: its name for messages.

    Raises:
        DataError: it cannot be read, is no well-formed XML, declares a document type, or has over `MOST_XML` bytes.
    """
    data = read_limited(file, where, MOST_XML)
    if b"<annotation" not in data.replace(b"\0", b""):
        return None
    root = parse_xml(data, where)
    if root.tag != "annotation" or (root.find("object") is None and root.find("filename") is None):
        return None
    told = Told(_text(root, "filename"), _size(_text(root, "size/height"), _text(root, "size/width")))
    for i, item in enumerate(root.iterfind("object"), start=1):
        if (box := item.find("bndbox")) is not None:
            x0, y0, x1, y1 = (_number(_text(box, edge)) for edge in ("xmin", "ymin", "xmax", "ymax"))
            told.add(_text(item, "name"), _from_one(y0, x0, y1, x1), f"box {i}")
    return told


def _from_one(*corners: float | None) -> tuple[float | None, ...]:
    """VOC's edges as ours. A box whose first and last pixel are one was a click: it stays without area."""
    y0, x0, y1, x1 = corners
    return _before(y0, y1), _before(x0, x1), y1, x1


def _before(first: float | None, last: float | None) -> float | None:
    return first if first is None or first == last else first - 1


def _text(element: ET.Element, path: str) -> str:
    return " ".join((element.findtext(path) or "").split())


def _number(value: Any) -> float | None:
    """A finite number, from text or from JSON, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _size(height: Any, width: Any) -> tuple[int, int] | None:
    h, w = _number(height), _number(width)
    return (int(h), int(w)) if h and w and h > 0 and w > 0 else None


def is_coco(data: bytes) -> bool:
    """Whether JSON may hold COCO boxes, told without parsing it; UTF-16 has a zero beside each letter."""
    text = data.replace(b"\0", b"")
    return b'"annotations"' in text and b'"bbox"' in text and b'"images"' in text


def read_coco(file: Path, where: str) -> list[Told]:
    """What a COCO file says, image by image; nothing when the JSON is of another kind.

    Raises:
        DataError: it cannot be read, is no JSON, or is larger than `MOST_JSON` bytes.
    """
    data = read_limited(file, where, MOST_JSON)
    if not is_coco(data):
        return []
    try:
        content = json.loads(decoded(data))
    except (ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"the file is no well-formed JSON ({error})", where=where) from error
    images, annotations = (_entries(content, key) for key in ("images", "annotations"))
    names = {str(entry.get("id")): str(entry.get("name", "")) for entry in _entries(content, "categories")}
    told = {str(entry.get("id")): _coco_image(entry) for entry in images}
    lost = Told("")
    for i, entry in enumerate(annotations, start=1):
        _coco_box(entry, names, told.get(str(entry.get("image_id")), lost), f"annotation {entry.get('id', i)}")
    lost.wrong += [f"{place} belongs to no image of the file" for place in lost.place]
    lost.boxes, lost.place = [], []
    return [*told.values(), *([lost] if lost.wrong else [])]


def _entries(content: Any, key: str) -> list[dict[str, Any]]:
    found = content.get(key) if isinstance(content, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _coco_image(entry: Mapping[str, Any]) -> Told:
    return Told(str(entry.get("file_name") or ""), _size(entry.get("height"), entry.get("width")))


def _coco_box(entry: Mapping[str, Any], names: Mapping[str, str], told: Told, place: str) -> None:
    corners = entry.get("bbox")
    if corners is None or corners == []:
        return  # a mask only
    category = str(entry.get("category_id", ""))
    numbers = [_number(value) for value in corners] if isinstance(corners, list) else []
    told.add(names.get(category) or category, _from_size(numbers), place)


def _from_size(numbers: Sequence[float | None]) -> tuple[float | None, ...]:
    """Edges from (x, y, width, height)."""
    known = [number for number in numbers if number is not None]
    if len(known) != 4 or len(numbers) != 4:
        return ()
    x, y, width, height = known
    return y, x, y + height, x + width


def box_columns(columns: Sequence[str]) -> tuple[str, ...] | None:
    """The four columns of edges or sizes among these, in lower case, or None where there are none."""
    there = {column.strip().lower() for column in columns}
    return next((four for four in (*CORNERS, *SIZES) if there.issuperset(four)), None)


def boxes_from_table(table: LabelTable) -> list[Told]:
    """What a table of boxes says, image by image; nothing where it has no columns of boxes or of images.

    A row without numbers says that its image has no box.
    """
    four, image, name = box_columns(list(table.columns)), table.find(IMAGES), table.find(CLASSES)
    if four is None or image is None:
        return []
    columns = [table.columns[table.find([column]) or ""] for column in four]
    told: dict[str, Told] = {}
    for i, cell in enumerate(table.columns[image]):
        cells = [column[i] for column in columns]
        entry = told.setdefault(cell, Told(cell))
        if UNKNOWN.issuperset(text.lower() for text in cells):
            continue
        numbers = [_number(text) for text in cells]
        corners = _from_size(numbers) if four in SIZES else (numbers[1], numbers[0], numbers[3], numbers[2])
        entry.add(table.columns[name][i] if name else "", corners, f"row {table.numbers[i]}")
    return list(told.values())
