"""What the file is called that is written for a scan: after the scan, and never as another's."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from medprior.data.readers import stem_of
from medprior.data.scan import Source

_ODD = re.compile(r"[^\w.-]+")


def names_of(sources: Sequence[Source], root: str, ending: str) -> list[str]:
    """A relative path for each scan, with the folders and the name of its file: "a/case.nii.gz" for "a/case.mha".

    An array of a container and a frame add their name and number. A DICOM series alone in its folder is called as the
    folder is, others as their first file. Scans that would still get one name, also where large and small letters are
    one, are numbered in their order: "case", "case-2".

    Args:
        root: what a series is called that lies in the root itself.
        ending: of all the files, ".nii.gz" for instance.
    """
    series = Counter(PurePosixPath(source.paths[0]).parent for source in sources if _is_series(source))
    taken: set[str] = set()
    return [_free(_stem(source, root, series), taken) + ending for source in sources]


def _is_series(source: Source) -> bool:
    return source.reader == "dicom" and len(source.paths) > 1


def _stem(source: Source, root: str, series: Counter[PurePosixPath]) -> str:
    path = PurePosixPath(source.paths[0])
    if _is_series(source) and series[path.parent] == 1:
        return path.parent.as_posix() if path.parent.name else _plain(root) or "series"
    name = stem_of(path) or path.name
    name += f"-{_plain(source.member)}" if source.member else ""  # may hold slashes, and lead out of the folder
    name += f"-{source.frame:04d}" if source.frame >= 0 else ""
    return (path.parent / name).as_posix()


def _plain(name: str) -> str:
    return _ODD.sub("_", name)


def _free(stem: str, taken: set[str]) -> str:
    """`stem`, or the first of `stem`-2, `stem`-3 and so on that nobody has."""
    name, number = stem, 1
    while _folded(name) in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(_folded(name))
    return name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
