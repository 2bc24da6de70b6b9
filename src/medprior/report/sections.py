"""The parts of a report: each function turns the content into what its template needs, or None when it is absent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medprior.report import figures, marks, pictures, wording
from medprior.report.content import (
    ClassScore,
    ReportContent,
    Rows,
    Saving,
    Series,
    labelled_of,
    names_of,
    savings_of,
    series_of,
    trivial_of,
    unit_of,
)

Context = dict[str, Any] | None
MAX_RESULTS = 400
MAX_PROBLEMS = 20


def curves(content: ReportContent, image_side: int) -> Context:
    series = series_of(content.verdict)
    if not any(one.points for one in series):
        return None
    images = {budget.patients: budget.images for budget in content.budgets}
    budgets = _budgets(series)
    return {
        "wide": figures.efficiency(content.verdict, images),
        "narrow": figures.efficiency(content.verdict, images, narrow=True),
        "arms": [(marks.swatch(one), one.name) for one in series],
        "readings": [(_budget_said(content, budget), _reading(series, budget, _digits(series))) for budget in budgets],
        "metric": wording.metric_name(content.verdict.get("metric", "score")),
        "unit": unit_of(content.verdict),
        "longer": any(one.role == "longer" for one in series),
        "bare": any(point.low is None for one in series for point in one.points),
        "trivial": trivial_of(content.verdict),
    }


def saved(content: ReportContent, image_side: int) -> Context:
    rows = savings_of(content.verdict)
    if not rows:
        return None
    unit = unit_of(content.verdict)
    references = dict.fromkeys(row.reference for row in rows)
    groups = [(name, [row for row in rows if row.reference == name]) for name in references]
    told = [(name, group) for name, group in groups if any(_bounded(row) for row in group)]
    return {
        "groups": [
            (name, figures.labels_saved(group, unit), figures.labels_saved(group, unit, narrow=True))
            for name, group in told
        ],
        "untold": [name for name, group in groups if not any(_bounded(row) for row in group)],
        "open": any(row.low is None or row.high is None for row in rows),
        "unit": unit,
    }


def _bounded(row: Saving) -> bool:
    """Whether anything can be drawn of it."""
    return row.ratio is not None or row.low is not None or row.high is not None


def scores(content: ReportContent, image_side: int) -> Context:
    series = series_of(content.verdict)
    if not series and not content.results:
        return None
    images = {budget.patients: budget.images for budget in content.budgets}
    budgets = _budgets(series)
    return {
        "metric": wording.metric_name(content.verdict.get("metric", "score")),
        "unit": unit_of(content.verdict),
        "budgets": [(budget, images.get(budget)) for budget in budgets],
        "rows": [
            (marks.swatch(one), one, [_at(one, budget) for budget in budgets], (one.pretrain_seeds, one.seeds))
            for one in series
        ],
        "trivial": trivial_of(content.verdict),
        "digits": _digits(series),
        "bounded": any(point.low is not None for one in series for point in one.points),
        "columns": list(content.results[0]) if content.results else [],
        "results": content.results[:MAX_RESULTS],
        "left_out": len(content.results) - MAX_RESULTS,
    }


def classes(content: ReportContent, image_side: int) -> Context:
    """One table per metric: classes down, arms across, grouped by budget."""
    rows = content.per_class
    if not rows:
        return None
    arms = _in_order(content, dict.fromkeys(row["arm"] for row in rows))
    names = list(dict.fromkeys(row["class"] for row in rows))
    tables = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        found = {(row["budget"], row["class"], row["arm"]): row for row in rows if row["metric"] == metric}
        groups = [
            (budget, [(name, [found.get((budget, name, arm)) for arm in arms]) for name in names])
            for budget in sorted({key[0] for key in found})
        ]
        tables.append((wording.metric_name(metric), groups, wording.digits_for(_widths(found.values()))))
    widths = _widths(rows)
    return {
        "tables": tables,
        "arms": arms,
        "note": content.class_note,
        "unit": unit_of(content.verdict),
        "bounded": bool(widths),
        "bare": len(widths) < len(rows),
    }


def _in_order(content: ReportContent, arms: Iterable[str]) -> list[str]:
    """Arms as the figures have them, scratch first."""
    known = list(names_of(content.verdict).values())
    return sorted(arms, key=lambda arm: known.index(arm) if arm in known else len(known))


def _widths(rows: Iterable[ClassScore]) -> list[float]:
    return [row["high"] - row["low"] for row in rows if row["low"] is not None and row["high"] is not None]


def examples(content: ReportContent, image_side: int) -> Context:
    if content.examples is None or not len(content.examples.images):
        return None
    return {"images": pictures.gallery(content.examples, image_side)}


def reconstructions(content: ReportContent, image_side: int) -> Context:
    return _sheets(content.reconstructions, image_side)


def views(content: ReportContent, image_side: int) -> Context:
    return _sheets(content.views, image_side)


def training(content: ReportContent, image_side: int) -> Context:
    panels = [
        (run, name.replace("_", " "), figures.training_curve(f"{run}, {name}", curve))
        for run, curves in content.training.items()
        for name, curve in curves.items()
    ]
    drawn = [panel for panel in panels if panel[-1]]
    looked = any("effective_rank" in curves for curves in content.training.values())
    probed = any(name.startswith("probe") for curves in content.training.values() for name in curves)
    return {"panels": drawn, "looked": looked, "probed": probed} if drawn else None


def data(content: ReportContent, image_side: int) -> Context:
    summary = content.summary
    if summary is None:
        return None
    splits = list(dict.fromkeys(split for counts in summary.classes.values() for split in counts))
    return {
        "summary": summary,
        "splits": splits,
        "problems": summary.problems[:MAX_PROBLEMS],
        "further": len(summary.problems) - MAX_PROBLEMS,
    }


def plan(content: ReportContent, image_side: int) -> Context:
    return {"lines": content.plan} if content.plan else None


def repeat(content: ReportContent, image_side: int) -> Context:
    return {"command": content.command, "links": content.links} if content.command or content.links else None


def limits(content: ReportContent, image_side: int) -> Context:
    known = [*content.verdict.get("warnings", ()), *content.limits]
    return {"limits": known, "environment": content.environment} if known or content.environment else None


def cell(row: Mapping[str, Any] | Any, digits: int = 2) -> dict[str, str]:
    """A score and its interval as two strings, for anything with mean, low and high; empty for None."""
    if row is None:
        return {"mean": "–", "interval": ""}
    mean, low, high = (row[key] if isinstance(row, Mapping) else getattr(row, key) for key in ("mean", "low", "high"))
    return {"mean": wording.fixed(mean, digits), "interval": wording.interval(low, high, digits)}


def _budget_said(content: ReportContent, budget: int) -> str:
    return f"{budget:,} {labelled_of(content.verdict)} {unit_of(content.verdict, budget)}"


def _sheets(rows: Mapping[str, Rows], image_side: int) -> Context:
    return {"methods": pictures.sheets(rows, image_side)} if rows else None


def _budgets(series: Iterable[Series]) -> list[int]:
    return sorted({point.budget for one in series for point in one.points})


def _at(one: Series, budget: int) -> Any:
    return next((point for point in one.points if point.budget == budget), None)


def _reading(series: list[Series], budget: int, digits: int) -> list[tuple[int, Any, str, dict[str, str]]]:
    found = ((place, one, _at(one, budget)) for place, one in enumerate(series))
    return [
        (place, marks.swatch(one), one.name, cell(point, digits)) for place, one, point in found if point is not None
    ]


def _digits(series: Iterable[Series]) -> int:
    return wording.digits_for(
        point.high - point.low
        for one in series
        for point in one.points
        if point.low is not None and point.high is not None
    )
