"""Which name another library gives to every tensor of an encoder's network: the rules stand in `keymaps.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import yaml
from torch import Tensor

TABLE = Path(__file__).with_name("keymaps.yaml")


def renamed(state: Mapping[str, Tensor], library: str, family: str) -> dict[str, Tensor]:
    """The tensors of a network under the names of `library`; nothing else is changed."""
    return {_renamed(name, _rules()[library][family]): value for name, value in state.items()}


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, written in rules:
        name = re.sub(pattern, written, name)
    return name


@cache
def _rules() -> dict[str, dict[str, list[tuple[str, str]]]]:
    found: dict[str, dict[str, list[tuple[str, str]]]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return found
