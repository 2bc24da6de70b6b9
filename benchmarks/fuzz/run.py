"""Feed damaged files to every reader, and write down what came of it.

    OMP_NUM_THREADS=1 python benchmarks/fuzz/run.py --out benchmarks/fuzz/results.json

One process per core, each with one family at a time. A process that dies (a decoder of C++ that aborts, an allocation,
an input that never ends) is counted as a crash with its input, and started again. Inputs that break something are kept
in --keep, and never in this folder: they are pieces of decoders' weaknesses.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import bombs
import seeds
import watch

INPUTS = {"dicom": 80_000, "volume": 80_000, "raster": 60_000, "arrays": 50_000, "boxes": 20_000, "labels": 10_000}
_WORKER = Path(__file__).parent / "worker.py"
_STATUS = re.compile(rb"#\d+\s+(\S+)\s+cov: (\d+) ft: (\d+) corp: (\d+)/")
_MOST_CRASHES = 200
Row = dict[str, Any]


def main() -> None:
    """Run, print a line per family, and write the results."""
    options = _options()
    started = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(lambda family: fuzz(family, options), options.families))
    refused = bombs.all_refused() if not options.no_bombs else []
    result = {"environment": _environment(options), "seconds": round(time.monotonic() - started), "readers": rows,
              "bounds": _bounds(), "bombs": refused}  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _write_table(rows, options.out.with_suffix(".csv"))
    bad = sum(row["crashes"] + row["faults"] for row in rows) + sum(not row["refused"] for row in refused)
    print(f"{sum(row['inputs'] for row in rows):,} inputs, {bad} findings")
    sys.exit(bool(bad))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--families", nargs="+", choices=list(INPUTS), default=list(INPUTS))
    parser.add_argument("--inputs", type=int, help="per family (as in INPUTS)")
    parser.add_argument("--seconds", type=float, default=3600, help="per family, at most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="without guidance by coverage, which needs atheris")
    parser.add_argument("--no-bombs", action="store_true")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "medprior-fuzz-findings")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def fuzz(family: str, options: argparse.Namespace) -> Row:
    """The results of one family; its processes work in memory where the system has a place for that."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for seed in seeds.seeds(family):
            (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
        row = _rounds(family, options, Path(folder), options.inputs or INPUTS[family])
        row["corpus_after"] = len(list(corpus.iterdir())) if not options.blind else row["seeds"]
    row["per_second"] = round(row["inputs"] / max(row["seconds"], 1e-9))
    print(" ".join(f"{key}={value}" for key, value in row.items() if not isinstance(value, dict | list)), flush=True)
    return row


def _rounds(family: str, options: argparse.Namespace, folder: Path, wanted: int) -> Row:
    row: Row = {"reader": family, "inputs": 0, "read": 0, "no image": 0, "refused": 0, "faults": 0, "crashes": 0,
                "seconds": 0.0, "slowest_cpu_s": 0.0, "peak_added_mib": 0.0,  "seeds": len(seeds.seeds(family)),
                "coverage_seeds": 0, "coverage_after": 0, "features_after": 0, "kinds": {},
                "crash_kinds": {}}  # fmt: skip
    started = time.monotonic()
    while row["inputs"] < wanted and row["crashes"] < _MOST_CRASHES:
        left = options.seconds - (time.monotonic() - started)
        if left <= 0:
            break
        seed = options.seed * 1000 + row["crashes"]
        state, code, said = _process(family, options, folder, wanted - row["inputs"], left, seed)
        _add(row, state, said, options.keep)
        if code:
            row["crashes"] += 1
            row["inputs"] += 1
            kind = _crash_kind(code, said)
            row["crash_kinds"][kind] = row["crash_kinds"].get(kind, 0) + 1
            _keep_crash(folder / "state.files", options.keep, family, row["crashes"], said)
        if not sum(state["counts"].values()) and row["crashes"] > 3 * (1 + row["inputs"] // 200):
            raise RuntimeError(f"the processes of {family} die at once:\n{said[-3000:].decode(errors='replace')}")
    row["seconds"] = round(time.monotonic() - started, 1)
    return row


def _process(
    family: str, options: argparse.Namespace, folder: Path, inputs: int, seconds: float, seed: int
) -> tuple[Row, int, bytes]:
    state, log = folder / "state", folder / "log"
    state.unlink(missing_ok=True)
    Path(f"{state}.begin").unlink(missing_ok=True)
    command = [sys.executable, str(_WORKER), family, "--corpus", str(folder / "corpus"), "--state", str(state)]
    command += ["--inputs", str(inputs), "--seconds", str(seconds), "--seed", str(seed), *(["--blind"] * options.blind)]
    with log.open("wb") as out:
        code = subprocess.run(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=False).returncode
    if not state.exists() and code:
        said = log.read_bytes()
        if not Path(f"{state}.begin").exists():
            raise RuntimeError(f"the process of {family} did not begin:\n{said[-3000:].decode(errors='replace')}")
    empty = {"counts": {}, "slowest": 0.0, "heaviest": 0, "faults": {}, "slow_input": ""}  # fmt: skip
    return (json.loads(state.read_text()) if state.exists() else empty), code, log.read_bytes()


def _add(row: Row, state: Row, said: bytes, keep: Path) -> None:
    counts = state["counts"]
    if state["slowest"] > row["slowest_cpu_s"]:
        _keep(keep, f"{row['reader']}-slowest", {"text": f"{state['slowest']:.2f} s", "input": state["slow_input"]})
    for name in ("read", "no image", "refused"):
        row[name] += counts.get(name, 0)
    row["inputs"] += sum(counts.values())
    row["slowest_cpu_s"] = max(row["slowest_cpu_s"], round(state["slowest"], 2))
    row["peak_added_mib"] = max(row["peak_added_mib"], round(state["heaviest"] / watch.MEBIBYTE, 1))
    for name, fault in state["faults"].items():
        row["faults"] += fault["count"]
        row["kinds"][name] = row["kinds"].get(name, 0) + fault["count"]
        _keep(keep, f"{row['reader']}-{hashlib.sha1(name.encode()).hexdigest()[:8]}", fault)
    found = _STATUS.findall(said)
    if found:
        initial = [int(cov) for event, cov, _, _ in found if event == b"INITED"]
        row["coverage_seeds"] = row["coverage_seeds"] or (initial[0] if initial else 0)
        row["coverage_after"] = max(row["coverage_after"], int(found[-1][1]))
        row["features_after"] = max(row["features_after"], int(found[-1][2]))


def _keep(keep: Path, name: str, fault: Row) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    (keep / f"{name}.txt").write_text(fault["text"], encoding="utf-8", errors="replace")
    if fault["input"]:
        (keep / f"{name}.input").write_bytes(bytes.fromhex(fault["input"]))


def _crash_kind(code: int, said: bytes) -> str:
    """Where a process died: its signal, and the innermost function of medprior."""
    places = re.findall(rb'File "[^"]*medprior/([^"]+)", line \d+ in (\w+)', said)
    thrown = re.findall(rb"what\(\):\s*(\S.{0,80})", said)
    where = b":".join(places[0]).decode() if places else "unknown place"
    what = thrown[-1].decode(errors="replace").rsplit("/", 1)[-1] if thrown else ""
    return f"exit {code} in {where} {what}".strip()


def _keep_crash(box: Path, keep: Path, family: str, number: int, said: bytes) -> None:
    folder = keep / f"{family}-crash-{os.getpid()}-{number}"
    for inside in box.iterdir() if box.is_dir() else ():
        if inside.name.isdigit():
            shutil.copytree(inside, folder, symlinks=True, dirs_exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "said.txt").write_bytes(said[-4000:])
    shutil.rmtree(box, ignore_errors=True)


def _environment(options: argparse.Namespace) -> Row:
    from importlib.metadata import PackageNotFoundError, version

    def of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "absent"

    names = ("atheris", "numpy", "pillow", "nibabel", "pydicom", "python-gdcm", "pylibjpeg-openjpeg", "pyjpegls")
    return {"python": platform.python_version(), "jobs": options.jobs, "guided": not options.blind,
            "seed": options.seed,
            "packages": {name: of(name) for name in names}}  # fmt: skip


def _bounds() -> Row:
    return {"cpu_s_per_input": watch.MOST_SECONDS, "added_mib_per_input": watch.MOST_MEMORY // watch.MEBIBYTE,
            "address_space_mib": watch.MOST_ADDRESSES // watch.MEBIBYTE}  # fmt: skip


def _write_table(rows: list[Row], file: Path) -> None:
    columns = [key for key, value in rows[0].items() if not isinstance(value, dict)]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
