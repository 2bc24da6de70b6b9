"""`medprior bench`: the file and the table it leaves, and what it says of wrong words."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from medprior.cli import main
from medprior.cli.bench import lines

QUICK = ["--method", "mae", "--backbone", "test_vit", "--size", "32", "--batch", "4", "--steps", "1", "--repeats", "1"]


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of `medprior bench WORDS`."""
    monkeypatch.setattr(sys, "argv", ["medprior", "bench", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_folder_is_measured_and_told(
    tmp_path: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import torch

    before = torch.get_num_threads()
    assert run(monkeypatch, cohort.parent, *QUICK, "--out", tmp_path) == 0
    assert torch.get_num_threads() == before
    told = json.loads((tmp_path / "bench.json").read_text())
    printed = capsys.readouterr().out
    assert told["asked"]["method"] == "mae" and told["scans"] == {"count": 60, "generated": False, "stored_size": 64}
    assert told["environment"]["torch"] and told["device"] == "CPU"
    for line in lines(told):
        assert line in printed
    assert f"{told['end_to_end']['median']:,.0f} images/s" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "simcrl"], 'Nearest: "simclr"'),
        (["--backbone", "resnet81"], 'Nearest: "resnet18"'),
        (["--preset", "papre"], 'unknown preset of simclr "papre"'),
        (["--method", "mae", "--backbone", "resnet18"], "mae needs a plain vision transformer"),
        (["--device", "cpuu"], 'unknown device "cpuu"'),
        (["--bacth", "3"], "--batch"),
        (["--dims", "4"], "--dims"),
    ],
)
def test_wrong_words_are_answered_before_any_work(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, *words, "--out", tmp_path) == 2
    printed = capsys.readouterr()
    assert said in printed.err and "Traceback" not in printed.err
    assert not list(tmp_path.rglob("*.npy"))
