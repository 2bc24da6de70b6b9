"""What lies in a folder: files a reader takes, files that stand beside scans, and what is left out and said."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medprior.data import readers
from medprior.errors import DataError, nearest

_SIDECARS = frozenset(
    {".csv", ".tsv", ".txt", ".json", ".md", ".rst", ".xml", ".yaml", ".yml", ".toml", ".ini", ".pdf", ".html", ".htm"}
    | {".log", ".doc", ".docx", ".xls", ".xlsx", ".ods", ".parquet", ".py", ".ipynb", ".sh", ".bval", ".bvec"}
)
_OWN = frozenset({"study.json", "catalog.parquet", "store.json"})  # a folder with one of these is medprior's output
_DICOM = frozenset({".dcm", ".dicom", ".ima"})
_NO_DICOM = "DICOM is not read yet in this version: convert it to NIfTI (with dcm2niix) or PNG"
_MASK = re.compile(r"(^|/)(labels|masks|annotations)[^/]*/|_(mask|seg|label|1stho|2ndho)$", re.IGNORECASE)


@dataclass(frozen=True)
class File:
    """A file as the folder lists it; `path` is relative to the root, with forward slashes."""

    path: str
    size: int
    mtime_ns: int


@dataclass
class Found:
    """What a walk met: readable files, other kinds counted by suffix, names that are not text, and what was passed by:
    links that lead out or nowhere, and folders that medprior wrote."""

    files: list[File] = field(default_factory=list)
    sidecars: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    links_out: int = 0
    links_lost: int = 0
    own_folders: int = 0
    unnameable: list[str] = field(default_factory=list)
    first_other: str = ""


def find_files(root: Path) -> Found:
    """Walk `root` (a resolved folder), sorted by path. Hidden entries are left out, and folders below it that
    medprior wrote: their pixels are copies, of tested patients too. A link is followed only where its file lies within
    the root and is not met otherwise, as git-annex and DVC keep files.

    Raises:
        DataError: a folder cannot be listed.
    """
    found = Found()
    _walk(root, root, found)
    found.files.sort(key=lambda file: file.path)
    return found


def _walk(folder: Path, root: Path, found: Found) -> None:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"a folder cannot be listed: {error.strerror}", where=str(folder)) from error
    if folder != root and not _OWN.isdisjoint(entry.name for entry in entries):
        found.own_folders += 1
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            _follow(Path(entry.path), root, found)
        elif entry.is_dir():
            _walk(Path(entry.path), root, found)
        elif entry.is_file():
            _sort_in(Path(entry.path).relative_to(root).as_posix(), entry.stat(), found)


def _follow(link: Path, root: Path, found: Found) -> None:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # up to Python 3.12 a circle of links is a RuntimeError
        found.links_lost += 1
        return
    if not target.is_relative_to(root):
        found.links_out += 1
    elif target.is_file() and _unmet(target.relative_to(root)):
        _sort_in(link.relative_to(root).as_posix(), target.stat(), found)


def _unmet(path: Path) -> bool:
    """Whether a walk passes a file by: it is hidden, or its own name does not say what it is."""
    return any(part.startswith(".") for part in path.parts) or readers.format_of(path) is None


def _sort_in(path: str, stat: os.stat_result, found: Found) -> None:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _SIDECARS:
        found.sidecars[suffix] += 1
    elif readers.format_of(path) is None:
        found.others[_shown(suffix) or "no ending"] += 1
        found.first_other = found.first_other or path
    elif not path.isprintable():
        found.unnameable.append(_shown(path))
    else:
        found.files.append(File(path, stat.st_size, stat.st_mtime_ns))


def _shown(name: str) -> str:
    """A name that can be printed on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def find(root: Path) -> tuple[Path, Found]:
    """The folder that paths are relative to, and what lies at `root`: a resolved folder or one file.

    Raises:
        DataError: nothing is there, or nothing readable.
    """
    if root.is_dir():
        found = find_files(root)
        if not found.files and not found.unnameable:
            raise _nothing_readable(root, found)
        return root, found
    if not root.exists():
        beside = nearest(root.name, [p.name for p in root.parent.iterdir()]) if root.parent.is_dir() else None
        raise DataError("there is no such folder or file", where=str(root), do=f"Nearest: {beside}" if beside else None)
    if not root.is_file():
        raise DataError("this is a pipe or a device", where=str(root), do="Give a folder or a file of scans")
    if readers.format_of(root) is None:
        do = _NO_DICOM if _is_dicom(root) else f"Readable: {readers.READABLE}"
        raise DataError("this file is of no readable kind", where=str(root), do=do)
    stat = root.stat()
    return root.parent, Found([File(root.name, stat.st_size, stat.st_mtime_ns)])


def _nothing_readable(root: Path, found: Found) -> DataError:
    there = found.sidecars + found.others
    held = f"it holds {_counted(there)}" if there else "it is empty"
    passed = [
        f", {count} {what}"
        for count, what in (
            (found.links_out, "links that lead out of it, which are not followed"),
            (found.links_lost, "links that lead nowhere"),
            (found.own_folders, "folders that medprior wrote"),
        )
        if count
    ]
    held += "".join(passed)
    dicom = not _DICOM.isdisjoint(found.others) or (found.first_other and _is_dicom(root / found.first_other))
    do = f"{_NO_DICOM}. " if dicom else ""
    return DataError(
        f"no readable scan in this folder: {held}", where=str(root), do=f"{do}Readable: {readers.READABLE}"
    )


def _is_dicom(file: Path) -> bool:
    """By its ending, or by the mark of DICOM files, which often have no ending."""
    if file.suffix.lower() in _DICOM:
        return True
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _counted(kinds: Counter[str]) -> str:
    listed = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(5))
    return f"{sum(kinds.values())} files ({listed})"


def left_out(found: Found) -> list[str]:
    """A sentence for each kind of thing that was met and not taken, and for what was taken and looks like masks."""
    warnings = []
    if found.others:
        advice = f" {_NO_DICOM}." if not _DICOM.isdisjoint(found.others) else ""
        warnings.append(f"Left out, of kinds that are not read: {_counted(found.others)}.{advice}")
    if found.links_out:
        warnings.append(f"Left out: {found.links_out} links that lead out of the folder.")
    if found.links_lost:
        warnings.append(f"Left out: {found.links_lost} links that lead nowhere or in a circle.")
    if found.own_folders:
        warnings.append(f"Left out: {found.own_folders} folders of results or pixels that medprior wrote.")
    masks = sum(_MASK.search(_unended(file.path)) is not None for file in found.files)
    if masks:
        warnings.append(
            f"{masks} files look like masks by their names and are read as images: move them out of the folder."
        )
    return warnings


def _unended(path: str) -> str:
    return path.removesuffix(PurePosixPath(path).name) + readers.stem_of(path)
