"""Pictures with heat maps: the colours cover what is hot alone, planes go through the maximum, pages stay light."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from medprior.report.content import ReportContent
from medprior.report.heated import planes
from medprior.report.page import render
from medprior.report.saliency import VIRIDIS, overlay


def test_where_it_is_cold_the_picture_stays_and_the_hotter_the_more_it_is_covered() -> None:
    grey = np.full((1, 4, 5), 90, np.uint8)
    heat = np.zeros((4, 5), np.float32)
    heat[1, 2], heat[3, 3] = 1.0, 0.5
    found = overlay(grey, heat).astype(int)
    moved = np.abs(found - 90).max(axis=0)
    assert (moved[heat == 0] == 0).all() and moved[1, 2] > moved[3, 3] > 15
    yellow = np.array([int(VIRIDIS[-1][i : i + 2], 16) for i in (1, 3, 5)])
    np.testing.assert_allclose(found[:, 1, 2], 90 + 0.65 * (yellow - 90), atol=0.51)


def test_the_colours_run_from_dark_to_light_also_for_those_who_see_no_colour() -> None:
    light = [0.2126 * int(c[1:3], 16) + 0.7152 * int(c[3:5], 16) + 0.0722 * int(c[5:7], 16) for c in VIRIDIS]
    assert np.diff(light).min() > 25


@pytest.mark.parametrize("upright", [True, False])
def test_planes_of_a_volume_go_through_the_maximum_head_up(upright: bool) -> None:
    heat = np.zeros((4, 2, 3), np.float32)
    heat[3, 1, 0] = 1
    pixels = torch.zeros(1, 8, 8, 9)
    pixels[0, 6:8, 4:8, 0:3] = 1  # the box of that cell
    found = planes(pixels, heat, upright=upright)
    assert [one.name for one in found] == (
        ["axial", "coronal", "sagittal"] if upright else ["axis 1", "axis 2", "axis 3"]
    )
    for one in found:
        hot = np.argwhere(one.heat == 1)
        assert len(hot) == 1
        box = np.zeros(one.heat.shape, bool)
        box[tuple(hot[0])] = True
        scale = np.array(one.pixels.shape[1:]) // one.heat.shape
        assert (one.pixels[0] == 255 * np.kron(box, np.ones(scale))).all()
    (row, _), *_ = np.argwhere(found[1].heat == 1)
    assert row == (0 if upright else 3)  # the head is up


def test_the_page_shows_pairs_with_a_caution_and_names_the_paper(content: ReportContent) -> None:
    page = render(content)
    part = page[page.index('<section id="saliency"') : page.index('<section id="examples"')]
    assert part.count("<img ") == 2 * part.count('class="pair"') == 2 * (2 + 1 + 3)
    assert "where the model’s score is sensitive, not why" in part and "Adebayo et al., NeurIPS 2018" in part
    assert "Grad-CAM (Selvaraju et al., ICCV 2017) on 4 × 4 cells" in part
    assert part.index("Right answers") < part.index("taken for") and part.index("Wrong answers") < part.index(
        "taken for"
    )
    assert all(re.search(r'alt="Test image, row \d', image) for image in re.findall("<img [^>]*>", part))
    assert part.count('class="half"') == part.count('class="pair"')


def test_a_kind_of_answer_that_there_is_none_of_has_no_heading(content: ReportContent) -> None:
    assert content.saliency is not None
    page = render(dataclasses.replace(content, saliency=dataclasses.replace(content.saliency, wrong=[])))
    assert "Right answers" in page and "Wrong answers" not in page
