"""Heat maps over pictures: where the score of an answer is sensitive, beside the picture as the model saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from medprior.data.store.letterbox import resize
from medprior.report import contours
from medprior.report.axes import element
from medprior.report.content import Images, ReportContent, labelled_of, unit_of
from medprior.report.pictures import data_uri
from medprior.report.wording import fixed

VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""Dark to light for every eye; the bar of the style sheet has the same colours."""
COVER = 0.65
"""How far the strongest heat covers the picture."""
LEAST_SIDE = 128
"""Pictures are drawn at least so large, or a map on few cells would show its cells."""
METHODS = {
    "Grad-CAM": "Grad-CAM (Selvaraju et al., ICCV 2017)",
    "token relevance": "gradient-weighted token relevance (Chefer et al., ICCV 2021)",
}


@dataclass(frozen=True)
class Heated:
    """A plane of an image as the model saw it: `pixels` (C, H, W) uint8, `heat` (h, w) in [0, 1] of the same box.

    `name` is axial, coronal or sagittal, or "" for an image.
    """

    name: str
    pixels: Images
    heat: NDArray[np.float32]


@dataclass(frozen=True)
class HeatedImage:
    """A test image: its row, what it is, what it was taken for with which chance, and its planes."""

    row: int
    truth: str
    said: str
    chance: float
    planes: Sequence[Heated]


@dataclass(frozen=True)
class Saliency:
    """Heat maps of test images by one model.

    Attributes:
        arm: what its arm is called.
        budget: what it learnt from.
        method: a key of `METHODS`.
        cells: of a map, along each axis.
        right, wrong: images that were answered so.
    """

    arm: str
    budget: int
    method: str
    cells: tuple[int, ...]
    right: Sequence[HeatedImage]
    wrong: Sequence[HeatedImage]


def saliency(content: ReportContent, image_side: int) -> dict[str, Any] | None:
    """Pictures with heat maps, the right answers and then the wrong ones."""
    found = content.saliency
    if found is None:
        return None
    groups = (("Right answers", found.right), ("Wrong answers", found.wrong))
    return {
        "arm": found.arm,
        "budget": f"{found.budget:,} {labelled_of(content.verdict)} {unit_of(content.verdict, found.budget)}",
        "method": METHODS[found.method],
        "cells": " × ".join(map(str, found.cells)),
        "groups": [(title, [_shown(one, image_side) for one in images]) for title, images in groups if images],
        "volumes": len(found.cells) == 3,
    }


def overlay(pixels: Images, heat: NDArray[np.float32]) -> Images:
    """(3, H, W): a grey version of pixels (C, H, W), covered by the colours of `heat` (H, W) the more, the hotter."""
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in VIRIDIS], np.float64)
    warm = heat.clip(0, 1).astype(np.float64)
    places = np.linspace(0, 1, len(anchors))
    colours = np.stack([np.interp(warm, places, channel) for channel in anchors.T])
    grey = pixels.mean(axis=0)
    mixed: Images = np.rint(grey + COVER * warm * (colours - grey)).clip(0, 255).astype(np.uint8)
    return mixed


def _shown(one: HeatedImage, image_side: int) -> dict[str, Any]:
    taken = f"{one.truth} ({fixed(one.chance)})" if one.truth == one.said else ""
    caption = f"row {one.row:,}: {taken or f'{one.truth}, taken for {one.said} ({fixed(one.chance)})'}"
    pairs = [_pair(plane, f"Test image, row {one.row:,}", image_side) for plane in one.planes]
    nothing = not any(plane.heat.max() > 0 for plane in one.planes)
    return {"caption": caption, "pairs": pairs, "nothing": nothing}


def _pair(plane: Heated, alt: str, image_side: int) -> dict[str, Any]:
    """Addresses of the picture and of the overlay, and a line around where the heat is at least half its maximum."""
    height, width = plane.pixels.shape[1:]
    scale = min(image_side, max(LEAST_SIDE, height, width)) / max(height, width)
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    picture = np.rint(resize(plane.pixels, shape)).clip(0, 255).astype(np.uint8)
    heat = resize(np.asarray(plane.heat, np.float32)[None], shape)[0]
    line = contours.outlines((heat >= 0.5).astype(np.int64), shape, "half")
    named = f"{alt}, {plane.name}" if plane.name else alt
    return {
        "picture": data_uri(picture, image_side),
        "overlay": data_uri(overlay(picture, heat), image_side),
        "line": _over(line, shape),
        "alt": named,
        "alt_heat": f"{named}, with its heat map",
    }


def _over(line: Markup | None, shape: tuple[int, int]) -> Markup:
    drawn = [] if line is None else [line]
    return element("svg", *drawn, viewBox=f"0 0 {shape[1]} {shape[0]}", class_="outline", aria_hidden="true")
