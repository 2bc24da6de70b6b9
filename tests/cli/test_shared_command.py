"""The command that stands in a report names no place of its user."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medprior.cli.shared import shared_command


@pytest.mark.parametrize("word", ["ray://ward7.clinic:10001", "--workers=ray://ward7.clinic:10001"])
def test_the_host_of_a_cluster_stays_private(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr(sys, "argv", ["medprior", "run", "/data/ward7", word])
    said = shared_command({Path("/data/ward7"): "SCANS"})
    assert said == f"medprior run SCANS {word.replace('ward7.clinic:10001', 'HOST:PORT')}"
