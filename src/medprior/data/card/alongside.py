"""Masks, boxes and reports, counted; no text of a report leaves the catalog."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from medprior.data.card.content import Beside
from medprior.data.card.kinds import counts_of, numbers_spread

if TYPE_CHECKING:
    import pandas as pd


def beside(table: pd.DataFrame) -> Beside:
    """What a catalog's table has of masks, boxes and reports."""
    masks = list(table["mask"].dropna())
    boxed = [(boxes, shape) for boxes, shape in zip(table["boxes"], table["shape"], strict=True) if boxes is not None]
    reports = list(table["report"].dropna())
    words = [len(report.split()) for report in reports]
    shares = [_share(box["box"], shape) for boxes, shape in boxed for box in boxes]
    return Beside(
        masks=len(masks),
        mask_values=_mask_values(masks),
        boxed=len(boxed),
        boxes=counts_of(box["name"] for boxes, _ in boxed for box in boxes),
        boxed_images=counts_of(name for boxes, _ in boxed for name in {box["name"] for box in boxes}),
        box_share=numbers_spread([share for share in shares if math.isfinite(share)]),
        reports=len(reports),
        different=len(set(reports)),
        words=numbers_spread(words),
    )


def _mask_values(masks: list[Any]) -> dict[str, int]:
    often = Counter(float(value) for mask in masks for value in mask["values"])
    return {f"{value:g}": often[value] for value in sorted(often)}


def _share(box: list[float], shape: list[int]) -> float:
    top, left, bottom, right = box
    return (bottom - top) * (right - left) / (shape[0] * shape[1])
