"""How fast is an index beside a plain pydicom loop, and how much memory does it take?

    python benchmarks/index/run.py benchmarks/index

writes slices and photographs to a temporary folder (about 2.6 GB), times fresh processes in turn, and writes
`speed.csv`, `memory.csv` and `environment.json`. Some minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slices import write_photographs, write_series

LOOP = """
import sys, time
from pathlib import Path
import numpy, pydicom
begun = time.perf_counter()
files = sorted(Path(sys.argv[1]).rglob("*.dcm"))
for file in files:
    pydicom.dcmread(file).pixel_array
print(time.perf_counter() - begun)
"""
INDEX = """
import sys, time
from pathlib import Path
from medprior.data.catalog import build_catalog
from medprior.data.indexing import cache as indexing
begun = time.perf_counter()
catalog = build_catalog(Path(sys.argv[1]), cache=Path(sys.argv[2]))
assert not len(catalog.problems), catalog.problems
print(time.perf_counter() - begun)
"""


def main() -> None:
    """Measure, print, and write the raw figures."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("out", type=Path)
    ask.add_argument("--files", type=int, default=4000, help="uncompressed slices")
    ask.add_argument("--packed", type=int, default=4000, help="slices in JPEG-LS")
    ask.add_argument("--photographs", type=int, default=2000, help="JPEG files")
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--scratch", type=Path, help="where the temporary folder is made")
    asked = ask.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.scratch) as scratch:
        speed = list(speeds(Path(scratch), asked))
        memory = list(memories(Path(scratch), asked))
    write(asked.out / "speed.csv", speed)
    write(asked.out / "memory.csv", memory)
    (asked.out / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
    say(speed, memory)


def speeds(scratch: Path, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seconds of whole processes, by kind of file, round and what was run; those of one round one after the other."""
    for kind, files in (("uncompressed", asked.files), ("JPEG-LS", asked.packed)):
        folder = scratch / kind
        write_series(folder, files, kind)
        yield from rounds(kind, files, folder, scratch, asked.rounds)
    folder = scratch / "photographs"
    write_photographs(folder, asked.photographs)
    for number in range(asked.rounds):
        cache = scratch / f"photographs {number}.parquet"
        for what in ("index", "index again"):
            yield timed("JPEG", asked.photographs, number, what, INDEX, folder, cache)


def rounds(kind: str, files: int, folder: Path, scratch: Path, count: int) -> Iterator[dict[str, Any]]:
    run(LOOP, folder)  # brings the files into the page cache
    for number in range(count):
        pair = [("pydicom", LOOP), ("index", INDEX)]
        cache = scratch / f"{kind} {number}.parquet"
        for what, code in pair if number % 2 else reversed(pair):
            yield timed(kind, files, number, what, code, folder, cache)
        yield timed(kind, files, number, "index again", INDEX, folder, cache)


def memories(scratch: Path, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Highest memory of all processes of an index, by number of files: the first series of the uncompressed ones."""
    for files in (asked.files // 4, asked.files // 2, asked.files):
        part = scratch / f"first {files}"
        part.mkdir()
        for series in sorted((scratch / "uncompressed").iterdir())[: -(-files // 100)]:
            (part / series.name).mkdir()
            for file in series.iterdir():
                os.link(file, part / series.name / file.name)
        done = run(INDEX, part, scratch / f"{files}.parquet")
        yield {"files": files, "peak_mib": round(done.peak / 2**20, 1), "peak_parent_mib": round(done.own / 2**20, 1)}


def timed(kind: str, files: int, number: int, what: str, code: str, *arguments: Path) -> dict[str, Any]:
    done = run(code, *arguments)
    rates = f"{files / done.work:9,.0f} files/s ({files / done.seconds:,.0f} with start and imports)"
    print(f"{kind:13} round {number}  {what:12} {rates}", flush=True)
    times = {"work_seconds": round(done.work, 4), "process_seconds": round(done.seconds, 4)}
    return {"kind": kind, "files": files, "round": number, "what": what, **times}


@dataclass(frozen=True)
class Done:
    """A fresh process: seconds of its work once all is imported, seconds from its start to its end, the highest
    resident memory in bytes of it and all that it starts, and the highest of itself alone."""

    work: float
    seconds: float
    peak: int
    own: int


def run(code: str, *arguments: Path) -> Done:
    begun = time.perf_counter()
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_as_installed())
    peaks, over = [0, 0], threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, peaks, over))
    watch.start()
    printed, _ = process.communicate()
    seconds = time.perf_counter() - begun
    over.set()
    watch.join()
    if process.returncode:
        raise SystemExit(f"this failed: {code}")
    return Done(float(printed.split()[-1]), seconds, peaks[0], peaks[1])


def _as_installed() -> dict[str, str]:
    """Python keeps what it compiled, of medprior as of pydicom, whatever is set where this runs."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _watch(pid: int, peaks: list[int], over: threading.Event) -> None:
    while not over.wait(0.05):
        each = [_resident(one) for one in _family(pid)]
        peaks[0], peaks[1] = max(peaks[0], sum(each)), max(peaks[1], each[0])


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def _resident(pid: int) -> int:
    """Pages that two processes share are counted in both."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows(rows)


def environment() -> dict[str, Any]:
    from importlib.metadata import version

    packages = {name: version(name) for name in ("numpy", "scipy", "xxhash", "pydicom", "pyarrow", "pandas", "pillow")}
    cores = len(os.sched_getaffinity(0))
    return {"python": platform.python_version(), "machine": platform.machine(), "cores": cores, **packages}


def say(speed: list[dict[str, Any]], memory: list[dict[str, Any]]) -> None:
    """Medians and ranges; ratios are taken within rounds."""
    for kind in dict.fromkeys(row["kind"] for row in speed):
        rows = [row for row in speed if row["kind"] == kind]
        print(f"\n{kind}, {rows[0]['files']:,} files")
        for clock in ("work_seconds", "process_seconds"):
            by = {(row["round"], row["what"]): row[clock] for row in rows}
            print(f"  {clock}")
            for what in dict.fromkeys(name for _, name in by):
                rates = sorted(rows[0]["files"] / seconds for (_, name), seconds in by.items() if name == what)
                print(f"    {what:12} {statistics.median(rates):9,.0f} files/s ({rates[0]:,.0f} to {rates[-1]:,.0f})")
            ratios = sorted(by[n, "pydicom"] / by[n, "index"] for n, what in by if what == "pydicom")
            if ratios:
                print(f"    ratio        {statistics.median(ratios):9.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print("\npeak memory (MiB), all processes and the parent alone")
    for row in memory:
        print(f"  {row['files']:6,} files {row['peak_mib']:8,.0f} {row['peak_parent_mib']:8,.0f}")


if __name__ == "__main__":
    main()
