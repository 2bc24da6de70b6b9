"""The data card in a real browser: silent console, no sideways scroll, readable in both schemes and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medprior.data.card import make_card
from medprior.data.catalog import Catalog
from medprior.report.card import write_data_card

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(hospital: Catalog, tmp_path_factory: pytest.TempPathFactory) -> str:
    html, _ = write_data_card(make_card(hospital), hospital, tmp_path_factory.mktemp("card"))
    return Path(html).as_uri()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Any]:
    """Opens the page at a width; at the end nothing may have been said on the console or asked of the network."""
    said: list[str] = []
    pages = []

    def open_page(width: int = 1280, height: int = 800, scheme: str = "light") -> Any:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(address)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert said == []


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_sideways_scroll_and_what_to_mend_above_the_fold(visit: Any, width: int, height: int, scheme: str) -> None:
    page = visit(width, height, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    first = page.locator(".mend li").first.bounding_box()
    assert first["y"] + first["height"] < height
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 23, 27)")


def test_all_pictures_are_loaded_and_keep_their_shape(visit: Any) -> None:
    page = visit()
    loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert len(loaded) > 10 and all(loaded)
    planes = page.evaluate("[...document.querySelectorAll('.plane')].map(p => [p.clientWidth, p.clientHeight])")
    assert all(abs(width - height) <= 1 and width > 80 for width, height in planes)


def test_outlines_and_boxes_lie_on_their_picture_and_hide_under_the_pointer(visit: Any) -> None:
    page = visit()
    for mark in (".outline", ".boxes"):
        plane = page.locator(".plane").filter(has=page.locator(mark)).first
        plane.scroll_into_view_if_needed()
        image, above = plane.locator("img").first.bounding_box(), plane.locator(mark).bounding_box()
        assert image == above
        assert plane.locator(mark).is_visible()
        plane.hover()
        assert not plane.locator(mark).is_visible()
        page.mouse.move(0, 0)


def test_tables_too_wide_for_a_phone_scroll_by_themselves(visit: Any) -> None:
    page = visit(390, 844)
    wide = page.evaluate(
        "[...document.querySelectorAll('table')]"
        ".filter(table => table.getBoundingClientRect().right > 390 && !table.closest('.scroll')).length"
    )
    assert wide == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_in_the_heat_map_stand_out_from_their_ground(visit: Any, scheme: str) -> None:
    page = visit(scheme=scheme)
    cells = page.evaluate(
        """() => { const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
        const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data]; };
        return [...document.querySelectorAll(".heat tbody td")].filter(cell => cell.innerText).map(cell => {
            const style = getComputedStyle(cell), page = getComputedStyle(document.body).backgroundColor;
            const own = rgb(style.backgroundColor);
            return [rgb(style.color).slice(0, 3), (own[3] ? own : rgb(page)).slice(0, 3)]; }); }"""
    )
    assert len(cells) >= 3
    assert min(_contrast(*pair) for pair in cells) >= 4.5


def test_it_prints(visit: Any) -> None:
    page = visit(scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")


def _contrast(one: list[int], other: list[int]) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: list[int]) -> float:
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_on_a_phone_leaks_and_problems_show_all_their_columns(visit: Any) -> None:
    page = visit(390, 844)
    wide = "[...document.querySelectorAll('.leaks, .problems')].map(t => [t.scrollWidth, t.parentElement.clientWidth])"
    found = page.evaluate(wide)
    assert len(found) >= 2 and all(table <= room for table, room in found)
