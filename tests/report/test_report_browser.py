"""The page in a real browser: silent console, no sideways scroll, everything by keyboard, at three sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medprior.report.content import ReportContent
from medprior.report.page import write_report

TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
MACHADO = (
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)
"""Linear sRGB as seen without the cones for long, middle or short waves."""
pytestmark = pytest.mark.browser


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


@pytest.mark.parametrize(("width", "height"), [(360, 740), (768, 1024), (1280, 800)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_sideways_scroll_and_the_verdict_with_its_grave_warnings_above_the_fold(
    visit: Any, width: int, height: int, scheme: str
) -> None:
    page = visit(width, height, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator(".grave").bounding_box()
    assert box["y"] + box["height"] < height


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
    page.locator(".curves .plot").focus()
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
            .filter(control => control.checkVisibility() && (control.type !== "radio" || control.checked)) }"""
    )
    count = page.evaluate("controls.length")
    reached = set()
    for _ in range(count):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("controls.indexOf(document.activeElement)"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == set(range(count))


def test_a_walk_by_keyboard_alone(visit: Any) -> None:
    """From the skip link over a check box of the curves to the values, and a folded table opened."""
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#verdict"
    _walk_to(page, "summary")
    page.keyboard.press("Enter")
    assert page.locator(".warnings li").first.is_visible()
    _walk_to(page, "[data-toggle='1']")
    page.keyboard.press("Space")
    assert not page.locator('svg.wide [data-arm="1"] .path').is_visible()
    _walk_to(page, ".plot")
    page.keyboard.press("Home")
    assert "21 labelled patients" in page.locator(".reading:visible").inner_text()
    _walk_to(page, "#scores summary")
    page.keyboard.press("Space")
    assert page.locator("#scores details table").is_visible()


def test_the_map_is_read_by_pointer_and_by_keyboard_and_coloured_anew(visit: Any) -> None:
    page = visit()
    peek = page.locator(".peek")
    assert not peek.is_visible()
    page.locator(".embedding input").nth(1).focus()
    page.keyboard.press("Space")
    assert page.locator(".key:visible h3").inner_text() == "Site"
    assert page.locator(".map > use[href='#m8'], .map > use[href='#h8']").count() > 0
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    first = peek.inner_text()
    assert re.match(r"Row \d+, (test|training); label: (COVID|NonCOVID); site: ", first)
    page.keyboard.press("ArrowUp")
    assert peek.inner_text() != first
    page.keyboard.press("Escape")
    assert not peek.is_visible()
    page.locator(".map > use").nth(4).hover()
    assert peek.inner_text().startswith("Row 12, training; label: COVID")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_axe_finds_nothing_serious(visit: Any, width: int, scheme: str) -> None:
    """The rules of axe-core: names, roles, contrast, order of headings, landmarks."""
    from axe_playwright_python.sync_playwright import Axe

    page = visit(width, 800, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    found = Axe().run(page).response["violations"]
    said = [(one["id"], one["impact"], [node["target"] for node in one["nodes"][:3]]) for one in found]
    assert [one for one in said if one[1] != "minor"] == []


def test_nothing_moves(visit: Any) -> None:
    """There is no motion that somebody could want reduced."""
    page = visit()
    moving = """[...document.querySelectorAll("*")].filter(one => { const style = getComputedStyle(one);
        return style.transitionDuration !== "0s" || style.animationName !== "none"; }).length"""
    assert page.evaluate(moving) == 0


@pytest.mark.parametrize(("name", "width", "height"), [("phone", 360, 740), ("laptop", 1280, 800)])
def test_it_is_pictured_at_phone_laptop_and_print_size(
    visit: Any, tmp_path: Path, name: str, width: int, height: int
) -> None:
    page = visit(width, height)
    assert page.screenshot(path=tmp_path / f"{name}.png", full_page=True).startswith(b"\x89PNG")
    paper = page.pdf(path=tmp_path / f"{name}.pdf", format="A4")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_series_are_told_apart_by_the_colour_blind(visit: Any, scheme: str) -> None:
    """Okabe and Ito's hues, set apart in lightness too: at least 14 in CIELAB between any two as seen without one of
    the three cones (Machado et al., IEEE TVCG 2009)."""
    colours = _colours(visit(scheme=scheme))
    linear = np.array([_linear(colours[f"s{n}"]) for n in range(1, 7)])
    for seen in (np.eye(3), *MACHADO):
        points = _lab(linear @ np.array(seen).T)
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(6, 1)]
        assert apart.min() >= 14


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit: Any, scheme: str) -> None:
    """At least 4.5 to 1 for words and 3 to 1 for marks (WCAG 2.2 AA)."""
    colours = _colours(visit(scheme=scheme))
    for name, colour in colours.items():
        if name not in {"paper", "alarm-ground"}:
            assert _contrast(colour, colours["paper"]) >= (4.5 if name in {"ink", "soft", "caution", "alarm"} else 3), (
                name
            )
    assert _contrast(colours["alarm"], colours["alarm-ground"]) >= 4.5
    assert _contrast(colours["ink"], colours["alarm-ground"]) >= 7


def test_on_paper_it_is_dark_on_light_with_every_arm_and_no_controls(visit: Any) -> None:
    page = visit(scheme="dark")
    page.locator('[data-toggle="3"]').uncheck()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator('svg.wide [data-arm="3"] .path').is_visible()
    assert page.locator(".toggles:visible").count() == 0
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_pictures_are_loaded(visit: Any) -> None:
    page = visit()
    loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert len(loaded) == 24 + 12 + 15 + 12 + 10 + 1 + 12 and all(loaded)


def _walk_to(page: Any, selector: str) -> None:
    """Presses Tab until the first element of `selector` has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement === document.querySelector(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def _colours(page: Any) -> dict[str, str]:
    names = ["paper", "ink", "soft", "caution", "alarm", "alarm-ground", *(f"s{n}" for n in range(7))]
    script = """names => Object.fromEntries(names.map(
        name => [name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim()]))"""
    found: dict[str, str] = page.evaluate(script, names)
    return found


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    return float(_linear(colour) @ TO_XYZ[1])


def _linear(colour: str) -> NDArray[np.float64]:
    parts = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB under D65 of linear sRGB, (N, 3)."""
    share = np.clip(linear, 0, 1) @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
