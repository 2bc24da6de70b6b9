"""Writes `worklist.html`: what to label next as one self-contained page to print and tick off, without any script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from medprior.data.store.letterbox import box_index
from medprior.data.store.pixels import PixelStore
from medprior.files import write_text
from medprior.report.page import SIZE_LIMIT, environment, source_of
from medprior.report.pictures import data_uri
from medprior.study.worklist import Worklist

IMAGE_SIDES = (96, 64, 40)


def write_page(worklist: Worklist, path: Path) -> Path:
    """Write the page, whole or not at all, and return its path. It names scans by their row, and no file or patient.

    Pictures are drawn smaller where the page would otherwise pass 5 MB.

    Raises:
        OutputError: it cannot be written.
        StoreError: the stored pixels were deleted meanwhile.
    """
    page = ""
    for side in IMAGE_SIDES:
        page = render(worklist, side)
        if len(page.encode()) < SIZE_LIMIT:
            break
    write_text(path, page)
    return path


def render(worklist: Worklist, side: int = IMAGE_SIDES[0]) -> str:
    """The page as a string; pictures are at most `side` pixels wide and high.

    What the probe expects is not shown: who labels should not be led by it.
    """
    pictures = [data_uri(stored_picture(worklist.store, one.row), side) for one in worklist.chosen]
    return (
        environment()
        .get_template("worklist.html")
        .render(
            worklist=worklist,
            entries=list(zip(worklist.chosen, pictures, strict=True)),
            style=Markup(source_of("report.css") + source_of("worklist.css")),
        )
    )


def stored_picture(store: PixelStore, row: int) -> NDArray[np.uint8]:
    """(C, H, W) the stored pixels of one scan; a volume shows its middle slice."""
    (atlas,) = store.pixels(np.array([row]))
    pixels = atlas[(slice(None), *box_index(store.content[row], store.size))]
    shown: NDArray[np.uint8] = pixels[:, pixels.shape[1] // 2] if pixels.ndim == 4 else pixels
    return shown
