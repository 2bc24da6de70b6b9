"""`medprior print`: refused with a reason where there is nothing to print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def test_a_folder_without_a_report(
    medprior: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medprior("print", tmp_path) == 6
    assert "medprior run or compare wrote" in capsys.readouterr().err
