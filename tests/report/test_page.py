"""The page: one file, nothing from outside, nothing unescaped, small, written whole or not at all."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import medprior
from medprior.errors import OutputError
from medprior.report.content import DataSummary, Gallery, ReportContent
from medprior.report.gravity import GRAVE
from medprior.report.page import SECTIONS, SIZE_LIMIT, render, write_report
from medprior.report.wording import prose

HOSTILE = "\"><script>alert('x')</script><img src=x onerror=alert(1)>"
VOID = {"meta", "link", "img", "input", "br"}


class Outline(HTMLParser):
    """What a page consists of: its tags with their attributes, and whether they close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def test_the_page_is_well_formed_and_its_parts_are_in_order(content: ReportContent) -> None:
    outline = Outline(render(content))
    assert outline.open == []
    places = [attributes.get("id") for attributes in outline.of("section")]
    assert places == ["verdict", *(section.name for section in SECTIONS)]


def test_every_address_leads_into_the_page(content: ReportContent) -> None:
    outline = Outline(render(content))
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    addresses = [a[name] or "" for _, a in outline.tags for name in ("href", "src") if name in a]
    inner = [address.removeprefix("#") for address in addresses if address.startswith("#")]
    assert set(inner) <= set(ids)
    assert all(address.startswith(("#", "data:")) for address in addresses)


def test_nothing_comes_from_outside(content: ReportContent) -> None:
    page = render(content)
    assert re.findall(r"(?:https?:)?//\w", re.sub(r"base64,[\w+/=]+", "", page)) == []
    assert "@import" not in page and "url(" not in page
    assert "default-src 'none'" in page


def test_every_picture_and_table_is_named(content: ReportContent) -> None:
    outline = Outline(render(content))
    assert all(attributes.get("alt") for attributes in outline.of("img"))
    assert all(a.get("aria-label") or a.get("aria-hidden") == "true" for a in outline.of("svg"))
    assert all(attributes.get("scope") for attributes in outline.of("th"))


def test_hostile_names_stay_text(content: ReportContent) -> None:
    verdict = {
        **content.verdict,
        "arms": [{**row, "arm": f"{row['arm']} {HOSTILE}"} for row in content.verdict["arms"]],
        "sentences": [HOSTILE],
        "warnings": [HOSTILE],
    }
    hostile = dataclasses.replace(
        content,
        title=HOSTILE,
        verdict=verdict,
        summary=DataSummary(
            3, modality=HOSTILE, classes={HOSTILE: {HOSTILE: 3}}, problems=[{"row": 1, "reason": HOSTILE}]
        ),
        per_class=[{**row, "class": HOSTILE} for row in content.per_class],
        examples=Gallery(np.zeros((1, 1, 8, 8), np.uint8), [HOSTILE]),
        training={HOSTILE: {HOSTILE: ([0, 1], [1.0, 0.5])}},
        plan=[HOSTILE],
        command=HOSTILE,
        environment={HOSTILE: HOSTILE},
    )
    outline = Outline(render(hostile))
    assert outline.open == []
    assert len(outline.of("script")) == 1
    assert not any(name.startswith("on") for _, attributes in outline.tags for name in attributes)
    assert all((image["src"] or "").startswith("data:") for image in outline.of("img"))


def test_absent_parts_are_absent() -> None:
    page = render(ReportContent("Nothing yet", {}))
    assert [attributes.get("id") for attributes in Outline(page).of("section")] == ["verdict"]


@pytest.mark.parametrize("part", [field.name for field in dataclasses.fields(ReportContent)[2:]])
def test_each_part_can_be_left_out_alone(content: ReportContent, part: str) -> None:
    empty = getattr(ReportContent("", {}), part)
    assert Outline(render(dataclasses.replace(content, **{part: empty}))).open == []


def test_grave_warnings_stand_before_the_grounds_and_all_stand_at_the_end(content: ReportContent) -> None:
    page = render(content)
    headline, grounds, curves = (page.index(text) for text in ("0.70–0.85", 'class="grounds"', 'id="curves"'))
    for warning in content.verdict["warnings"]:
        said = prose(warning)
        first, last = page.index(said), page.rindex(said)
        is_grave = "copies of test" in warning or "41 test" in warning
        folded = page.index('class="warnings"')
        assert headline < first < folded if is_grave else folded < first < grounds < curves
        assert last > page.index('id="limits"')
    assert "2 more things to beware of" in page


def test_without_grave_warnings_the_others_are_folded(content: ReportContent) -> None:
    page = render(dataclasses.replace(content, verdict={**content.verdict, "warnings": ["One seed only."]}))
    assert 'class="grave"' not in page
    assert re.search(r"<details class=.warnings.>\s*<summary>1 thing to beware of", page)


def test_what_is_grave_is_said_by_medprior_in_these_words() -> None:
    said = "\n".join(
        file.read_text(encoding="utf-8")
        for file in Path(medprior.__file__).parent.rglob("*.py")
        if file.stem != "gravity"
    )
    assert [words for words in GRAVE if words not in said] == []


def test_large_noisy_images_are_drawn_smaller_until_the_page_fits(content: ReportContent, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 3, 224, 224), dtype=np.uint8)
    many = {
        f"method {n}": dataclasses.replace(_rows(content), images=noise.reshape(4, 6, 3, 224, 224)) for n in range(6)
    }
    large = dataclasses.replace(content, views=many, examples=Gallery(noise, ["Row 1"] * 24))
    assert len(render(large)) > SIZE_LIMIT
    assert write_report(tmp_path / "report.html", large).stat().st_size < SIZE_LIMIT


def test_the_usual_page_is_far_below_the_limit(content: ReportContent) -> None:
    assert len(render(content).encode()) < SIZE_LIMIT / 5


def test_the_same_content_gives_the_same_page(content: ReportContent) -> None:
    assert render(content) == render(content)


def test_a_page_that_cannot_be_written_says_where_and_leaves_the_old_one(
    content: ReportContent, tmp_path: Path
) -> None:
    path = write_report(tmp_path / "out" / "report.html", content)
    assert [child.name for child in path.parent.iterdir()] == ["report.html"]
    blocked = tmp_path / "out" / "report.html" / "below.html"
    with pytest.raises(OutputError, match=r"below\.html"):
        write_report(blocked, content)
    assert path.read_text(encoding="utf-8") == render(content)


def _rows(content: ReportContent):  # type: ignore[no-untyped-def]
    rows = content.views["simclr"]
    return dataclasses.replace(rows, columns=("original", *(f"view {n}" for n in range(1, 6))), captions=())


def test_labels_saved_that_are_open_on_both_sides_are_said_and_not_drawn(content: ReportContent) -> None:
    rows = [{**row, "ratio": None, "low": None, "high": None} for row in content.verdict["labels_saved"]]
    page = render(dataclasses.replace(content, verdict={**content.verdict, "labels_saved": rows}))
    assert "the intervals leave any number open, at every budget" in page
    assert "worth more labels" in render(content) and "worth more labels" not in page
