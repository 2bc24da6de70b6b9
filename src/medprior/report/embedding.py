"""The embedding map of a report, and the training images that lie nearest to test errors."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from medprior.report import axes, marks
from medprior.report.axes import element
from medprior.report.content import Images, ReportContent
from medprior.report.pictures import data_uri
from medprior.report.wording import fixed

if TYPE_CHECKING:
    from medprior.study.verdict.embeddingmap import Colouring, EmbeddingMap
    from medprior.study.verdict.errorsnearby import Mistake

SIDE = 560
SYMBOLS, CROWDED = 30, 500
TILES = {224: 40, 128: 28, 64: 20}
"""Side of a thumbnail by the side of the page's other pictures."""
QUALITY = 60
CODES = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Embedding:
    """A map with its pictures.

    Attributes:
        thumbs: (N, C, H, W), in the order of the map; black where a picture may not be shown. None where none can be.
        pictures: (C, H, W) of every row that a mistake or a neighbour of it is, where it may be shown.
    """

    found: EmbeddingMap
    thumbs: Images | None = None
    pictures: Mapping[int, Images] = field(default_factory=dict)


def embedding(content: ReportContent, image_side: int) -> dict[str, Any] | None:
    """The map, its colourings with their keys, the sheet of thumbnails, and the mistakes."""
    kept = content.embedding
    if kept is None:
        return None
    found = kept.found
    side = TILES.get(image_side, min(TILES.values()))
    return {
        "map": _drawn(found),
        "colourings": [_colouring(one) for one in found.colourings],
        "rows": ",".join(map(str, found.rows)),
        "tested": "".join("1" if one else "0" for one in found.tested),
        "sheet": "" if kept.thumbs is None else sheet(kept.thumbs, side),
        "side": side,
        "across": _across(len(found.rows)),
        "arm": found.arm.name,
        "encoder": found.arm.encoder,
        "left_out": found.left_out,
        "count": len(found.rows),
        "mistakes": [_mistake(one, kept.pictures, image_side) for one in found.mistakes],
    }


def sheet(thumbs: Images, side: int) -> str:
    """All thumbnails (N, C, H, W), squares of `side` pixels, in one JPEG as a data address, row by row."""
    from PIL.Image import fromarray

    across = _across(len(thumbs))
    grey = thumbs.shape[1] != 3
    tall = math.ceil(len(thumbs) / across)
    whole = np.zeros((tall * side, across * side, 3), np.uint8)
    for place, pixels in enumerate(thumbs):
        image = fromarray(pixels[0] if grey else np.ascontiguousarray(np.moveaxis(pixels, 0, -1))).convert("RGB")
        top, left = place // across * side, place % across * side
        whole[top : top + side, left : left + side] = np.asarray(image.resize((side, side)))
    memory = io.BytesIO()
    fromarray(whole).convert("L" if grey else "RGB").save(memory, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(memory.getvalue()).decode("ascii")


def _across(count: int) -> int:
    return max(1, math.ceil(math.sqrt(count)))


def _drawn(found: EmbeddingMap) -> Markup:
    """Every image as a mark of its label: filled in training, hollow in the test."""
    first = found.colourings[0]
    room = SIDE - 24
    spots = [(12 + x * room, 12 + (1 - y) * room) for x, y in found.places]
    reach = 3.2 if len(spots) > CROWDED else 4.6
    symbols = element("defs", *(_symbol(style, hollow, reach) for style in range(SYMBOLS) for hollow in (False, True)))
    points = [
        _point(x, y, int(member), bool(tested))
        for (x, y), member, tested in zip(spots, first.member, found.tested, strict=True)
    ]
    told = " ".join(_told(one) for one in found.colourings)
    label = f"Map of {len(points):,} images by the features of {found.arm.name}. {told}"
    halo = element("circle", r=9, class_="halo")
    return axes.picture(SIDE, SIDE, label, [symbols, *points, halo], "map")


def _symbol(style: int, hollow: bool, reach: float) -> Markup:
    """A mark around (0, 0) that `use` sets on its place; style 0 is that of unknown groups."""
    shape = marks.shape(style or 1, 0.0, 0.0, reach, hollow=hollow)
    return element("g", shape, id=f"{'h' if hollow else 'm'}{style}")


def _point(x: float, y: float, member: int, tested: bool) -> Markup:
    style = _style(member)
    colour = marks.style_class(style or 1, grey=style == 0)
    return Markup(f'<use href="#{"h" if tested else "m"}{style}" x="{x:.1f}" y="{y:.1f}" class="{colour}"/>')


def _colouring(one: Colouring) -> dict[str, Any]:
    """Its name, its key, a letter for the group of each image, and what its neighbourhoods say."""
    there = sorted(set(one.member.tolist()))
    key = [(_style(group), _sample(_style(group)), one.groups[group]) for group in there if group >= 0]
    return {
        "name": one.name,
        "key": key + [(0, _sample(0), "unknown")] * (-1 in there),
        "codes": "".join(CODES[_style(group)] for group in one.member.tolist()),
        "told": _told(one),
    }


def _told(one: Colouring) -> str:
    if math.isnan(one.alike):
        return f"By {one.name}: too little is known."
    return (
        f"By {one.name}: {one.alike:.0%} of the nearest images of other patients are of the same group, "
        f"{one.chance:.0%} would be by chance."
    )


def _style(group: int) -> int:
    """The mark of a group; 0 is that of unknown ones, and of groups beyond the 29 that can be told apart."""
    return group + 1 if group < SYMBOLS - 1 else 0


def _sample(style: int) -> Markup:
    drawn = marks.shape(style or 1, 7.0, 7.0, 4.5)
    classes = f"series {marks.style_class(style or 1, grey=style == 0)}"
    return element("svg", element("g", drawn, class_=classes), viewBox="0 0 14 14", class_="dot", aria_hidden="true")


def _mistake(one: Mistake, pictures: Mapping[int, Images], side: int) -> dict[str, Any]:
    near = [
        {
            "picture": _shown(pictures.get(other.row), side),
            "alt": f"Training image, row {other.row:,}",
            "caption": f"row {other.row:,}: {other.label}, {fixed(other.distance)}",
        }
        for other in one.near
    ]
    return {
        "picture": _shown(pictures.get(one.row), side),
        "alt": f"Test image, row {one.row:,}",
        "caption": f"row {one.row:,}: {one.truth}, taken for {one.said} ({fixed(one.chance)})",
        "near": near,
    }


def _shown(pixels: Images | None, side: int) -> str:
    return "" if pixels is None else data_uri(pixels, min(side, 128))
