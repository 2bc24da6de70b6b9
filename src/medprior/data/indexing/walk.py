"""What lies in a folder: files a reader takes, files that stand beside scans, and what is left out and said."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medprior.data import readers
from medprior.errors import DataError, nearest

_SIDECARS = frozenset(
    {".csv", ".tsv", ".txt", ".json", ".md", ".rst", ".xml", ".yaml", ".yml", ".toml", ".ini", ".pdf", ".html", ".htm"}
    | {
        ".log",
        ".doc",
        ".docx",
        ".xls",
        ".xlsx",
        ".ods",
        ".parquet",
        ".py",
        ".ipynb",
        ".sh",
        ".bval",
        ".bvec",
        ".raw",
        ".zraw",
    }
)
_OWN = frozenset({"study.json", "index.parquet", "catalog.parquet", "store.json", "volumes.json"})
"""A folder with one of these is medprior's output."""


@dataclass(frozen=True)
class File:
    """A file as the folder lists it; `path` is relative to the root, with forward slashes; `family` is its reader."""

    path: str
    size: int
    mtime_ns: int
    family: str


@dataclass
class Found:
    """What a walk met: readable files, files that may tell of them, other kinds counted by suffix, names that are not
    text, folders that cannot be listed (path and reason), and what was passed by: links that lead out, nowhere or to
    what is met otherwise, pipes and devices, and folders that medprior wrote."""

    files: list[File] = field(default_factory=list)
    sidecars: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    links_out: int = 0
    links_lost: int = 0
    links_again: int = 0
    pipes: int = 0
    own_folders: int = 0
    unnameable: list[str] = field(default_factory=list)
    unlisted: list[tuple[str, str]] = field(default_factory=list)


def find_files(root: Path) -> Found:
    """Walk `root` (a resolved folder), sorted by path. Hidden entries are left out, and folders below it that
    medprior wrote: their pixels are copies, of tested patients too. A link is followed only where its file lies within
    the root and is not met otherwise, as git-annex and DVC keep files.

    Raises:
        DataError: the root cannot be listed.
    """
    found = Found()
    _walk(root, root, found)
    found.files.sort(key=lambda file: file.path)
    return found


def _walk(folder: Path, root: Path, found: Found) -> None:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        reason = f"the folder cannot be listed: {(error.strerror or type(error).__name__).lower()}"
        if folder == root:
            raise DataError(reason, where=str(folder), do="Mend its permissions, or give another folder") from error
        found.unlisted.append((_shown(folder.relative_to(root).as_posix()), reason))
        return
    if folder != root and not _OWN.isdisjoint(entry.name for entry in entries):
        found.own_folders += 1
        return
    inside = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            _follow(entry, inside, root, found)
        elif entry.is_dir():
            _walk(Path(entry.path), root, found)
        elif entry.is_file():
            _sort_in(entry, inside, entry.stat(), found)
        else:
            found.pipes += 1


def _follow(link: os.DirEntry[str], inside: str, root: Path, found: Found) -> None:
    try:
        target = Path(link.path).resolve(strict=True)
    except (OSError, RuntimeError):  # up to Python 3.12 a circle of links is a RuntimeError
        found.links_lost += 1
        return
    if not target.is_relative_to(root):
        found.links_out += 1
    elif target.is_file() and _unmet(target, root):
        _sort_in(link, inside, target.stat(), found)
    elif target.is_file() or target.is_dir():
        found.links_again += 1
    else:
        found.pipes += 1


def _unmet(file: Path, root: Path) -> bool:
    """Whether a walk passes a file by: it is hidden, or neither its own name nor its content says what it is."""
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return hidden or (readers.format_of(file) or readers.format_inside(file)) is None


def _sort_in(file: os.DirEntry[str], inside: str, stat: os.stat_result, found: Found) -> None:
    """Sort in a file of the folder `inside` ("" or a path that ends in a slash)."""
    path = inside + file.name
    family = readers.format_of(file.name)
    if family is None:
        suffix = Path(file.name).suffix.lower()
        if suffix in _SIDECARS:
            found.sidecars.append(path)
            return
        family = readers.format_inside(Path(file.path))
        if family is None:
            found.others[_shown(suffix) or "no ending"] += 1
            return
    if path.isprintable():
        found.files.append(File(path, stat.st_size, stat.st_mtime_ns, family))
    else:
        found.unnameable.append(_shown(path))


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
    family = readers.format_of(root) or readers.format_inside(root)
    if family is None:
        raise DataError("this file is of no readable kind", where=str(root), do=f"Readable: {readers.READABLE}")
    stat = root.stat()
    return root.parent, Found([File(root.name, stat.st_size, stat.st_mtime_ns, family)])


def _nothing_readable(root: Path, found: Found) -> DataError:
    there = Counter(PurePosixPath(path).suffix.lower() for path in found.sidecars) + found.others
    holds = ([_counted(there)] if there else []) + _passed_by(found)
    held = f"it holds {', '.join(holds)}" if holds else "it is empty"
    return DataError(f"no readable scan in this folder: {held}", where=str(root), do=f"Readable: {readers.READABLE}")


def _counted(kinds: Counter[str]) -> str:
    listed = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(5))
    return f"{_number(sum(kinds.values()), 'file', '')} ({listed})"


def _number(count: int, what: str, rest: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}{rest}"


def _passed_by(found: Found) -> list[str]:
    """Each kind of thing that is no file of its own and was met, counted."""
    return [
        _number(count, what, f" {rest}" if rest else "")
        for count, what, rest in (
            (found.links_out, "link", "out of the folder, not followed"),
            (found.links_lost, "link", "to nowhere or in a circle"),
            (found.links_again, "link", "to a folder, or to a file that is met by itself"),
            (found.pipes, "special file", "(a pipe, a device)"),
            (found.own_folders, "folder", "of results or pixels that medprior wrote"),
            (len(found.unlisted), "folder", "that cannot be listed"),
        )
        if count
    ]


def left_out(found: Found) -> list[str]:
    """A sentence for each kind of thing that was met and not taken."""
    others = [f"Left out, of kinds that are not read: {_counted(found.others)}."] if found.others else []
    return others + [f"Left out: {said}." for said in _passed_by(found)]
