"""Ctrl-C ends a study cleanly, and the same command finishes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def test_ctrl_c_and_resume(cohort: Path, tmp_path: Path) -> None:
    settings = [
        "pretrain.steps=60", "adapt.steps=3", "study.folds=2", "study.repeats=1", "study.threads=1", "study.workers=1",
        "mae.decoder_width=32", "mae.decoder_depth=1", "adapt.adaptations=[probe]", "study.corruptions=false",
    ]  # fmt: skip
    options = [
        "--label",
        "label",
        "--size",
        "32",
        "--methods",
        "mae",
        "--backbone",
        "test_vit",
        "--budgets",
        "12",
        "--seeds",
        "1",
    ]
    command = [sys.executable, "-m", "medprior", "run", str(cohort.parent), "--labels", str(cohort), *options]
    command += ["--out", str(tmp_path / "out"), *[word for setting in settings for word in ("--set", setting)]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    metrics = tmp_path / "out" / "pretrain" / "mae-test_vit" / "fold-0-seed-0" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    assert "The same command resumes" in errors
    assert "Traceback" not in errors
    assert list(metrics.parent.glob("checkpoints/step-*.pt"))
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "Verdict" in again.stdout
    starts = [line for line in (metrics.parent / "events.jsonl").read_text().splitlines() if '"start"' in line]
    assert len(starts) == 2
    assert '"step": 0' not in starts[1]


def test_ctrl_c_ends_an_index_with_its_code(tmp_path: Path) -> None:
    import numpy as np

    for i in range(4):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).integers(0, 255, (1500, 64, 64), np.uint8))
    command = [sys.executable, "-m", "medprior", "index", str(tmp_path), "--out", str(tmp_path / "out")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out").exists() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "The same command resumes" in errors and "Traceback" not in errors
