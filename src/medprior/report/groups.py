"""Who fails, and on what a model may rest: from the tables of a study to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medprior.report import marks, wording
from medprior.report.content import Key, Point, ReportContent, labelled_of, names_of, series_of, unit_of
from medprior.report.groupfigure import Row, Whiskers, forest

NOTHING = 5e-4
"""What is nearer to zero is shown as zero, without a sign."""


@dataclass(frozen=True)
class GroupRow:
    """One group under one arm; `difference` is to all other groups of its column, `p` corrected for their number."""

    arm: str
    column: str
    group: str
    patients: int
    images: int
    score: Point
    difference: Point
    p: str


@dataclass(frozen=True)
class ShortcutRow:
    """One column under one arm: how well it is read, how it goes with the label, what the score loses within groups."""

    arm: str
    column: str
    read: Point
    association: float | None
    p: str
    pooled: float | None
    within: float | None
    lost: Point
    shortcut: bool


def p_said(p: float | None) -> str:
    """A p value with three decimals, or below what these can say."""
    return "<0.001" if p is not None and p < 0.001 else wording.fixed(p, 3)


@dataclass(frozen=True)
class Groups:
    """The groups of a study at its largest budget: of the best pre-trained arm and of scratch of the same encoder.

    Attributes:
        rows: by column, group and arm.
        overall: the score of each arm over all test patients.
        shortcuts: of the best arm.
    """

    budget: int
    rows: Sequence[GroupRow]
    overall: Mapping[str, float]
    shortcuts: Sequence[ShortcutRow]


def read_groups(folder: Path, verdict: Mapping[str, Any]) -> Groups | None:
    """From `groups.csv` and `shortcuts.csv` of a study in `folder`; None where there are no groups."""
    import pandas

    if not (folder / "groups.csv").is_file():
        return None
    kept = {"keep_default_na": False, "na_values": [""]}  # a group may be called NA or None
    groups, shortcuts = (pandas.read_csv(folder / name, **kept) for name in ("groups.csv", "shortcuts.csv"))  # type: ignore[call-overload]
    if not len(groups):
        return None
    budget, called = int(groups["budget"].max()), names_of(verdict)
    best, *others = keys = _spoken_of(verdict, budget)
    overall = {called[_key(row)]: row["mean"] for row in verdict["arms"] if row["budget"] == budget}
    rows = [row for row in groups.to_dict("records") if row["budget"] == budget and _key(row) in keys]
    suspects = [row for row in shortcuts.to_dict("records") if _key(row) == best]
    return Groups(
        budget,
        [_group(row, called[_key(row)]) for row in rows],
        {called[key]: overall[called[key]] for key in (best, *others)},
        [_suspect(row, called[best]) for row in suspects],
    )


def groups(content: ReportContent, image_side: int) -> dict[str, Any] | None:
    """A figure of all groups, a table of the best arm's, and what the audit found."""
    shown = content.groups
    series = {one.name: one for one in series_of(content.verdict)}
    arms = [arm for arm in shown.overall if arm in series] if shown is not None else []
    if shown is None or not arms:
        return None
    best, unit = arms[0], unit_of(content.verdict)
    metric = wording.metric_name(content.verdict.get("metric", "score"))
    lines = [Row(column, group, _whiskers(shown, column, group, arms)) for column, group in _places(shown)]
    own = [row for row in shown.rows if row.arm == best]
    widths = [row.score.high - row.score.low for row in own if row.score.low is not None and row.score.high is not None]
    drawn = [series[arm] for arm in arms]
    return {
        "wide": forest(lines, drawn, shown.overall[best], metric),
        "narrow": forest(lines, drawn, shown.overall[best], metric, narrow=True),
        "arms": [(marks.swatch(series[arm]), arm) for arm in arms],
        "best": best,
        "budget": f"{shown.budget:,} {labelled_of(content.verdict)} {unit_of(content.verdict, shown.budget)}",
        "metric": metric,
        "unit": unit,
        "columns": [(column, [row for row in own if row.column == column]) for column in _columns(own)],
        "digits": wording.digits_for(widths),
        "bare": any(row.score.low is None for row in own),
        "shortcuts": shown.shortcuts,
        "read": any(row.read.low is not None for row in shown.shortcuts),
    }


def _columns(rows: Sequence[GroupRow]) -> list[str]:
    return list(dict.fromkeys(row.column for row in rows))


def _places(shown: Groups) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.column, row.group) for row in shown.rows))


def _whiskers(shown: Groups, column: str, group: str, arms: Sequence[str]) -> list[Whiskers]:
    found = {row.arm: row for row in shown.rows if (row.column, row.group) == (column, group)}
    return [Whiskers(found[arm].score, found[arm].patients) if arm in found else Whiskers(None, 0) for arm in arms]


def _spoken_of(verdict: Mapping[str, Any], budget: int) -> list[Key]:
    """The best pre-trained arm at a budget and scratch of its encoder; scratch alone where there is no other."""
    rows = [row for row in verdict["arms"] if row["budget"] == budget and row["mean"] is not None]
    ranked = sorted(rows, key=lambda row: -row["mean"])
    best = next((row for row in ranked if not row["adaptation"].startswith("scratch")), ranked[0])
    scratch = [row for row in rows if row["adaptation"] == "scratch" and row["encoder"] == best["encoder"]]
    return list(dict.fromkeys(_key(row) for row in (best, *scratch)))


def _group(row: Mapping[Any, Any], arm: str) -> GroupRow:
    score = Point(row["budget"], _value(row["mean"]), _number(row["low"]), _number(row["high"]))
    apart = (_number(row["difference_low"]), _number(row["difference_high"]))
    difference = Point(row["budget"], _value(row["difference"]), *apart)
    people = int(row["patients"]), int(row["images"])
    return GroupRow(
        arm, str(row["column"]), str(row["group"]), *people, score, difference, p_said(_number(row["p_holm"]))
    )


def _suspect(row: Mapping[Any, Any], arm: str) -> ShortcutRow:
    read, lost = (
        Point(row["budget"], _value(row[value]), _number(row[f"{name}_low"]), _number(row[f"{name}_high"]))
        for name, value in (("read", "read_auroc"), ("lost", "lost"))
    )
    link = _number(row["association"]), p_said(_number(row["association_p_holm"]))
    scores = _number(row["pooled"]), _number(row["within"])
    return ShortcutRow(arm, str(row["column"]), read, *link, *scores, lost, str(row["shortcut"]) == "True")


def _key(row: Mapping[Any, Any]) -> Key:
    return row["arm"], row["adaptation"], row["encoder"]


def _value(value: Any) -> float:
    return 0.0 if abs(value) < NOTHING else float(value)


def _number(value: Any) -> float | None:
    return _value(value) if value == value else None  # an empty field is not a number
