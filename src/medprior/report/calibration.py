"""Whether the probabilities can be believed, and what thresholds reach: from the tables of a study to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from medprior.report import marks, wording
from medprior.report.content import Point, ReportContent, Series, labelled_of, names_of, series_of, unit_of
from medprior.report.reliability import Said, diagram

if TYPE_CHECKING:
    import pandas

BELIEVED = ("brier", "calibration_error", "brier_scaled", "calibration_error_scaled")
REACHED = (
    *("specificity_at_specificity_90", "sensitivity_at_specificity_90"),
    *("sensitivity_at_sensitivity_90", "specificity_at_sensitivity_90"),
)


@dataclass(frozen=True)
class Curve:
    """The bins of one arm; `temperature` is the median of its models', None for chances as they are."""

    arm: str
    temperature: float | None
    bins: Sequence[Said]


@dataclass(frozen=True)
class Calibration:
    """What is known of the chances at the largest budget.

    Attributes:
        meaning: whose chance is drawn.
        curves: scratch and the best pre-trained arm, before and after their temperature.
        scores: by arm and metric; one that no label of the budget could tell is missing.
    """

    budget: int
    meaning: str
    curves: Sequence[Curve]
    scores: Mapping[str, Mapping[str, Point]]


def read_calibration(folder: Path, verdict: Mapping[str, Any], kind: str, names: Sequence[str]) -> Calibration | None:
    """From `calibration.csv` and `scores.csv` of a study; None where outlines are learnt, of which no chances are kept.

    Args:
        folder: of the study.
        verdict: of the same.
        kind: binary, multiclass or multilabel.
        names: of the classes or labels.
    """
    import pandas

    if kind == "segmentation" or not (folder / "calibration.csv").is_file():
        return None
    bins, scores = (pandas.read_csv(folder / name) for name in ("calibration.csv", "scores.csv"))
    budget = int(scores["budget"].max())
    bins, scores = bins[bins["budget"] == budget], scores[scores["budget"] == budget]
    called = names_of(verdict)
    meaning = {"binary": f"of {names[-1]}", "multiclass": "of the class decided for", "multilabel": "of each label"}
    found: dict[str, dict[str, Point]] = {}
    for row in scores.to_dict("records"):
        arm = called[row["arm"], row["adaptation"], row["encoder"]]
        found.setdefault(arm, {})[row["metric"]] = _point(budget, row, "mean")
    curves = [curve for key in _drawn(verdict, budget) for curve in _curves(bins, key, called[key], budget)]
    return Calibration(budget, meaning[kind], curves, found)


def calibration(content: ReportContent, image_side: int) -> dict[str, Any] | None:
    """Diagrams, and two tables: of the probabilities, and of what the thresholds reach."""
    shown = content.calibration
    if shown is None or not shown.scores:
        return None
    series = {one.name: one for one in series_of(content.verdict)}
    arms = [name for name in series if name in shown.scores]
    metrics = {metric for arm in arms for metric in shown.scores[arm]}
    held = [arm for arm in arms if all(metric in shown.scores[arm] for metric in REACHED)]
    return {
        "budget": f"{shown.budget:,} {labelled_of(content.verdict)} {unit_of(content.verdict, shown.budget)}",
        "meaning": shown.meaning,
        "panels": [_panel(series[curve.arm], curve) for curve in shown.curves if curve.arm in series],
        "believed": _table(shown, series, arms, BELIEVED[: 4 if "brier_scaled" in metrics else 2]),
        "reached": _table(shown, series, held, REACHED),
        "bare": [arm for arm in arms if arm not in held],
        "tested": int(content.verdict.get("test_patients", 0)),
        "unit": unit_of(content.verdict),
    }


def _table(
    shown: Calibration, series: Mapping[str, Series], arms: Sequence[str], metrics: Sequence[str]
) -> dict[str, Any]:
    rows = [(marks.swatch(series[arm]), arm, [shown.scores[arm].get(metric) for metric in metrics]) for arm in arms]
    points = [point for _, _, row in rows for point in row if point is not None]
    widths = [point.high - point.low for point in points if point.low is not None and point.high is not None]
    return {"rows": rows, "digits": wording.digits_for(widths), "columns": len(metrics)}


def _panel(one: Series, curve: Curve) -> tuple[str, str, Markup]:
    how = "as said" if curve.temperature is None else f"after temperature {wording.number(curve.temperature)}"
    return curve.arm, how, diagram(one, curve.bins, f"{curve.arm}, {how}")


def _drawn(verdict: Mapping[str, Any], budget: int) -> list[tuple[str, str, str]]:
    """Scratch and the best other arm of its encoder's kin, as a verdict names them."""
    rows = [row for row in verdict["arms"] if row["budget"] == budget and row["mean"] is not None]
    others = sorted((row for row in rows if not row["adaptation"].startswith("scratch")), key=lambda row: -row["mean"])
    best = others[:1]
    encoders = {row["encoder"] for row in best or rows}
    scratch = [row for row in rows if row["adaptation"] == "scratch" and row["encoder"] in encoders]
    return [(row["arm"], row["adaptation"], row["encoder"]) for row in (*scratch, *best)]


def _curves(bins: pandas.DataFrame, key: tuple[str, str, str], name: str, budget: int) -> list[Curve]:
    own = bins[(bins["arm"] == key[0]) & (bins["adaptation"] == key[1]) & (bins["encoder"] == key[2])]
    found = []
    for temperature, rows in own.groupby("temperature", dropna=False):
        said = [Said(row["predicted"], _point(budget, row, "true"), row["patients"]) for row in rows.to_dict("records")]
        found.append(Curve(name, _number(temperature), said))
    return sorted(found, key=lambda curve: curve.temperature is not None)


def _point(budget: int, row: Mapping[Any, Any], value: str) -> Point:
    return Point(budget, float(row[value]), _number(row["low"]), _number(row["high"]))


def _number(value: Any) -> float | None:
    return float(value) if value == value else None  # an empty field is not a number
