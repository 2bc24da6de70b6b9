"""The page of what to label next, in a real browser: silent, readable on a phone, with room to write on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medprior.data.catalog import build_catalog
from medprior.data.store.pixels import PixelStore
from medprior.report.worklist import write_page
from medprior.study.worklist import Suggested, Worklist

pytestmark = pytest.mark.browser
LISTED = 24


@pytest.fixture(scope="module")
def address(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("worklist")
    catalog = build_catalog(cohort.parent, workers=1)
    store = PixelStore.build(catalog, place / "store", size=32, workers=1)
    chosen = tuple(Suggested(2 * n, n % 5 + 1, 12, 1 + n % 2, 0.9 - n / 50) for n in range(LISTED))
    warnings = ("60 scans name no patient: each counts as a patient of its own.",)
    worklist = Worklist(place, "uncertain", chosen, catalog, store, 60, 60, warnings)
    return write_page(worklist, place / "worklist.html").as_uri()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_it_is_silent_and_fits_every_screen(browser: Any, address: str, width: int, scheme: str) -> None:
    said: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert loaded == [True] * LISTED
    assert said == []
    page.close()


def test_on_paper_every_line_is_whole_and_has_room_for_a_label(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 680, "height": 1000})  # A4 within its margins
    page.goto(address)
    page.emulate_media(media="print")
    widths = page.evaluate("[...document.querySelectorAll('.blank')].map(cell => cell.clientWidth)")
    assert len(widths) == LISTED and min(widths) > 120
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    breaks = page.evaluate("[...document.querySelectorAll('tbody tr')].map(r => getComputedStyle(r).breakInside)")
    assert set(breaks) == {"avoid"}
    assert page.evaluate("getComputedStyle(document.querySelector('.tick tbody')).breakInside") == "auto"
    page.close()
