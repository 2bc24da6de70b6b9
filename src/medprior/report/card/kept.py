"""A card that is still true is not drawn again: a second index of the same scans is there at once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from medprior import __version__
from medprior.data.card import make_card
from medprior.data.catalog import Catalog
from medprior.files import write_json
from medprior.report.card.page import write_data_card


def data_card(catalog: Catalog, out: Path, ct_window: tuple[float, float]) -> tuple[Path, str]:
    """The card of a catalog in `out`, the one that lies there where nothing changed, and its headline.

    Raises:
        OutputError: it cannot be written.
    """
    html, data, key = out / "data-card.html", out / "data-card.json", _key(catalog, ct_window)
    headline = _headline(data, key)
    if headline is not None and html.is_file():
        return html, headline
    card = make_card(catalog, ct_window)
    write_data_card(card, catalog, out, ct_window)
    write_json(data, card.to_json() | {"key": key})
    return html, card.headline


def _headline(data: Path, key: str) -> str | None:
    try:
        found = json.loads(data.read_text(encoding="utf-8"))
        return str(found["headline"]) if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(catalog: Catalog, ct_window: tuple[float, float]) -> str:
    """Changes with everything that a card tells of; keyed, for it may be shared and is made of private things."""
    digest = hashlib.blake2b(catalog.fingerprint().encode(), key=catalog.keys.salt, digest_size=16)
    table = catalog.table[["path", "modality", "spacing", "mask", "boxes", "report", "burnt", "window"]]
    for part in (__version__, ct_window, catalog.warnings, catalog.problems.to_numpy().tolist()):
        digest.update(repr(part).encode())
    for name in table:
        digest.update(repr(table[name].tolist()).encode())
    return digest.hexdigest()
