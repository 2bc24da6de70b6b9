"""The page of a data card: one file, nothing from outside, no name of a person, a folder or a file in it."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medprior.data.annotations.join import join_labels
from medprior.data.card import make_card
from medprior.data.catalog import Catalog, build_catalog
from medprior.data.intensity import plan_intensity
from medprior.report.card import write_data_card
from medprior.report.card.page import SECTIONS, render
from medprior.report.card.planes import COLOURS, legend, planes
from medprior.report.page import SIZE_LIMIT, source_of

SECRETS = ("quint", "vera", "19480312", "acc778812", "1.2.826.77", "ward seven", "upper lobe", "trial list")
VOID = {"meta", "link", "img", "br"}


class Outline(HTMLParser):
    """Tags with their attributes, and those that stay open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def written(hospital: Catalog, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    html, data = write_data_card(make_card(hospital), hospital, tmp_path_factory.mktemp("out"))
    assert html.name == "data-card.html" and data.name == "data-card.json"
    return html.read_text(encoding="utf-8"), data.read_text(encoding="utf-8")


def test_everything_of_the_folder_is_on_the_page(hospital: Catalog, written: tuple[str, str]) -> None:
    outline = Outline(written[0])
    assert outline.open == []
    places = [attributes.get("id") for attributes in outline.of("section")]
    assert places == ["summary", *(section.name for section in SECTIONS)]
    assert len(outline.of("img")) >= len(hospital) + 2 * 2  # three planes of the volume, an outline, a pair of copies
    assert len(outline.of("rect")) >= 1


def test_no_name_of_anything_is_in_any_shared_byte(written: tuple[str, str]) -> None:
    page, data = written
    pictures = [base64.b64decode(one) for one in re.findall(r"base64,([\w+/=]+)", page)]
    for text in (page, data, *(one.decode("latin-1") for one in pictures)):
        found = [secret for secret in SECRETS if secret in text.casefold()]
        assert found == []
    assert str(Path.home()) not in page + data and "/scans" not in page + data


def test_nothing_comes_from_outside_and_nothing_runs(written: tuple[str, str]) -> None:
    page = re.sub(r"base64,[\w+/=]+", "", written[0])
    assert re.findall(r"(?:https?:)?//\w", page) == []
    assert "@import" not in page and "url(" not in page and "<script" not in page
    assert "default-src 'none'" in page
    outline = Outline(written[0])
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    inner = {(a["href"] or "").removeprefix("#") for a in outline.of("a")}
    assert len(ids) == len(set(ids)) and inner <= set(ids)
    assert all((a["src"] or "").startswith("data:image/webp") for a in outline.of("img"))


def test_every_picture_and_table_is_named(written: tuple[str, str]) -> None:
    outline = Outline(written[0])
    assert all(attributes.get("alt") for attributes in outline.of("img"))
    assert all(a.get("aria-label") or a.get("aria-hidden") == "true" for a in outline.of("svg"))
    assert all(attributes.get("scope") for attributes in outline.of("th"))


def test_the_leak_stands_before_everything_else(written: tuple[str, str]) -> None:
    page = written[0]
    first = page.index("of copies stands in more than one of train, val and test")
    assert first < page.index("Good to know") < page.index('id="leaks"') < page.index('id="kinds"')
    assert "things to mend before training" in page[:first]
    assert json.loads(written[1])["schema"] == "medprior.data-card/1"


def test_the_page_stays_small_however_noisy_its_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "scans"
    folder.mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    catalog = build_catalog(folder, workers=1)
    html, _ = write_data_card(make_card(catalog), catalog, tmp_path / "out")
    assert html.stat().st_size < SIZE_LIMIT / 4


def test_scans_that_are_gone_leave_a_page_without_them(hospital: Catalog, tmp_path: Path) -> None:
    gone = dataclasses.replace(hospital, root=tmp_path)
    page = render(make_card(gone), gone)
    assert Outline(page).open == [] and "could not be read again" in page and "<img" not in page


def test_scans_with_burnt_in_text_are_not_drawn(hospital: Catalog) -> None:
    marked = dataclasses.replace(hospital, table=hospital.table.assign(burnt="it is ultrasound"))
    page = render(make_card(marked), marked)
    assert "<img" not in page and "is drawn here; others may still carry text" in page


def test_hostile_names_stay_text(hospital: Catalog) -> None:
    hostile = "\"><script>alert('x')</script><img src=x onerror=alert(1)>"
    assert hospital.labels is not None
    spec = dataclasses.replace(hospital.labels, names=(hostile, *hospital.labels.names[1:]))
    named = dataclasses.replace(hospital, labels=spec, warnings=[hostile])
    outline = Outline(render(make_card(named), named))
    assert outline.open == [] and outline.of("script") == []
    assert not any(name.startswith("on") for _, attributes in outline.tags for name in attributes)


def picture(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/webp;base64,")))))


def test_a_volume_stands_upright_in_its_millimetres(tmp_path: Path) -> None:
    """A bright block from the middle to the head, the front and the left, in 1 x 2 x 4 mm voxels."""
    x, y, z = np.mgrid[0:40, 0:40, 0:10]
    bright = (x < 22) & (y > 18) & (z > 3)
    values = np.where(bright, 1000, 10 + (x % 2)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 2, 4, 1])), tmp_path / "head.nii")
    catalog = build_catalog(tmp_path, workers=1)
    axial, coronal, sagittal = planes(catalog, 0, plan_intensity(catalog.table), 80, None)
    assert [plane.name for plane in (axial, coronal, sagittal)] == ["axial", "coronal", "sagittal"]
    for plane, corner, aspect in ((axial, (0, -1), 2), (coronal, (0, -1), 1), (sagittal, (0, 0), 0.5)):
        seen = picture(plane.image)[..., 0]
        assert seen.shape[0] / seen.shape[1] == aspect
        assert seen[corner] == 255 and {seen[0, 0], seen[0, -1], seen[-1, 0], seen[-1, -1]} == {0, 255}
        assert sorted((seen[0, 0], seen[0, -1], seen[-1, 0], seen[-1, -1]))[2] < 5


