"""How the names of weights that other programs write lead to those of an encoder's network: one YAML file for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from medprior.errors import unknown

FOLDER = Path(__file__).with_name("layouts")
AS_THEY_ARE = "names"
"""The layout of every file that no other is recognised in: names of the network behind some prefix."""


@dataclass(frozen=True)
class Layout:
    """The names one program gives its weights.

    Attributes:
        name: of its file, which may be written before a weights file: `moco:FILE`.
        title: what it is the layout of.
        recognised: patterns of which each is found in some name of such a file; without any it has to be named.
        encoder: the pattern with which names of the encoder begin, and which is taken off; others are set aside.
        ignored: patterns of what is left that no encoder has: heads, and values that mean nothing here.
        rename: pattern and what stands for it, in their order, on what is left.
        merging: the order in which a Swin UNETR merges patches, where it is one; a key of `swinmerging.ORDERS`.
        note: what is to be said when it is loaded.
    """

    name: str
    title: str
    paper: str = ""
    recognised: tuple[str, ...] = ()
    encoder: str = ""
    ignored: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    merging: str | None = None
    note: str = ""

    def knows(self, names: Iterable[str]) -> bool:
        """Whether a file of these names is recognised as of this layout."""
        listed = "\n".join(names)
        return bool(self.recognised) and all(re.search(one, listed, re.MULTILINE) for one in self.recognised)

    def translated(self, name: str) -> str | None:
        """The network's name of what the file calls `name`; None where it is no part of the encoder."""
        begun = re.match(self.encoder, name)
        if begun is None:
            return None
        rest = name[begun.end() :]
        if any(re.search(one, rest) for one in self.ignored):
            return None
        for pattern, stands in self.rename.items():
            rest = re.sub(pattern, stands, rest)
        return rest


def layout_names() -> list[str]:
    """What may be written before a weights file."""
    return sorted([AS_THEY_ARE, *(file.stem for file in FOLDER.glob("*.yaml"))])


@cache
def layout_of(name: str) -> Layout:
    """The layout of that name.

    Raises:
        SettingsError: there is none; the message carries the nearest one.
    """
    if name not in layout_names():
        raise unknown("layout of weights", name, layout_names())
    if name == AS_THEY_ARE:
        return Layout(name, "names as they are")
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    made: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in found.items()}
    return Layout(name, **made)


def recognise(names: Iterable[str]) -> Layout:
    """The layout of a file with these names."""
    listed = list(names)
    layouts = map(layout_of, layout_names())
    return next((one for one in layouts if one.knows(listed)), layout_of(AS_THEY_ARE))
