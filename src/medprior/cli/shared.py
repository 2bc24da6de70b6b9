"""The command line as it may stand in a report."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

PRIVATE_SETTINGS = {
    "pretrain.weights": "WEIGHTS",
    "data.unlabelled": "POOL",
    "data.masks": "MASKS",
    "data.salt": "SALT",
}
"""Settings whose values are paths, and the words that stand for them."""


def shared_command(private: dict[Path | None, str]) -> str:
    """This command: paths, which often name patients, and hosts give way to words."""
    words = {str(path): word for path, word in private.items() if path is not None}
    shown = [words.get(_as_path(word), re.sub(r"ray://\S+", "ray://HOST:PORT", word)) for word in sys.argv[1:]]
    for number, word in enumerate(shown):
        name, _, value = word.partition("=")
        if _as_path(value) in words or name in PRIVATE_SETTINGS:
            shown[number] = f"{name}={words.get(_as_path(value), PRIVATE_SETTINGS.get(name, 'PATH'))}"
    return shlex.join(["medprior", *shown])


def place_of(weights: str | None) -> Path | None:
    """The file or folder that weights lie in; None where they are called as they were published."""
    from medprior.backbones.source import names_path

    return Path(weights) if weights and names_path(weights) else None


def _as_path(word: str) -> str:
    """A path as it compares: a folder may be written with a slash at its end."""
    return str(Path(word)) if word else word
