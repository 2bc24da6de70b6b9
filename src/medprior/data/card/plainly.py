"""Reasons as they may stand on a page that is shared: only words that medprior itself writes are left of them.

A reason can repeat what stands in a file or in its path, and both name patients. Words that no sentence of medprior
holds, whatever is quoted, paths, and numbers long enough to be an identifier or a date give way to an ellipsis.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

GAP = "…"
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`")
_TOKEN = re.compile(r"\S+")
_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d{1,3}(,\d{3})+|\d{1,4}")
_CORE = re.compile(r"^([(\[]*)(.*?)([)\],;:.]*)$")
_GAPS = re.compile(rf"{GAP}([\s,;:]*{GAP})+")
_EMPTY = re.compile(rf"\s*\((?:[^()]*:)?[\s,;:]*{GAP}[^()]*\)")


def plainly(reason: str) -> str:
    """A reason without names, paths, identifiers and dates."""
    bare = _QUOTED.sub(GAP, reason)
    kept = _TOKEN.sub(lambda found: _kept(found.group()), bare)
    return _GAPS.sub(GAP, _EMPTY.sub("", kept)).strip()


def alike(reason: str) -> str:
    """A reason with its numbers taken out, for counting those that differ in nothing else."""
    return re.sub(r"\d+(,\d{3})*(\.\d+)?", "n", reason)


def _kept(token: str) -> str:
    found = _CORE.match(token)
    assert found is not None  # it matches any text without blanks
    before, core, after = found.groups()
    return before + (core if _is_plain(core) else GAP) + after


def _is_plain(core: str) -> bool:
    """Whether a token is a short number or made of known words, with nothing of a path or an identifier about it."""
    if not core or core == GAP or _NUMBER.fullmatch(core):
        return True
    parts = re.split(r"[-’']", core)
    return all(_NUMBER.fullmatch(part) or (_WORD.fullmatch(part) and part.casefold() in _words()) for part in parts)


@cache
def _words() -> frozenset[str]:
    """Every word in the texts of the code that reads files, and in DICOM's own names of its kinds of object."""
    said = [text for file in Path(__file__).parents[1].rglob("*.py") for text in _texts(file)]
    return frozenset(word.casefold() for text in [*said, *_names_of_dicom()] for word in _WORD.findall(text))


def _texts(file: Path) -> list[str]:
    """The text constants of a source file that are no docstrings and stand in a sentence."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in said]
    return [node.value for node in texts if isinstance(node.value, str)]


def _names_of_dicom() -> list[str]:
    from medprior.data.readers.dicom.library import UID_dictionary

    return [entry[0] for entry in UID_dictionary.values()]
