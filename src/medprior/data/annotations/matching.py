"""Which file a cell of the label table means: by relative path, then by file name, then by stem."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from medprior.data.readers import stem_of
from medprior.errors import nearest


class Matcher:
    """Finds paths, relative to `root`, from what a table in `folder` says of them.

    A cell may be relative to the root, to the table's folder or to a folder above or below the root, absolute, written
    with backslashes or with a leading "./". Failing that its file name decides, then its stem (the file name without
    the ending). Letters with accents match in either of the two ways Unicode writes them.
    """

    def __init__(self, paths: Iterable[str], root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.paths = {_plain(path): path for path in paths}
        self.names: dict[str, list[str]] = defaultdict(list)
        self.stems: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            self.names[posixpath.basename(path)].append(path)
            self.stems[stem_of(path)].append(path)

    def match(self, cell: str) -> list[str]:
        """The one path that is meant; several when that is open, none when nothing fits."""
        said = _plain(cell)
        if not cell:
            return []
        if said in self.paths:
            return [self.paths[said]]
        beside = self._from_table(said)
        if beside in self.paths:
            return [self.paths[beside]]
        alike = self.names.get(posixpath.basename(said)) or self.stems.get(stem_of(said)) or []
        agreeing = [path for path in alike if _ends_alike(path, said)]
        return [self.paths[path] for path in agreeing or alike]

    def nearest(self, cell: str) -> str | None:
        """The file name most like that of `cell`."""
        return nearest(posixpath.basename(_plain(cell)), self.names)

    def _from_table(self, said: str) -> str:
        return Path(os.path.relpath(os.path.normpath(self.folder / said), self.root)).as_posix()


def _plain(path: str) -> str:
    return unicodedata.normalize("NFC", posixpath.normpath(path.strip().replace("\\", "/")))


def _ends_alike(path: str, said: str) -> bool:
    """Whether one path is the end of the other, folder by folder, whatever the ending of the file."""
    a, b = (f"/{posixpath.dirname(p)}/{stem_of(p)}".replace("//", "/") for p in (path, said))
    return a.endswith(b) or b.endswith(a)
