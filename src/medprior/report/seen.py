"""Scans of a study as a page shows them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.study.ground import Ground
from medprior.training.diagnosis import plain
from medprior.training.feed import gather
from medprior.views.engine import render
from medprior.views.plan import ViewPlan, independent
from medprior.views.view import View


def seen(ground: Ground, rows: NDArray[np.int64], plan: ViewPlan) -> list[View]:
    """The views of some scans that a plan wants."""
    store = ground.store.resident(torch.device("cpu"))
    return render(gather(store, rows, plan, seed=0, step=0), plan, seed=0, step=0)


def whole(ground: Ground, rows: NDArray[np.int64]) -> torch.Tensor:
    """(N, C, *S) some scans as they are; of those that crops are cut from, one crop in their middle pitch."""
    (view,) = seen(ground, rows, independent(plain(ground.base), 1))
    return view.pixels


def as_bytes(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """(N, C, *S) in [0, 1] to (N, C, H, W) uint8; a volume shows its middle slice."""
    if pixels.ndim == 5:
        pixels = pixels[:, :, pixels.shape[2] // 2]
    shown = pixels if pixels.shape[1] == 3 else pixels[:, :1]
    result: NDArray[np.uint8] = (shown.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return result


def small(ground: Ground, rows: NDArray[np.int64], side: int, *, at_once: int = 64) -> NDArray[np.uint8]:
    """(N, C, side, side) thumbnails of some scans, a few in memory at a time."""
    pieces = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
    shrunk = [torch.from_numpy(as_bytes(whole(ground, piece))).float() for piece in pieces]
    made = [torch.nn.functional.interpolate(one, size=(side, side), mode="area") for one in shrunk]
    result: NDArray[np.uint8] = torch.cat(made).round().to(torch.uint8).numpy()
    return result
