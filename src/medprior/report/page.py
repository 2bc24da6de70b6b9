"""Writes one self-contained `report.html`: no network, no second file, readable without scripts."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medprior.errors import OutputError
from medprior.report import drawings, sections, wording
from medprior.report.calibration import calibration
from medprior.report.content import ReportContent, labelled_of, scans_of, unit_of
from medprior.report.embedding import embedding
from medprior.report.gravity import by_gravity
from medprior.report.groups import groups
from medprior.report.robustness import robustness
from medprior.report.saliency import saliency

SIZE_LIMIT = 5_000_000
IMAGE_SIDES = (224, 128, 64)


@dataclass(frozen=True)
class Section:
    """One part of the page: `make` gives what `templates/sections/<name>.html` needs, or None to leave it out."""

    name: str
    title: str
    make: Callable[[ReportContent, int], dict[str, Any] | None]


SECTIONS = (
    Section("curves", "Learning curves", sections.curves),
    Section("saved", "Labels saved", sections.saved),
    Section("scores", "Scores", sections.scores),
    Section("classes", "Classes", sections.classes),
    Section("groups", "Who fails", groups),
    Section("calibration", "Calibration", calibration),
    Section("robustness", "Corrupted images", robustness),
    Section("outlines", "Outlines", drawings.outlines),
    Section("embedding", "Embedding map", embedding),
    Section("saliency", "Saliency", saliency),
    Section("examples", "Examples", sections.examples),
    Section("reconstructions", "Reconstructions", sections.reconstructions),
    Section("views", "Views", sections.views),
    Section("training", "Training", sections.training),
    Section("data", "Data", sections.data),
    Section("plan", "Plan", sections.plan),
    Section("repeat", "Repeat and use", sections.repeat),
    Section("limits", "Environment and limits", sections.limits),
)


def write_report(path: str | Path, content: ReportContent) -> Path:
    """Writes the page to `path` (atomically: a reader sees the old page or the whole new one) and returns the path.

    Images are drawn smaller where the page would otherwise pass 5 MB.

    Raises:
        OutputError: when the page cannot be written.
    """
    path = Path(path)
    pages = (render(content, image_side=side) for side in IMAGE_SIDES)
    page = next((page for page in pages if len(page.encode()) < SIZE_LIMIT), None)
    _write_atomically(path, page if page is not None else render(content, image_side=IMAGE_SIDES[-1]))
    return path


def render(content: ReportContent, *, image_side: int = IMAGE_SIDES[0]) -> str:
    """The page as a string; images are at most `image_side` pixels wide and high."""
    made = [(section, section.make(content, image_side)) for section in SECTIONS]
    script = source_of("report.js") + source_of("embedding.js")
    verdict = content.verdict
    grave, others = by_gravity(verdict.get("warnings", ()))
    return (
        environment()
        .get_template("report.html")
        .render(
            content=content,
            scan=scans_of(verdict, 1),
            scans=scans_of(verdict),
            labelled=labelled_of(verdict),
            byline=_byline(content),
            sentences=list(verdict.get("sentences", ())),
            grave=grave,
            others=others,
            sections=[(section, context) for section, context in made if context is not None],
            style=Markup(source_of("report.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        )
    )


def _byline(content: ReportContent) -> list[str]:
    """The few facts that place a verdict: what is scored, on how many, from what."""
    verdict, summary = content.verdict, content.summary
    facts = []
    if tested := verdict.get("test_patients"):
        metric = wording.metric_name(verdict.get("metric", "scores"))
        facts.append(f"{metric} on {tested:,} test {unit_of(verdict, tested)}")
    if summary is not None:
        facts.append(f"{summary.images:,} {scans_of(verdict, summary.images)}")
        facts += [summary.modality] if summary.modality else []
    return facts


@cache
def environment() -> Environment:
    """Where the templates lie, with the filters they use."""
    made = Environment(
        loader=PackageLoader("medprior.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "fixed": wording.fixed,
        "metric": wording.metric_name,
        "prose": wording.prose,
        "cell": sections.cell,
        "number": wording.number,
    }
    return made


def source_of(name: str) -> str:
    """The text of a template as it is."""
    made = environment()
    assert made.loader is not None
    return made.loader.get_source(made, name)[0]


def _write_atomically(path: Path, page: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(
        f"the report cannot be written: {reason}",
        where=str(path),
        do="Choose a folder you may write to, with some free megabytes (--out).",
    )
