"""What every method costs beside a dense forward and backward pass of the same encoder, on a CPU.

    python benchmarks/methods/run.py --seconds 50

Every row is a process of its own. Rows that `results.jsonl` holds are not measured again, and none is begun when the
seconds are over, so that several short calls on a quiet machine fill the tables of README.md, which are drawn from it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from medprior.data.catalog import build_catalog
from medprior.methods import METHODS
from medprior.methods.method import Method
from medprior.training.benchtrainer import build_store
from medprior.training.generated import write_generated

HERE = Path(__file__).parent
RESULTS, README = HERE / "results.jsonl", HERE / "README.md"
MARK = "<!-- drawn by run.py from results.jsonl -->"
MIB = 2**20
ASKED = ("method", "preset", "backbone", "size", "batch", "parts")
ON_VIT = ("dino", "mae", "simclr")
SPARK_ENCODERS = ("resnet18", "resnet50", "convnext_atto")
SPARK_SIZES = (("small", 64), ("small", 96), ("paper", 64))
SPARK_BATCH = 32
COUNT = 128
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no row after so many")
    parser.add_argument("--place", type=Path, default=Path(gettempdir()) / "medprior-cost", help="for generated images")
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    known = [key(row) for row in read()]
    for row in rows():
        if key(row) not in known and time.monotonic() < until:
            add(measure(row, given.place))
    README.write_text(drawn())


def rows() -> list[Row]:
    """What is to be measured, the most important first."""
    kinds: dict[str, type[Method]] = {name: METHODS.get(name) for name in METHODS.names()}
    pairs = [(name, "resnet18") for name, kind in kinds.items() if kind.needs != "vit"]
    pairs += [(name, "vit_micro_patch8") for name in ON_VIT]
    methods = [asked(name, "small", backbone, 64, 64) for name, backbone in pairs]
    return methods + [
        asked("spark", preset, backbone, size, SPARK_BATCH, parts=True)
        for preset, size in SPARK_SIZES
        for backbone in SPARK_ENCODERS
        if (preset, backbone) != ("paper", "resnet50")  # takes minutes
    ]


def asked(*values: Any, parts: bool = False) -> Row:
    return dict(zip(ASKED, (*values, parts), strict=True))


def key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ASKED)


def measure(row: Row, place: Path) -> Row:
    """The row with what its process found."""
    store = place / str(row["size"])
    if not store.exists():
        scans = place / f"scans-{row['size']}"
        scans.mkdir(parents=True, exist_ok=True)
        write_generated(scans, COUNT, 2 * row["size"], 2)
        build_store(build_catalog(scans), store, 2 * row["size"], 2)
    command = [sys.executable, str(HERE / "worker.py"), json.dumps(row), str(store)]
    found: Row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def read() -> list[Row]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def add(row: Row) -> None:
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(*key(row), ratio(row, "step"), flush=True)


def drawn() -> str:
    """The README with both tables below the mark."""
    above = README.read_text().partition(MARK)[0]
    ordered = {key(row): row for row in read()}
    known = [ordered[key(row)] for row in rows() if key(row) in ordered]
    methods = table(
        ("method", "encoder", "images/s", "step / dense pass", "views", "peak memory, MiB"),
        [method_cells(row) for row in known if not row["parts"]],
    )
    spark = table(
        ("encoder", "size", "preset", "dense pass, ms", "sparse encoder", "decoder", "mask and loss", "all", "step"),
        [spark_cells(row) for row in known if row["parts"]],
    )
    return "\n".join([above + MARK, "", *methods, "", *spark, ""])


def method_cells(row: Row) -> list[str]:
    rate = row["batch"] / min(row["wall"]["step"])
    memory = f"{row['memory_peak'] / MIB:.0f} (+{(row['memory_peak'] - row['memory_before']) / MIB:.0f})"
    return [f"`{row['method']}`", row["backbone"], f"{rate:.0f}", ratio(row, "step"), str(row["views"]), memory]


def spark_cells(row: Row) -> list[str]:
    parts = [ratio(row, "sparse"), ratio(row, "restored", "sparse"), ratio(row, "whole", "restored")]
    milliseconds = f"{1000 * min(row['wall']['dense']):.0f}"
    name = [row["backbone"], str(row["size"]), row["preset"], milliseconds]
    return [*name, *parts, f"**{ratio(row, 'whole')}**", ratio(row, "step")]


def ratio(row: Row, part: str, less: str | None = None) -> str:
    """A part, or what it takes more than another, over the dense pass of the encoder.

    The fastest of each, since other work only slows them down, and the range of the rounds.
    """
    wall = row["wall"]
    taken = [0.0] * len(wall[part]) if less is None else wall[less]
    found = [(a - b) / d for a, b, d in zip(wall[part], taken, wall["dense"], strict=True)]
    middle = f"{(min(wall[part]) - min(taken)) / min(wall['dense']):.2f}"
    return middle if less else f"{middle} ({min(found):.2f} to {max(found):.2f})"


def table(head: tuple[str, ...], body: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]


if __name__ == "__main__":
    main()
