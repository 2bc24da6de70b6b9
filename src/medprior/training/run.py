"""A run folder: what was asked, where it ran, how it went and what came out, readable without medprior."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from medprior import __version__
from medprior.errors import RunError
from medprior.files import make_folder, said_plainly, write_json, write_text
from medprior.training.checkpoint import drop_checkpoints

SCHEMA = 1
Table = Literal["metrics", "diagnosis"]
"""What is written down as training goes, each in a file of its own: losses often, looks at the embeddings rarely."""
Curves = dict[str, tuple[list[float], list[float]]]


@dataclass
class Run:
    """One training in one folder: `config.yaml`, `environment.json`, `metrics.csv`, `diagnosis.csv`, `events.jsonl`,
    `checkpoints/`.

    Use `Run.open`: it starts a new folder or takes up an old one of the same configuration.
    """

    folder: Path
    config: dict[str, Any]
    columns: dict[Table, list[str]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, config: dict[str, Any]) -> Run:
        """Start or take up the run of `config` in `folder`.

        Raises:
            RunError: the folder holds a run of another configuration.
            OutputError: the folder cannot be written to.
        """
        make_folder(folder)
        config = json.loads(json.dumps({"schema": SCHEMA, "medprior": __version__, **config}))
        path = folder / "config.yaml"
        if path.exists():
            _refuse_other(path, config)
        else:
            write_text(path, yaml.safe_dump(config, sort_keys=False))
            write_json(folder / "environment.json", environment())
        return cls(folder, config)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.folder / "checkpoints"

    @property
    def finished(self) -> bool:
        """True once `finish` was called."""
        return (self.folder / "finished.json").exists()

    def finish(self, facts: dict[str, Any]) -> None:
        """Mark the run as complete, with what it cost, and drop its checkpoints."""
        write_json(self.folder / "finished.json", facts)
        drop_checkpoints(self.checkpoints)

    def card(self) -> dict[str, Any]:
        """What `finish` wrote; nothing before."""
        path = self.folder / "finished.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return found

    def event(self, kind: str, **facts: Any) -> None:
        """Append one line to `events.jsonl`."""
        with said_plainly(self.folder), (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), "event": kind, **facts}) + "\n")

    def log(self, step: int, values: Mapping[str, float], table: Table = "metrics") -> None:
        """Append one row to a table; its columns are those of the first row."""
        path = self._path(table)
        with said_plainly(path):
            if table not in self.columns:
                self.columns[table] = _header(path) or ["step", *values]
            if not path.exists():
                path.write_text(",".join(self.columns[table]) + "\n", encoding="utf-8")
            cells = [str(step), *(f"{values[c]:.6g}" for c in self.columns[table][1:])]
            with path.open("a", encoding="utf-8") as file:
                file.write(",".join(cells) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the rows of all tables from `step` on: they will be written again."""
        for table in get_args(Table):
            path = self._path(table)
            if path.exists():
                head, *rows = path.read_text(encoding="utf-8").splitlines()
                kept = [row for row in rows if row.split(",")[0].isdigit() and int(row.split(",")[0]) < step]
                write_text(path, "\n".join([head, *kept]) + "\n")

    def curves(self, table: Table = "metrics") -> Curves:
        """The columns of a table as name -> (steps, values)."""
        path = self._path(table)
        if not path.exists():
            return {}
        head, *rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
        steps = [float(row[0]) for row in rows]
        return {name: (steps, [float(row[i]) for row in rows]) for i, name in enumerate(head) if i}

    def _path(self, table: Table) -> Path:
        return self.folder / f"{table}.csv"


def environment() -> dict[str, Any]:
    """Versions and hardware, without the name of the machine or its user."""
    import os

    import numpy
    import timm
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "medprior": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "gpus": gpus,
    }


def _header(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().split(",")


def _refuse_other(path: Path, config: dict[str, Any]) -> None:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise RunError(
            "the folder holds a damaged config.yaml", where=str(path), do="Choose another --out, or delete the folder"
        )
    changed = [k for k in config if k not in ("medprior",) and found.get(k) != config[k]]
    if changed:
        name = changed[0]
        raise RunError(
            f"the folder holds another run: {name} was {found.get(name)!r}, now {config[name]!r}",
            where=str(path.parent),
            do="Choose another --out, or delete the folder to start anew",
        )
