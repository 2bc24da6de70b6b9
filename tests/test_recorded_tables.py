"""Tables of recorded runs are what their raw results say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", ["cross", "export", "methods"])
def test_a_committed_table_is_what_its_results_say(name: str) -> None:
    spec = importlib.util.spec_from_file_location(f"recorded_{name}", BENCHMARKS / name / "run.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.read()
    assert script.drawn() == (BENCHMARKS / name / "README.md").read_text()
