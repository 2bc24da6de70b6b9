"""What docs/views.md says of the ranges is what recipes.yaml holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medprior.views.modalities import families
from medprior.views.recipe import base_recipe

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS = {
    title.lower().replace(" ", "_").replace("-", "_"): text
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (DOCS / "views.md").read_text("utf-8"), re.S | re.M)
}
Values = tuple[float, ...]


def numbers(cell: str) -> Values:
    parts = [] if cell == "usual" else [part.partition("/") for part in cell.split(" to ")]
    return tuple(float(over) / float(under or 1) for over, _, under in parts)


def table(section: str) -> dict[str, tuple[Values, Values]]:
    """(contrastive, adaptation) of every row."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    return {name: (numbers(strong), numbers(mild)) for name, strong, mild, _ in rows[2:]}


def listed(value: object) -> Values:
    return tuple(value) if isinstance(value, list | tuple) else (value,)  # type: ignore[return-value]


def flat(settings: dict[str, object]) -> dict[str, Values]:
    """Every number that a family sets, by the name the docs give it."""
    found = {name: listed(value) for name, value in settings.items() if name != "acquisition"}
    for change in settings.get("acquisition", ()):
        found |= {f"{change['change']} {name}": listed(value) for name, value in change.items() if name != "change"}
    return found


@pytest.mark.parametrize("name", families())
def test_every_range_is_told_as_it_is(name):
    family = families()[name]
    strong, mild = flat(dict(family.contrastive)), flat(dict(family.adaptation))
    expected = {setting: (strong.get(setting, ()), mild.get(setting, ())) for setting in strong | mild}
    assert table(SECTIONS[name]) == expected
    codes = SECTIONS[name].split("Codes: ")[1].split(".")[0]
    assert tuple(re.findall(r"`(\w+)`", codes)) == family.codes
    assert ("No given orientation" in SECTIONS[name]) == family.unoriented


def test_the_usual_settings_are_told_as_they_are():
    base = base_recipe(None, 32)
    for setting, told in table(SECTIONS["usual"]).items():
        for use, recipe in zip(told, (base.contrastive(), base.adaptation()), strict=True):
            value = listed(getattr(recipe, setting))
            assert use == pytest.approx(value if len(set(value)) > 1 else value[:1])


def test_pictures_are_there_and_small():
    pictures = re.findall(r"\]\((images/views/\w+\.png)\)", (DOCS / "views.md").read_text("utf-8"))
    assert len(pictures) == 5
    assert all((DOCS / picture).stat().st_size < 60_000 for picture in pictures)
