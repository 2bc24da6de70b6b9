"""The embedding map on a page: every image a mark, every thumbnail in its place, small enough with 2,000 of them."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from medprior.report.content import ReportContent
from medprior.report.embedding import Embedding, embedding, sheet
from medprior.report.page import SIZE_LIMIT, render


def test_every_thumbnail_lies_in_its_place() -> None:
    thumbs = np.zeros((7, 1, 16, 16), np.uint8)
    thumbs[:] = (np.arange(7) * 30)[:, None, None, None]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet(thumbs, 8).partition(",")[2]))))
    assert image.shape == (24, 24)
    for place in range(7):
        top, left = place // 3 * 8, place % 3 * 8
        assert abs(image[top : top + 8, left : left + 8].mean() - 30 * place) < 6


def test_every_image_is_a_mark_of_its_label_hollow_in_the_test(content: ReportContent) -> None:
    part = embedding(content, 224)
    assert part is not None and content.embedding is not None
    found = content.embedding.found
    drawn = str(part["map"])
    assert drawn.count("<use ") == len(found.rows)
    assert drawn.count('href="#h') == found.tested.sum()
    assert drawn.count('1" x=') == (found.colourings[0].member == 0).sum()
    assert "93% of the nearest images of other patients are of the same group, 50% would be by chance" in drawn


def test_a_group_that_is_unknown_is_named_so(content: ReportContent) -> None:
    part = embedding(content, 224)
    assert part is not None
    site = part["colourings"][1]
    assert site["key"][-1][2] == "unknown"
    assert len(site["codes"]) == 90 and set(site["codes"]) <= set("012345678")


def test_what_may_not_be_shown_is_only_named(content: ReportContent) -> None:
    assert content.embedding is not None
    hidden = dataclasses.replace(content, embedding=dataclasses.replace(content.embedding, pictures={}))
    section = render(hidden).split('<section id="embedding"')[1].split("<section ")[0]
    assert "taken for NonCOVID (0.97)" in section and 'alt="Test image' not in section


def test_two_thousand_images_fit_on_a_page(content: ReportContent) -> None:
    assert content.embedding is not None
    count = 2000
    rng = np.random.default_rng(0)
    found = dataclasses.replace(
        content.embedding.found,
        rows=np.arange(count),
        places=rng.random((count, 2)),
        tested=rng.random(count) < 0.3,
        colourings=tuple(
            dataclasses.replace(one, member=rng.integers(-1, len(one.groups), count))
            for one in content.embedding.found.colourings
        ),
    )
    thumbs = rng.integers(0, 256, (count, 1, 40, 40), dtype=np.uint8)
    large = dataclasses.replace(content, embedding=Embedding(found, thumbs, {}))
    assert len(render(large).encode()) < SIZE_LIMIT
