"""A study killed at random moments and resumed gives the same bytes.

    python benchmarks/resume/killed.py OUT [--kills 20]

The same small study runs twice: once to its end, and once killed again and again (SIGKILL, nothing can be tidied up)
after a random time, until it has been killed `--kills` times, and then to its end. What both wrote is compared byte for
byte. The moments are drawn between the start of the work and the time that the first run took; a study that comes to
its end first is compared and followed by another.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from medprior.data.phantom import make_cohort

STUDY = [
    "--methods=mae", "--backbone=test_vit", "--budgets=12,24", "--seeds=2", "--set=data.size=32",
    "--set=pretrain.steps=60", "--set=pretrain.batch_size=16", "--set=pretrain.checkpoint_seconds=0.5",
    "--set=adapt.steps=20", "--set=study.folds=2", "--set=study.repeats=1", "--set=study.threads=1",
]  # fmt: skip
COMPARED = ("results.csv", "verdict.json", "scores.csv")


def command(cohort: Path, out: Path) -> list[str]:
    scans = ["run", str(cohort.parent), "--labels", str(cohort), "--out", str(out)]
    return [sys.executable, "-m", "medprior", *scans, *STUDY]


def run(line: list[str], seconds: float | None = None) -> float:
    """The time a study took, or NaN where it was killed after `seconds`."""
    began = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)  # its workers, too
        process.communicate()
        return float("nan")
    if process.returncode:
        raise SystemExit(said.decode())
    return time.perf_counter() - began


def main(out: Path, kills: int, seed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    cohort = make_cohort(out / "cohort", patients=60, seed=3, size=32)
    whole = run(command(cohort, out / "whole"))
    rng, moments, finished = np.random.default_rng(seed), [], 0
    folder = out / "killed-0"
    while len(moments) < kills:
        moment = float(rng.uniform(0.1, 1.0) * whole)
        moments.append(round(moment, 2))
        if np.isfinite(run(command(cohort, folder), moment)):  # it came to its end first: start another
            moments.pop()
            check(out / "whole", folder)
            finished += 1
            folder = out / f"killed-{finished}"
        print(f"killed {len(moments)} of {kills} times, {finished} studies finished", flush=True)
    run(command(cohort, folder))
    check(out / "whole", folder)
    told = {"kills": kills, "studies": finished + 1, "seconds": round(whole, 1), "moments": moments}
    told["same_bytes"] = COMPARED
    (Path(__file__).parent / "killed.json").write_text(json.dumps(told) + "\n")
    print(json.dumps(told))


def check(one: Path, other: Path) -> None:
    for name in COMPARED:
        if (one / name).read_bytes() != (other / name).read_bytes():
            raise SystemExit(f"{name} of {one} and {other} differ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    main(asked.out, asked.kills, asked.seed)
