"""The page in a real browser: silent console, no sideways scroll, everything by keyboard, at three sizes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medprior.report.content import ReportContent
from medprior.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and os.environ.get("CI") != "true", reason="needs Chromium on the PATH (chromium)"
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Any, content: ReportContent, tmp_path: Path) -> Iterator[Any]:
    """Opens the page at a width; at the end nothing may have been said on the console or asked of the network."""
    address = write_report(tmp_path / "report.html", content).as_uri()
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


@pytest.mark.parametrize(("width", "height"), [(390, 844), (768, 1024), (1280, 800)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_sideways_scroll_and_the_verdict_with_its_warnings_above_the_fold(
    visit: Any, width: int, height: int, scheme: str
) -> None:
    page = visit(width, height, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".warnings").bounding_box()["y"] + page.locator(".warnings").bounding_box()["height"] < height


def test_exactly_one_drawing_of_each_figure_is_shown(visit: Any) -> None:
    for width, shown, hidden in ((390, ".narrow", ".wide"), (1280, ".wide", ".narrow")):
        page = visit(width)
        assert page.locator(f"#curves {shown}").is_visible() and not page.locator(f"#curves {hidden}").is_visible()


def test_letters_on_a_phone_stay_readable(visit: Any) -> None:
    page = visit(390, 844)
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg.narrow text')].map(t => t.getBoundingClientRect().height)"
    )
    assert sizes and min(sizes) >= 12


def test_arms_are_toggled_by_keyboard(visit: Any) -> None:
    page = visit()
    line = page.locator('svg.wide [data-arm="2"] .path')
    assert line.is_visible()
    page.locator('[data-toggle="2"]').focus()
    page.keyboard.press("Space")
    assert not line.is_visible()
    assert page.locator('svg.wide [data-arm="1"] .path').is_visible()
    page.keyboard.press("Space")
    assert line.is_visible()


def test_values_are_read_by_pointer_and_by_keyboard(visit: Any) -> None:
    page = visit()
    assert page.locator(".reading:visible").count() == 0
    page.locator('svg.wide [data-column="0"] rect').hover()
    assert "0.66" in page.locator(".reading:visible").inner_text()
    page.mouse.move(0, 0)
    assert page.locator(".reading:visible").count() == 0
    page.locator(".plot").focus()
    page.keyboard.press("End")
    assert "425 labelled patients" in page.locator(".reading:visible").inner_text()
    page.keyboard.press("ArrowLeft")
    assert "106 labelled patients" in page.locator(".reading:visible").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".reading:visible").count() == 0


def test_a_walk_by_tab_reaches_every_control_and_shows_where_it_is(visit: Any) -> None:
    page = visit()
    page.evaluate(
        """() => { window.controls = [...document.querySelectorAll("a[href], input, summary, [tabindex='0']")]
            .filter(control => control.checkVisibility()) }"""
    )
    count = page.evaluate("controls.length")
    reached = set()
    for _ in range(count):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("controls.indexOf(document.activeElement)"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == set(range(count))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit: Any, scheme: str) -> None:
    """At least 4.5 to 1 for words and 3 to 1 for marks (WCAG 2.2 AA)."""
    page = visit(scheme=scheme)
    colours = page.evaluate(
        """() => Object.fromEntries(["paper", "ink", "soft", "caution", "s0", "s1", "s2", "s3", "s4", "s5", "s6"].map(
            name => [name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim()]))"""
    )
    for name, colour in colours.items():
        if name != "paper":
            assert _contrast(colour, colours["paper"]) >= (4.5 if name in {"ink", "soft", "caution"} else 3), name


def test_on_paper_it_is_dark_on_light_with_every_arm_and_no_controls(visit: Any) -> None:
    page = visit(scheme="dark")
    page.locator('[data-toggle="3"]').uncheck()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator('svg.wide [data-arm="3"] .path').is_visible()
    assert not page.locator(".toggles").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_pictures_are_loaded(visit: Any) -> None:
    page = visit()
    loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert len(loaded) == 24 + 12 + 15 + 12 and all(loaded)


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
