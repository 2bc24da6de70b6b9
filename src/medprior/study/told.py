"""What a run says of itself and no other file of its folder holds, kept so that its report can be written again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medprior.data.annotations.grouping import Grouping
from medprior.errors import RunError
from medprior.files import write_json
from medprior.study.arms import Grid

NAME = "report.json"
SCHEMA = "medprior.report/1"


@dataclass(frozen=True)
class Told:
    """`report.json`: the plan as it was told, and once a run has ended what its page says beside its results.

    It names no file and no person, as the page does not.

    Attributes:
        command: as it may stand in a report.
        grid: what was compared.
        on_gpu: whether the sizes were chosen for a GPU.
        crops: of a step that outlines are learnt from.
        found, planned: lines of the plan.
        groupings: columns that part the test images; none before the end.
        failed: catalog rows whose pixels could not be stored.
        environment: versions and hardware.
        seconds: of the call that wrote the verdict; None while the run has not ended.
    """

    command: str
    grid: Grid
    on_gpu: bool
    crops: int = 0
    found: tuple[str, ...] = ()
    planned: tuple[str, ...] = ()
    groupings: tuple[Grouping, ...] = ()
    failed: tuple[int, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None

    def keep(self, out: Path) -> None:
        """Write it into the folder of the run, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        told = {name: value for name, value in vars(self).items() if name != "groupings"}
        groupings = [{**vars(one), "member": one.member.tolist()} for one in self.groupings]
        write_json(out / NAME, {"schema": SCHEMA, **told, "grid": asdict(self.grid), "groupings": groupings})

    @classmethod
    def load(cls, out: Path) -> Told:
        """What `keep` wrote into the folder of a run.

        Raises:
            RunError: it is not there, damaged, or of another version.
        """
        path, again = out / NAME, "Repeat the command that made this run, which resumes; then ask again"
        if not path.is_file():
            what = "this run keeps no report.json: it came to no plan, or an older medprior made it"
            raise RunError(what, where=str(out), do=again)
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            schema = facts.pop("schema")
            if schema == SCHEMA:
                return cls(**{**facts, **_typed(facts)})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"it cannot be read ({type(error).__name__})", where=str(path), do=again) from error
        raise RunError(f"it is of another version ({schema})", where=str(path), do=again)


def _typed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON has no types for."""
    grid: dict[str, Any] = dict(facts["grid"])
    grid["methods"] = tuple((str(method), str(backbone)) for method, backbone in grid["methods"])
    for name in ("adaptations", "budgets"):
        grid[name] = tuple(grid[name])
    sequences = {name: tuple(facts[name]) for name in ("found", "planned", "failed")}
    return {**sequences, "grid": Grid(**grid), "groupings": tuple(map(_grouping, facts["groupings"]))}


def _grouping(facts: Mapping[str, Any]) -> Grouping:
    return Grouping(**{**facts, "groups": tuple(facts["groups"]), "member": np.array(facts["member"], np.int64)})
