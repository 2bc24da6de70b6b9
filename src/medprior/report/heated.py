"""From a finished study to heat maps over pictures of its test images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.report.content import names_of
from medprior.report.outlines import AXES
from medprior.report.saliency import Heated, HeatedImage, Saliency
from medprior.report.seen import as_bytes, whole
from medprior.study.arms import Cell
from medprior.study.saliency import Seen, heat_path, kept_heat_maps
from medprior.study.study import Outcome
from medprior.study.verdict.embeddingmap import best_pretrained


def saliency_of(outcome: Outcome) -> Saliency | None:
    """What the best pre-trained arm's first model of the largest budget kept; None where it kept nothing."""
    arm, budget = best_pretrained(outcome.verdict), max(outcome.grid.budgets)
    if arm is None or outcome.ground.outlined:
        return None
    ours = (arm.name, arm.encoder, arm.adaptation, budget, 0, 0)
    cell = next((cell for cell in outcome.grid.cells() if _key(cell) == ours), None)
    seen = kept_heat_maps(heat_path(outcome.out, cell)) if cell is not None else []
    if not seen:
        return None
    pictures = whole(outcome.ground, np.array([one.answer.row for one in seen], np.int64))
    upright = outcome.ground.catalog.table["orientation"]
    images = [
        (one, _image(one, pixels, str(upright.iat[one.answer.row]) == "SPL"))
        for one, pixels in zip(seen, pictures, strict=True)
    ]
    return Saliency(
        names_of(outcome.verdict)[arm.name, arm.adaptation, arm.encoder],
        budget,
        seen[0].method,
        seen[0].heat.shape,
        [image for one, image in images if one.answer.right],
        [image for one, image in images if not one.answer.right],
    )


def _key(cell: Cell) -> tuple[str, str, str, int, int, int]:
    return cell.arm, cell.backbone, cell.adaptation, cell.budget, cell.seed, cell.fold


def _image(one: Seen, pixels: torch.Tensor, upright: bool) -> HeatedImage:
    answer = one.answer
    return HeatedImage(answer.row, answer.truth, answer.said, answer.chance, planes(pixels, one.heat, upright=upright))


def planes(pixels: torch.Tensor, heat: NDArray[np.float32], *, upright: bool) -> list[Heated]:
    """An image (C, H, W) with its heat map, or of a volume (C, D, H, W) the plane across each axis where the map, on a
    grid of its own over the same box, has its maximum.

    Args:
        upright: whether axes run towards the head, the back and the left, so that planes have names and a top.
    """
    if heat.ndim == 2:
        return [Heated("", as_bytes(pixels[None])[0], heat)]
    found = []
    for axis, cell in enumerate(np.unravel_index(int(heat.argmax()), heat.shape)):
        near = int((int(cell) + 0.5) * pixels.shape[axis + 1] / heat.shape[axis])
        grey, warm = as_bytes(pixels.select(axis + 1, near)[None])[0], np.moveaxis(heat, axis, 0)[int(cell)]
        if axis and upright:  # volumes begin at the feet
            grey, warm = grey[:, ::-1], warm[::-1]
        found.append(Heated(AXES[axis] if upright else f"axis {axis + 1}", grey, warm))
    return found
