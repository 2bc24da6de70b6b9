"""What corrupted test images cost every arm: from the table of a study to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medprior.report import marks, wording
from medprior.report.content import ReportContent, labelled_of, names_of, series_of, unit_of
from medprior.report.dropfigure import Drop, domain, panel

TITLES = {"noise": "Noise", "blur": "Blur", "contrast": "Contrast", "resolution": "Resolution", "jpeg": "JPEG"}
NOTHING = 5e-4
"""What is nearer to zero is shown as zero, without a sign."""
MEAN = "mean"


@dataclass(frozen=True)
class Fallen:
    """One arm under one corruption: its drop at each severity from 1, and their mean."""

    drops: Sequence[Drop]
    mean: Drop


@dataclass(frozen=True)
class Robustness:
    """What is known at the largest budget.

    Attributes:
        images: test images.
        clean: score of every arm without any corruption.
        fallen: by arm and corruption.
    """

    budget: int
    images: int
    clean: Mapping[str, float]
    fallen: Mapping[str, Mapping[str, Fallen]]


def read_robustness(folder: Path, verdict: Mapping[str, Any]) -> Robustness | None:
    """From `robustness.csv` of a study in `folder`; None where no model was shown corrupted images."""
    import pandas

    if not (folder / "robustness.csv").is_file():
        return None
    table = pandas.read_csv(folder / "robustness.csv", dtype={"severity": str})
    if not len(table):
        return None
    called, clean = names_of(verdict), dict[str, float]()
    rows: dict[tuple[str, str], dict[str, Mapping[Any, Any]]] = {}
    for row in table.to_dict("records"):
        name = called[row["arm"], row["adaptation"], row["encoder"]]
        rows.setdefault((name, row["corruption"]), {})[row["severity"]] = row
    fallen: dict[str, dict[str, Fallen]] = {}
    for (name, corruption), found in rows.items():
        drops = {severity: _drop(row) for severity, row in found.items()}
        mean = drops.pop(MEAN)
        fallen.setdefault(name, {})[corruption] = Fallen([drops[severity] for severity in sorted(drops)], mean)
        clean[name] = found[MEAN]["value"] + found[MEAN]["drop"]
    return Robustness(int(table["budget"].max()), int(table["n_test"].max()), clean, fallen)


def robustness(content: ReportContent, image_side: int) -> dict[str, Any] | None:
    """A panel of each corruption, a table of means, and one of every severity."""
    shown = content.robustness
    series = [one for one in series_of(content.verdict) if shown is not None and one.name in shown.fallen]
    if shown is None or not series:
        return None
    metric, unit = wording.metric_name(content.verdict.get("metric", "score")), unit_of(content.verdict)
    corruptions = list(shown.fallen[series[0].name])
    every = [fallen for by_corruption in shown.fallen.values() for fallen in by_corruption.values()]
    limits = domain(drop for fallen in every for drop in fallen.drops)
    means = [fallen.mean for fallen in every]
    widths = [drop.high - drop.low for drop in means if drop.low is not None and drop.high is not None]
    rows = [(marks.swatch(one), one.name, shown.fallen[one.name]) for one in series]
    return {
        "panels": [
            (
                _title(each),
                panel(_title(each), [(one, shown.fallen[one.name][each].drops) for one in series], limits, metric),
            )
            for each in corruptions
        ],
        "arms": [(marks.swatch(one), one.name) for one in series],
        "corruptions": [(each, _title(each)) for each in corruptions],
        "rows": [(mark, name, shown.clean[name], fallen) for mark, name, fallen in rows],
        "severities": range(1, len(every[0].drops) + 1),
        "budget": f"{shown.budget:,} {labelled_of(content.verdict)} {unit_of(content.verdict, shown.budget)}",
        "images": shown.images,
        "metric": metric,
        "unit": unit,
        "digits": wording.digits_for(widths),
        "bare": not widths,
    }


def _title(corruption: str) -> str:
    return TITLES.get(corruption, corruption)


def _drop(row: Mapping[Any, Any]) -> Drop:
    return Drop(*(_number(row[name]) for name in ("drop", "drop_low", "drop_high")))  # type: ignore[arg-type]


def _number(value: Any) -> float | None:
    """An empty field is not a number."""
    return None if value != value else 0.0 if abs(value) < NOTHING else float(value)
