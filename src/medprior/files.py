"""Files that are whole or absent, and errors of the disk said plainly."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medprior.errors import OutputError

_NO_PLACE = {getattr(errno, name) for name in ["EACCES", "EPERM", "EROFS", "ENOENT", "ENAMETOOLONG", "EINVAL", "ELOOP"]}
_IN_THE_WAY = {
    errno.EISDIR: "a folder of this name is in the way of the file",
    errno.EEXIST: "a file of this name is in the way of the folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
}


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A path to write beside `path`; on success it is synced and renamed over it, on failure removed.

    Raises:
        OutputError: no space, no permission.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with said_plainly(path):
        try:
            yield aside
            with aside.open("rb+") as written:
                os.fsync(written.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path, known: Collection[str]) -> Iterator[Path]:
    """A folder to fill beside `path`; on success it takes the place of `path`, on failure nothing of it is left.

    Args:
        known: names of files that may be lost with the folder that stood there before.

    Raises:
        OutputError: `path` holds anything else; no space, no permission.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with said_plainly(path):
        before = sorted(found.name for found in path.iterdir()) if path.exists() else []
        foreign = [name for name in before if name not in known]
        if foreign:
            do = "Choose another --out"
            raise OutputError(f"the folder holds other files, such as {foreign[0]}", where=str(path), do=do)
        try:
            aside.mkdir(parents=True)
            yield aside
            for name in before:
                (path / name).unlink()
            aside.replace(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def said_plainly(path: Path) -> Iterator[None]:
    """Turn errors of the disk into an OutputError that names `path` and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                "no space left on the disk",
                where=str(path),
                do="Free some space or choose another --out, then repeat the command",
            ) from None
        if error.errno in _IN_THE_WAY:
            do = "Choose another --out, or move what is in the way"
            raise OutputError(_IN_THE_WAY[error.errno], where=str(path), do=do) from None
        if error.errno in _NO_PLACE:
            raise OutputError(
                "this place cannot be written to", where=str(path), do="Choose another --out or mend the permissions"
            ) from None
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with said_plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; not-a-number becomes null."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; the system lets go of it however the process ends.

    Raises:
        OutputError: another process works there.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        yield
        return
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            do = "Wait for it, or choose another --out"
            raise OutputError("another medprior works in this folder", where=str(folder), do=do) from None
        yield


def digest(path: Path) -> str:
    """The BLAKE2b sum of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def make_folder(path: Path) -> Path:
    """Make `path` and prove that it can be written to.

    Raises:
        OutputError: it cannot.
    """
    with said_plainly(path):
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        probe.write_bytes(b"medprior")
        probe.unlink()
    return path


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return _finite(value.item())
    return value
