"""A run that is done, opened again from its folder alone: its scans are not read a second time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medprior.config import Settings
from medprior.data.catalog import Catalog
from medprior.data.catalogfile import load_catalog
from medprior.data.store.pixels import PixelStore
from medprior.errors import RunError
from medprior.study.arms import Pretraining
from medprior.tasks.segmentation import Segmentation

AGAIN = "Repeat the command that made it, which resumes; then ask again"
LEVELS = 3  # an encoder lies so deep below the folder of its run


@dataclass(frozen=True)
class Finished:
    """A finished run that has embeddings of whole scans.

    Attributes:
        out: its folder.
        catalog: as the run had it; its keys are not known any more.
        store: the pixels, by catalog row.
        encoder: the folder of the pre-trained encoder that was asked for, or of the arm that was taken home, or of the
            first.
    """

    out: Path
    settings: Settings
    catalog: Catalog
    store: PixelStore
    encoder: Path


def open_finished(place: Path) -> Finished:
    """The run whose folder is `place`, or in whose folder the pre-trained encoder `place` lies.

    Raises:
        RunError: no run, an unfinished one, or one without embeddings of whole scans; with what to do.
        StoreError: its pixels are damaged.
    """
    out = folder_of(place)
    facts = facts_of(out / "study.json")
    encoder = _encoder(place, out, facts)
    catalog = catalog_of(out, facts)
    if catalog.labels is not None and catalog.labels.kind == Segmentation.kind:
        do = "Pre-train on whole scans (medprior pretrain SCANS --out OTHER) and give that folder"
        raise RunError("this run learnt outlines from crops: it embeds no whole scans", where=str(out), do=do)
    if not (out / "store").is_dir():
        raise RunError("the stored pixels of this run are gone", where=str(out / "store"), do=AGAIN)
    store = PixelStore.open(out / "store")
    if store.count != len(catalog):
        raise RunError("the stored pixels are of other scans than the run", where=str(out), do=AGAIN)
    return Finished(out, settings_of(facts, out), catalog, store, encoder)


def folder_of(place: Path) -> Path:
    """The folder of the run that `place` is, or lies in.

    Raises:
        RunError: it is none.
    """
    where = place.expanduser().resolve()
    for folder in [where, *where.parents][: LEVELS + 1]:
        if where.is_dir() and (folder / "study.json").is_file():
            return folder
    do = "Give the folder that medprior run, compare or pretrain wrote (its --out)"
    raise RunError("this is not the folder of a run", where=str(place), do=do)


def facts_of(path: Path) -> dict[str, Any]:
    """What a run remembers in its `study.json`.

    Raises:
        RunError: it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise RunError("the record of the run is damaged", where=str(path), do="Make the run anew in another folder")
    return found


def _encoder(place: Path, out: Path, facts: dict[str, Any]) -> Path:
    where = place.expanduser().resolve()
    best = facts.get("best") or {}
    steps = (facts.get("schedule") or {}).get("pretrain_steps") or facts.get("steps") or {}
    arms = [(best.get("arm"), best.get("encoder")), *(name.split("/", 1) for name in steps)]
    usual = [out / Pretraining(str(method), str(backbone), 0, 0).folder for method, backbone in arms]
    asked = [where] if where.is_relative_to(out / "pretrain") else []
    for folder in asked or usual:
        if (folder / "finished.json").is_file() and (folder / "encoder.json").is_file():
            return folder
    raise RunError("this run is not finished: no encoder was pre-trained to its end", where=str(place), do=AGAIN)


def catalog_of(out: Path, facts: dict[str, Any]) -> Catalog:
    """The catalog as the run had it.

    Raises:
        RunError: it is gone, or of other scans.
    """
    path = out / "catalog.parquet"
    if not path.is_file():
        raise RunError("this run is not finished, or keeps no catalog", where=str(out), do=AGAIN)
    catalog = load_catalog(path)
    if catalog.fingerprint() != facts.get("fingerprint"):
        raise RunError("the catalog here is of other scans or labels than the run", where=str(path), do=AGAIN)
    return catalog


def settings_of(facts: dict[str, Any], out: Path) -> Settings:
    """The settings of the run; those that may change from call to call stand at their defaults.

    Raises:
        RunError: another medprior made them.
    """
    try:
        return Settings.model_validate(facts.get("settings") or {})
    except ValidationError:
        do = "Ask the medprior that made it, or make the run anew in another folder"
        raise RunError("the settings of this run are those of another medprior", where=str(out), do=do) from None
