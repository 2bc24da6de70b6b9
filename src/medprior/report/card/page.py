"""Writes `data-card.html`, one self-contained page without any script, and `data-card.json` beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from medprior.data.card.content import Card
from medprior.data.catalog import Catalog
from medprior.data.intensity import CT_WINDOW, plan_intensity
from medprior.files import write_json, write_text
from medprior.report.card import sections
from medprior.report.card.sections import Context, Show
from medprior.report.page import SIZE_LIMIT, environment, source_of

IMAGE_SIDES = (224, 144, 96)


@dataclass(frozen=True)
class Section:
    """One part of the card: `make` gives what `templates/card/<name>.html` needs, or None to leave it out."""

    name: str
    title: str
    make: Callable[[Show], Context]


SECTIONS = (
    Section("leaks", "Leaks", sections.leaks),
    Section("kinds", "Scans", sections.kinds),
    Section("labels", "Labels", sections.labels),
    Section("patients", "Patients and splits", sections.patients),
    Section("headers", "What headers say", sections.headers),
    Section("beside", "Masks, boxes, reports", sections.beside),
    Section("copies", "Copies", sections.copies),
    Section("problems", "Problems", sections.problems),
    Section("plan", "Plan", sections.plan),
)


def write_data_card(
    card: Card, catalog: Catalog, out: Path, ct_window: tuple[float, float] = CT_WINDOW
) -> tuple[Path, Path]:
    """Write `data-card.html` and `data-card.json` into `out`, each whole or not at all, and return their paths.

    The few scans that are shown are decoded again; those that cannot be are left out. Pictures are drawn smaller where
    the page would otherwise pass 5 MB.

    Raises:
        OutputError: a file cannot be written.
    """
    html, data = out / "data-card.html", out / "data-card.json"
    pages = (render(card, catalog, ct_window, image_side=side) for side in IMAGE_SIDES)
    page = ""
    for page in pages:
        if len(page.encode()) < SIZE_LIMIT:
            break
    write_text(html, page)
    write_json(data, card.to_json())
    return html, data


def render(
    card: Card, catalog: Catalog, ct_window: tuple[float, float] = CT_WINDOW, *, image_side: int = IMAGE_SIDES[0]
) -> str:
    """The page as a string; pictures are at most `image_side` pixels wide and high."""
    show = Show(card, catalog, plan_intensity(catalog.table, ct_window), image_side)
    made = [(section, section.make(show)) for section in SECTIONS]
    shown = [(section, context) for section, context in made if context is not None]
    template = environment().get_template("data-card.html")
    return template.render(
        card=card,
        figures=sections.figures_of(card),
        mend=[one for one in card.findings if one.level == "mend"],
        know=[one for one in card.findings if one.level == "know"],
        sections=shown,
        parts={section.name for section, _ in shown},
        style=Markup(source_of("report.css") + source_of("card.css")),
    )
