"""Damaged files, some thousand of them, and files that claim too much: the short form of benchmarks/fuzz."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz"
INPUTS = 800
FAMILIES = ("raster", "arrays", "volume", "dicom", "boxes", "labels")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux, whose /proc tells of memory")


@pytest.mark.parametrize("family", FAMILIES)
def test_damaged_files_are_read_or_refused(tmp_path, family):
    """No other error, no crash, no other file opened, no more memory or time than the bounds, and both outcomes met."""
    (row,) = fuzzed(tmp_path, "--families", family, "--inputs", str(INPUTS))["readers"]
    assert (row["kinds"], row["crash_kinds"]) == ({}, {})
    assert (row["inputs"], row["faults"], row["crashes"]) == (INPUTS, 0, 0)
    assert min(row["read"], row["refused"]) > INPUTS / 20
    assert row["peak_added_mib"] < 1024 and row["slowest_cpu_s"] < 10


def fuzzed(folder: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(FUZZ / "run.py"), "--blind", "--no-bombs", "--jobs", "1", *options]
    command += ["--keep", str(folder / "kept"), "--out", str(folder / "results.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (folder / "results.json").exists(), done.stderr
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def test_small_files_that_claim_much_are_refused_at_little_cost():
    done = subprocess.run(
        [sys.executable, str(FUZZ / "bombs.py"), "--quick"], capture_output=True, text=True, check=False
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row for row in rows if not row["refused"]] == [] and len(rows) > 20, done.stderr
    assert done.returncode == 0
    assert all(row["said"].isprintable() and row["added_mib"] < 1024 for row in rows)


OPENINGS = """
import sys; sys.path.insert(0, {folder!r})
import os, watch
w = watch.Watch(); w.install()
root = os.path.realpath({root!r}); os.chdir(root)
w.root = root
open("inside.raw").close()
for path in ("link.raw", "../secret.raw", {secret!r}):
    open(path).close()
open("inside.raw", "ab").close()
os.listdir("..")
w.root = ""
g = watch.Gauge(); g.start()
b"x" * (50 << 20)
print(len(w.broken), 45 < g.stop()[1] / 2**20 < 60)
"""


def test_the_watch_sees_what_it_is_there_to_see(tmp_path):
    """A watch that is blind would find nothing, whatever readers do."""
    root, secret = tmp_path / "root", tmp_path / "secret.raw"
    root.mkdir()
    secret.write_bytes(b"x")
    (root / "inside.raw").write_bytes(b"x")
    (root / "link.raw").symlink_to(secret)
    code = OPENINGS.format(folder=str(FUZZ), root=str(root), secret=str(secret))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "5 True"
