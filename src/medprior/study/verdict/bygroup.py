"""Who fails, and on what a model may rest: the groups and the shortcut audit of a finished study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medprior.config import DataSettings
from medprior.data.annotations.groups import Grouping, read_groups
from medprior.data.catalog import Catalog
from medprior.study.ground import Ground
from medprior.study.results import StudyResults
from medprior.study.verdict.audit import Suspect, audit_study, known_of, shortcut_warnings, suspect_table
from medprior.study.verdict.findings import examine
from medprior.study.verdict.groups import GroupFindings, examine_groups, group_table
from medprior.study.verdict.phrases import Words
from medprior.study.verdict.whofails import who_fails

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class ByGroup:
    """Scores within groups, and columns that a model may rest on (none where outlines are learnt)."""

    groups: GroupFindings
    suspects: tuple[Suspect, ...]

    def tables(self) -> dict[str, pandas.DataFrame]:
        """The files that are written of it, by name."""
        return {
            "groups.csv": group_table(self.groups),
            "shortcuts.csv": suspect_table(self.suspects, self.groups.metric),
        }

    def said_in(self, verdict: Mapping[str, Any], results: StudyResults) -> dict[str, Any]:
        """The verdict with a sentence on groups and warnings of shortcuts."""
        if not self.groups.columns:
            return dict(verdict)
        findings = examine(results, self.groups.metric)
        words = Words(verdict["unit"], known="annotated" if results.kind == "segmentation" else "labelled")
        return {
            **verdict,
            "sentences": [*verdict["sentences"], *who_fails(findings, self.groups, words)],
            "warnings": [*shortcut_warnings(findings, self.suspects, words), *verdict["warnings"]],
        }


def groupings_of(
    catalog: Catalog, labels: Path | None, data: DataSettings
) -> tuple[tuple[Grouping, ...], tuple[str, ...]]:
    """The groupings that the settings ask for, and why columns make none (`read_groups`)."""
    return read_groups(catalog, labels, data.groups, patient=data.patient, label=data.label or None, split=data.split)


def examine_by_group(
    results: StudyResults, ground: Ground, methods: Sequence[tuple[str, str]], groupings: Sequence[Grouping], out: Path
) -> ByGroup:
    """Look at the groups of a study below `out`, whose pre-training runs are `methods` on their encoders."""
    groups = examine_groups(results, groupings)
    parting = [column.grouping for column in groups.columns]
    if ground.outlined or not parting:
        return ByGroup(groups, ())
    return ByGroup(groups, tuple(audit_study(results, parting, known_of(ground, methods, out))))
