"""Images in the page: small ones exact, large ones small, a few of many."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from medprior.report.content import Gallery, Rows
from medprior.report.pictures import data_uri, gallery, sheets


def decoded(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/webp;base64,"))))


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_are_exact(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 48, 64), dtype=np.uint8)
    seen = np.asarray(decoded(data_uri(pixels)).convert("RGB"))
    assert np.array_equal(seen, np.broadcast_to(np.moveaxis(pixels, 0, -1), (48, 64, 3)))


def test_large_images_shrink_and_keep_their_shape() -> None:
    image = decoded(data_uri(np.zeros((1, 300, 600), np.uint8), max_side=200))
    assert image.size == (200, 100)


def test_a_gallery_shows_the_first_of_many() -> None:
    shown = gallery(Gallery(np.zeros((90, 1, 8, 8), np.uint8), [f"Row {n}" for n in range(90)]))
    assert len(shown) == 24
    assert shown[-1][1] == "Row 23"


def test_sheets_need_no_captions() -> None:
    rows = Rows(("original", "view 1"), np.zeros((9, 2, 1, 8, 8), np.uint8))
    ((columns, drawn),) = sheets({"simclr": rows}).values()
    assert columns == ["original", "view 1"]
    assert len(drawn) == 4
    assert all(caption == "" and len(images) == 2 for caption, images in drawn)
