"""The machines of a cluster: which have room for a cell, see the study's folder and compute with the same versions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medprior.errors import RunError
from medprior.files import write_text

SAME = ("medprior", "torch", "timm", "numpy", "scipy")
"""Packages whose versions change results."""
PATIENCE_SECONDS = 180


@dataclass(frozen=True)
class Mark:
    """A small file in the study's folder, and the word in it: a machine that cannot read it sees another folder."""

    path: Path
    word: str

    def seen(self) -> bool:
        """Whether the file is there for this machine."""
        try:
            return self.path.read_text(encoding="utf-8") == self.word
        except OSError:
            return False


@contextmanager
def marked(folder: Path) -> Iterator[Mark]:
    """A mark in `folder` for as long as cells are worked on."""
    word = uuid.uuid4().hex
    mark = Mark(folder.resolve() / f".seen-by-all.{word[:8]}", word)
    write_text(mark.path, word)
    try:
        yield mark
    finally:
        mark.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Machine:
    """A node of a cluster: its name, how many cells it has room for, and how Ray calls it."""

    name: str
    places: int
    key: str


def machines_of(nodes: Sequence[Mapping[str, Any]], threads: int, on_gpu: bool) -> list[Machine]:
    """Those nodes (as `ray.nodes()` lists them) that are alive and have room for a cell of `threads` cores."""
    found = [
        Machine(node["NodeName"], _places(node["Resources"], threads, on_gpu), node["NodeID"])
        for node in nodes
        if node["Alive"]
    ]
    return [machine for machine in found if machine.places]


def _places(resources: Mapping[str, float], threads: int, on_gpu: bool) -> int:
    places = int(resources.get("CPU", 0)) // threads
    return min(places, int(resources.get("GPU", 0))) if on_gpu else places


@dataclass(frozen=True)
class Sight:
    """What a machine says of itself."""

    sees: bool
    versions: dict[str, str]


def look(mark: Mark) -> Sight:
    """What this machine sees and computes with."""
    return Sight(mark.seen(), {name: version(name) for name in SAME})


def ask_all(ray: Any, machines: Sequence[Machine], mark: Mark) -> None:
    """Have every machine look, and refuse the cluster when one of them cannot give the results of this machine.

    Raises:
        RunError: one does not see the study's folder, or has other versions.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def there(machine: Machine) -> Any:
        just_there = NodeAffinitySchedulingStrategy(machine.key, soft=False)
        return ray.remote(look).options(num_cpus=0, max_retries=0, scheduling_strategy=just_there).remote(mark)

    sights: list[Sight] = ray.get([there(machine) for machine in machines], timeout=PATIENCE_SECONDS)
    judge({machine.name: sight for machine, sight in zip(machines, sights, strict=True)}, look(mark), mark.path.parent)


def judge(sights: Mapping[str, Sight], here: Sight, folder: Path) -> None:
    """Refuse machines that see another folder than this one does `here`, or compute with other versions.

    Raises:
        RunError: there are such.
    """
    blind = sorted(name for name, sight in sights.items() if not sight.sees)
    if blind:
        raise unseen(folder, blind)
    for name, sight in sorted(sights.items()):
        others = [f"{p} {v} (here {here.versions[p]})" for p, v in sight.versions.items() if v != here.versions[p]]
        if others:
            what = f"the machine {name} has {', '.join(others)}: its results would not be the same"
            raise RunError(what, where=str(folder), do="Install the same versions on every machine of the cluster")


def unseen(folder: Path, names: Sequence[str]) -> RunError:
    """The error for machines that do not see the study's folder."""
    what = f"the study's folder is not seen by {', '.join(names)}"
    do = "Choose an --out on a file system that all machines of the cluster share, under the same path"
    return RunError(what, where=str(folder), do=do)
