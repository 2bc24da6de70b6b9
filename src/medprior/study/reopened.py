"""A study that is done, opened again from its folder alone as its own run left it: nothing is read from the scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medprior.config import Settings
from medprior.data.catalog import Catalog
from medprior.errors import RunError
from medprior.study.arms import Grid
from medprior.study.canvas import kept_canvas
from medprior.study.finished import catalog_of, facts_of, folder_of, settings_of
from medprior.study.ground import Ground, lay
from medprior.study.record import Record
from medprior.study.results import CellResult, StudyResults
from medprior.study.study import Outcome
from medprior.study.takehome.best import is_whole
from medprior.study.told import Told
from medprior.tasks.segmentation import Segmentation


def reopen(place: Path) -> Outcome:
    """What `run_study` returned when it ended in the folder `place`, or in one above it.

    Raises:
        RunError: no run, one that learnt from no labels, or one that has not ended: what is missing, and which command
            goes on.
    """
    out = folder_of(place)
    record = Record(out / "study.json", facts_of(out / "study.json"))
    if record.facts.get("steps") and not record.facts.get("schedule"):
        what = "this folder holds pre-trained encoders alone: there is nothing to report"
        do = "Adapt one to labels, which writes a report: medprior finetune ENCODER SCANS --labels LABELS.csv"
        raise RunError(what, where=str(out), do=do)
    told = Told.load(out)
    _check_ended(out, record, told)
    catalog = catalog_of(out, record.facts)
    settings = settings_of(record.facts, out)
    schedule = record.schedule(told.grid)
    assert schedule is not None and catalog.labels is not None
    ground = _ground(catalog, settings, out, told)
    cells = [CellResult.load(_cell_path(out, cell.key)) for cell in told.grid.cells()]
    results = StudyResults(cells, ground.task.kind, ground.task.names)
    return Outcome(ground, told.grid, schedule, settings, results, _verdict(out, told), record.best() or {}, out, told)


def _ground(catalog: Catalog, settings: Settings, out: Path, told: Told) -> Ground:
    assert catalog.labels is not None
    outlined = catalog.labels.kind == Segmentation.kind
    return lay(catalog, settings, lambda: kept_canvas(catalog, settings, out, told, outlined=outlined))


def _check_ended(out: Path, record: Record, told: Told) -> None:
    """Refuse a run that has not ended."""
    missing = [*_pieces(out, told.grid), *_ends(out, record, told)]
    if missing:
        what = f"this run is not finished; still missing: {', '.join(missing)}"
        raise RunError(what, where=str(out), do=_goes_on(told))


def _pieces(out: Path, grid: Grid) -> list[str]:
    runs, cells = list(grid.pretrainings()), list(grid.cells())
    encoders = sum(not (out / run.folder / "finished.json").is_file() for run in runs)
    models = sum(not CellResult.exists(_cell_path(out, cell.key)) for cell in cells)
    return [
        *([f"{encoders:,} of {len(runs):,} pre-trained encoders"] if encoders else []),
        *([f"{models:,} of {len(cells):,} adapted models"] if models else []),
    ]


def _ends(out: Path, record: Record, told: Told) -> list[str]:
    """What the end of a run leaves; a verdict may be one of fewer seeds while its run has not ended."""
    verdict = told.seconds is not None and (out / "verdict.json").is_file()
    best = bool(record.facts.get("best")) and is_whole(out / "best")
    return [*(["the verdict"] if not verdict else []), *(["the model to take home"] if not best else [])]


def _goes_on(told: Told) -> str:
    command = f"\n    {told.command}" if told.command else ""
    return f"The command that made it goes on where it stopped, and writes the report:{command}"


def _verdict(out: Path, told: Told) -> dict[str, Any]:
    path = out / "verdict.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if {"metric", "arms", "sentences", "warnings"} <= found.keys():
            return found
    except (OSError, ValueError, AttributeError):
        pass
    raise RunError("the verdict of this run is damaged", where=str(path), do=_goes_on(told))


def _cell_path(out: Path, key: str) -> Path:
    return out / "cells" / key
