"""medprior beside its peers: same images, same model, same batch, same list of changes, each run in a fresh process.

    python benchmarks/throughput/compare.py --out benchmarks/throughput/cpu.json --peers /tmp/peers

Sides take turns, and the order is turned round at every round. The file is written after every run, so that a stop
loses nothing. Of each process are kept: seconds since its start and since its work began, seconds of every epoch,
and the peak of its memory (proportional set size, summed over its workers). `draw.py` makes the table and the figure.
"""

from __future__ import annotations

import argparse
import json
import os
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from footprint import Footprint
from images import write_pngs, write_volumes
from jobs import CPU, GPU, Task, job

from medprior.data.catalog import build_catalog
from medprior.files import write_json
from medprior.training.benchtrainer import build_store
from medprior.training.run import environment

HERE = Path(__file__).parent
SCRIPTS = {
    "ours": "ours.py",
    "lightly": "peer_lightly.py",
    "lightly on our store": "peer_lightly.py",
    "stable-pretraining": "peer_stable.py",
    "scaling": "scaling.py",
}


@dataclass
class Budget:
    """Seconds that are left for everything, and what each kind of run took when it was last seen."""

    minutes: float | None

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.took: dict[str, float] = {}

    @property
    def left(self) -> float | None:
        return None if self.minutes is None else self.minutes * 60 - (time.monotonic() - self.began)

    def allows(self, name: str) -> bool:
        """Whether a run called so can be expected to end in time."""
        return self.left is None or self.left > max(20.0, self.took.get(name, 0.0))


def main() -> None:
    asked = arguments()
    tasks = chosen(asked)
    results = opened(asked)
    interpreters = {"stable-pretraining": peer_interpreter(asked.peers, results)}
    budget = Budget(asked.minutes)
    for number, task, side in turns(tasks, asked.rounds):
        name = f"{task.name}/{side}"
        if not budget.allows(name):
            print(f"{name}: no time left", flush=True)
            continue
        began = time.monotonic()
        folders = prepared(task, side, asked.work)
        with tempfile.TemporaryDirectory(dir=asked.work) as place:
            about = job(task, side, asked.device, {**folders, "place": place})
            found = measured(about, interpreters.get(side) or sys.executable, budget.left)
        budget.took[name] = time.monotonic() - began
        keep(results, {"task": task.name, "side": side, "round": number, **found})
        write_json(asked.out, results)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON; runs of other tasks in it are kept")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "medprior-throughput")
    parser.add_argument("--peers", type=Path, help="virtual environment of stable-pretraining; made when absent")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="start nothing that will not end by then")
    parser.add_argument("--only", default="", help="tasks, with commas: " + ", ".join(t.name for t in (*CPU, *GPU)))
    parser.add_argument("--toy", action="store_true", help="tiny models and images: only shows that everything runs")
    return parser.parse_args()


def chosen(asked: argparse.Namespace) -> list[Task]:
    tasks = list(GPU if asked.device == "cuda" or asked.only else CPU)
    if asked.only:
        known = {task.name: task for task in (*CPU, *GPU)}
        wrong = [name for name in asked.only.split(",") if name not in known]
        if wrong:
            sys.exit(f"no task is called {wrong[0]}; all: {', '.join(known)}")
        tasks = [known[name] for name in asked.only.split(",")]
    return [task.toy() for task in tasks] if asked.toy else tasks


def opened(asked: argparse.Namespace) -> dict[str, Any]:
    """What the file already holds of the same device, without the tasks that are measured anew."""
    new = {"device": asked.device, "toy": asked.toy, "environment": environment(), "runs": [], "failures": []}
    if asked.out.exists():
        found = json.loads(asked.out.read_text())
        if found["device"] == asked.device and found["toy"] == asked.toy:
            again = {task.name for task in chosen(asked)}
            for kind in ("runs", "failures"):
                new[kind] = [run for run in found[kind] if run["task"] not in again]
            new["shares"] = {task: share for task, share in found.get("shares", {}).items() if task not in again}
    return new


def turns(tasks: list[Task], rounds: int) -> Iterator[tuple[int, Task, str]]:
    """Round by round through all tasks; within a task the order of the sides is turned round every time."""
    for number in range(rounds):
        for task in tasks:
            if task.method != "scaling" or number == 0:
                for side in task.sides if number % 2 == 0 else task.sides[::-1]:
                    yield number, task, side


def prepared(task: Task, side: str, work: Path) -> dict[str, str]:
    """The folders that runs share: the images, and for a peer that asks for it our store of them."""
    toy = "toy-" if task.backbone.startswith("test_") else ""
    images = work / f"{toy}{task.dims}d-{task.side}-{task.images}"
    if task.dims == 2:
        write_pngs(images, task.images, task.side)
    else:
        write_volumes(images, task.images, task.side)
    folders = {"images": str(images)}
    if side == "lightly on our store":
        store = work / f"{images.name}-store-{task.stored}"
        build_store(build_catalog(images), store, task.stored, task.dims)
        folders["store"] = str(store)
    return folders


def measured(about: dict[str, Any], interpreter: str, seconds: float | None) -> dict[str, Any]:
    """Run one side in a process of its own; what it printed, its memory, or why it failed.

    Time and memory are taken up to its first line; what a side prints later it did for its own sake.
    """
    print(f"{about['name']}: {about['who']} …", end=" ", flush=True)
    log = Path(about["folders"]["place"]) / "errors.txt"
    command = [interpreter, str(HERE / SCRIPTS[about["who"]]), json.dumps(about)]
    began = time.perf_counter()
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=HERE, text=True) as process,
        Footprint(process, seconds) as footprint,
    ):
        printed = [(line, line.startswith("{") and footprint.seen()) for line in process.stdout or ()]
    lines = [line for line, result in printed if result]
    footprint_bytes, whole = footprint.peak, footprint.first_line - began
    if process.returncode or not lines:
        said = [line for line, _ in printed] + log.read_text(errors="replace").splitlines()
        reason = "no time left" if footprint.killed else complaint(said)
        print(f"failed: {reason}", flush=True)
        return {"failed": reason, "points": [json.loads(line) for line in lines]}
    if about["method"] == "scaling":
        print("done", flush=True)
        return {"points": [json.loads(line) for line in lines]}
    found: dict[str, Any] = {"process_seconds": whole, "memory_bytes": footprint_bytes}
    for line in lines:
        found |= json.loads(line)
    print(f"{found['images'] * len(found['epoch_seconds']) / whole:,.1f} images/s in all", flush=True)
    return found


def complaint(said: list[str]) -> str:
    """The last line that names an error, else the last of all."""
    lines = [line.strip() for line in said if line.strip()]
    return ([line for line in lines if "Error" in line] or lines or ["it said nothing"])[-1]


def keep(results: dict[str, Any], run: dict[str, Any]) -> None:
    """Put a run where it belongs; what a failed one has measured until then is a run as well."""
    results["failures" if "failed" in run and not run.get("points") else "runs"].append(run)


def peer_interpreter(place: Path | None, results: dict[str, Any]) -> str | None:
    """The Python of stable-pretraining's own environment, which sees our packages behind its own."""
    if place is None:
        return None
    python = place / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            (packages,) = place.glob("lib/python*/site-packages")
            (packages / "_shared.pth").write_text("\n".join(site.getsitepackages()) + "\n")
            install = [str(python), "-m", "pip", "install", "-q", "stable-pretraining"]
            subprocess.run(install, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or str(error)).strip().splitlines()[-1]
        results["failures"].append({"task": "peers", "side": "stable-pretraining", "failed": said})
        return None
    return str(python)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