def test_outlines_and_boxes_lie_where_they_should(hospital: Catalog) -> None:
    plan = plan_intensity(hospital.table)
    masked = next(row for row in range(len(hospital)) if hospital.table["mask"][row])
    (plane,) = planes(hospital, masked, plan, 64, ["nodule"])
    outline = picture(plane.outline)
    inside = np.hypot(*np.mgrid[-1 : 1 : outline.shape[0] * 1j, -1 : 1 : outline.shape[1] * 1j])
    drawn = outline[..., 3] > 0
    assert drawn.any() and np.abs(inside[drawn] - 0.6).max() < 0.06
    assert {tuple(colour) for colour in outline[drawn][:, :3]} == {COLOURS[1]}
    boxed = next(row for row in range(len(hospital)) if hospital.table["boxes"][row])
    (plane,) = planes(hospital, boxed, plan, 64, ["nodule"])
    (box,) = hospital.table["boxes"][boxed]
    top, left, bottom, right = (1000 / 64 * edge for edge in box["box"])
    numbers = [float(n) for n in re.findall(r'(?:x|y|width|height)="([\d.]+)"', str(plane.boxes).split("<rect")[1])]
    assert numbers == pytest.approx([left, top, right - left, bottom - top], abs=0.1)


def test_grey_levels_are_those_of_the_plan(tmp_path: Path) -> None:
    """16-bit values between the percentiles of the scan, without anything shown of what lies outside."""
    ramp = np.linspace(0, 40000, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    catalog = build_catalog(tmp_path, workers=1)
    plan = plan_intensity(catalog.table)
    low, high = (edge[0, 0] for edge in plan.edges(catalog.table))
    (plane,) = planes(catalog, 0, plan, 64, None)
    expected = np.clip((ramp - low) / (high - low) * 255, 0, 255)
    assert np.abs(picture(plane.image)[..., 0] - expected).max() <= 1


@pytest.mark.data
def test_what_is_wrong_with_a_published_set_stands_on_top(real_data: Path, tmp_path: Path) -> None:
    """COVID-CT: a pair of near-copies on both sides of the split with different labels, and six torn patients."""
    folder = real_data / "covid-ct"
    catalog = join_labels(build_catalog(folder, workers=1), folder / "labels.csv")
    card = make_card(catalog)
    assert [one.part for one in card.findings if one.level == "mend"] == ["leaks", "leaks", "leaks"]
    assert card.leaks.counts == {"split": 1, "labels": 1} and not card.leaks.found[0].same
    assert card.leaks.repaired[0].startswith("6 patients stood in two splits: their ")
    page = render(card, catalog)
    (distance,) = {one.distance for one in card.leaks.found}
    assert distance is not None and f"distance {distance:.3f}" in page


def test_boxes_and_masks_of_many_classes_look_different(hospital: Catalog) -> None:
    """The legend, the page's colours and the pictures agree, and lines are broken before a colour comes again."""
    classes = [f"class {i}" for i in range(2 * len(COLOURS))]
    styles = [
        style for _, style in legend(dataclasses.replace(hospital, table=hospital.table.assign(mask=None)), classes)
    ]
    assert len(set(styles)) == len(styles) == 2 * len(COLOURS) and len(set(COLOURS)) == len(COLOURS)
    css = dict(re.findall(r"\.(c\d+) \{ --box: #(\w{6}); \}", source_of("card.css")))
    assert css == {f"c{i + 1}": bytes(colour).hex() for i, colour in enumerate(COLOURS)}
    boxed = next(row for row in range(len(hospital)) if hospital.table["boxes"][row])
    plan, last = plan_intensity(hospital.table), [*classes[:-1], "nodule"]
    (plane,) = planes(hospital, boxed, plan, 64, last)
    assert f'class="{styles[-1]}"' in str(plane.boxes)
    masked = next(row for row in range(len(hospital)) if hospital.table["mask"][row])
    (whole,), (broken,) = (planes(hospital, masked, plan, 64, classes[:n]) for n in (0, len(COLOURS)))
    whole_line, strokes = ((picture(one.outline)[..., 3] > 0).sum() for one in (whole, broken))
    assert 0.3 < strokes / whole_line < 0.7
