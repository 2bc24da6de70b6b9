"""The command line, called in the process of the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from medprior.cli import main


@pytest.fixture
def medprior(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The exit code of `medprior WORDS`."""

    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["medprior", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run
