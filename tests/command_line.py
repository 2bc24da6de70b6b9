"""The command line, called in the process of the tests."""

from __future__ import annotations

import sys

import pytest

from medprior.cli import main


def call(*words: object) -> None:
    """`medprior WORDS`, outside of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["medprior", *map(str, words)])
        main()


def assigned(settings: list[str]) -> list[str]:
    """The words that say these settings."""
    return [word for setting in settings for word in ("--set", setting)]
