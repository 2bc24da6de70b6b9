"""What a study's folder remembers, so that the same command resumes it and another one is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medprior.config import Settings
from medprior.errors import RunError
from medprior.files import write_json
from medprior.study.arms import BORROWED, Grid
from medprior.study.planning.plan import Schedule

SCHEMA = 1
FREE = {
    "data": {"workers", "salt", "placement", "unlabelled", "masks", "groups"},
    "study": {"seeds", "minutes", "threads", "workers", "device"},
    "pretrain": {"checkpoint_seconds", "compile"},
}
"""Settings that may change between two calls of one study."""
BEFORE: dict[str, dict[str, Any]] = {"adapt": {"head_first": False}}
"""What was done before there was a setting for it, where its default does otherwise."""
ANEW = "Choose another --out, or delete the folder to start anew"


@dataclass
class Record:
    """`study.json` in the study's folder: what was asked, on which data, the steps fixed, the model chosen."""

    path: Path
    facts: dict[str, Any]

    @classmethod
    def open(cls, out: Path, settings: Settings) -> Record:
        """Start or take up the study in `out`. One that never came to a plan binds nobody.

        Raises:
            RunError: it holds another study, or a damaged record.
        """
        asked = {"schema": SCHEMA, "settings": settings.model_dump(mode="json", exclude=FREE)}
        path = out / "study.json"
        found = _read(path) if path.exists() else {}
        if not found.get("schedule") and not found.get("steps"):
            write_json(path, asked)
            return cls(path, asked)
        _fill_in(found)
        for name, value in asked.items():
            if found.get(name) != json.loads(json.dumps(value)):
                what = _difference(found.get(name), value, name)
                raise RunError(f"the folder holds another study: {what}", where=str(out), do=ANEW)
        return cls(path, found)

    def same_data(self, fingerprint: str) -> None:
        """Refuse to go on when the scans or labels changed since the start."""
        if self.facts.setdefault("fingerprint", fingerprint) != fingerprint:
            raise RunError(
                "scans or labels changed since this study began",
                where=str(self.path.parent),
                do="Choose another --out: old and new results cannot stand in one verdict",
            )
        self._write()

    def schedule(self, grid: Grid) -> Schedule | None:
        """The steps fixed at the start, or None.

        Raises:
            RunError: they cannot be read.
        """
        kept = self.facts.get("schedule")
        if not kept:
            return None
        try:
            steps = kept["pretrain_steps"]  # without arms whose weights were not to be had then
            pretrain = {(m, b): 1 if m in BORROWED else int(steps[f"{m}/{b}"]) for m, b in grid.methods}
            adapt = {int(b): int(s) for b, s in kept["adapt_steps"].items()}
            corrupting = kept.get("corrupting_seconds")  # absent from plans of older versions, which showed none
            return Schedule(pretrain, adapt, float(kept["seconds"]), None if corrupting is None else float(corrupting))
        except (TypeError, KeyError, ValueError, AttributeError):
            raise _damaged(self.path) from None

    def keep_schedule(self, schedule: Schedule) -> None:
        """Fix the steps for good."""
        self.facts["schedule"] = {
            "pretrain_steps": {f"{m}/{b}": steps for (m, b), steps in schedule.pretrain_steps.items()},
            "adapt_steps": {str(b): steps for b, steps in schedule.adapt_steps.items()},
            "seconds": schedule.seconds,
            "corrupting_seconds": schedule.corrupting_seconds,
        }
        self._write()

    def too_long(self) -> list[str]:
        """What the plan said of minutes that it cannot keep, as lines."""
        said: list[str] = self.facts.get("too_long", [])
        return said

    def keep_too_long(self, lines: Sequence[str]) -> None:
        """Remember it, so that the same command says it again."""
        self.facts["too_long"] = list(lines)

    def most_seeds(self, asked: int) -> int:
        """The most adaptation seeds this study was ever asked for, now included."""
        most = max(asked, int(self.facts.get("seeds", 0)))
        self.facts["seeds"] = most
        self._write()
        return most

    def best(self) -> dict[str, object] | None:
        """The model taken home, when that was done already."""
        found: dict[str, object] | None = self.facts.get("best")
        return found

    def keep_best(self, best: dict[str, object]) -> None:
        """Remember the model taken home."""
        self.facts["best"] = best
        self._write()

    def _write(self) -> None:
        write_json(self.path, self.facts)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise _damaged(path)
    return found


def _fill_in(found: dict[str, Any]) -> None:
    """Settings that came after the study began stood at their defaults then."""
    defaults = Settings().model_dump(mode="json", exclude=FREE)
    kept = found.get("settings")
    if isinstance(kept, dict):
        for section, values in defaults.items():
            if isinstance(kept.get(section), dict):
                kept[section] = {**values, **BEFORE.get(section, {}), **kept[section]}


def _damaged(path: Path) -> RunError:
    do = "Choose another --out; encoders and cells that were finished stay in this folder"
    return RunError("the record of the study is damaged", where=str(path), do=do)


def _difference(old: Any, new: Any, name: str) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if old.get(key) != json.loads(json.dumps(new.get(key))):
                return _difference(old.get(key), new.get(key), f"{name}.{key}")
    return f"{name.removeprefix('settings.')} was {old!r}, now {new!r}"
