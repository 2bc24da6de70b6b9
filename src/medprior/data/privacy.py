"""Patient keys: what groups scans by person without naming the person.

A key is a hash of the identifier under a secret salt. The salt lies in the user's own configuration folder, never
beside the results, so that whoever gets the results cannot try out identifiers until one fits. The same person has the
same key in every folder that is indexed with the same salt.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from medprior.errors import DataError, OutputError
from medprior.files import said_plainly

_LENGTH = 32
CLEAR = b""


def default_salt_file() -> Path:
    """Where the salt lies unless `data.salt` names another file."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path("~").expanduser() / ".config") / "medprior" / "salt"


@dataclass(frozen=True)
class PatientKeys:
    """Turns identifiers into keys; without a salt they stay in clear."""

    salt: bytes = field(default=CLEAR, repr=False)

    def __call__(self, identifier: str) -> str:
        """The key of an identifier; "" stays "", for it names no one."""
        said = " ".join(identifier.split())
        if not said or not self.salt:
            return said
        digest = hashlib.blake2b(said.encode(), key=self.salt, digest_size=8)
        return f"p{digest.hexdigest()}"

    def site(self, name: str) -> str:
        """The key of an institution's name, whatever its case, blanks and stops; "" stays "".

        The name itself is never kept, not without a salt either: it may say who somebody is.
        """
        said = "".join(re.findall(r"\w", name.casefold()))
        if not said:
            return ""
        return f"s{hashlib.blake2b(said.encode(), key=self.salt, digest_size=8, person=b'site').hexdigest()}"

    @property
    def mark(self) -> str:
        """Tells two salts apart without telling either."""
        return hashlib.blake2b(b"medprior", key=self.salt, digest_size=8).hexdigest() if self.salt else "clear"


def patient_keys(salt_file: Path | None = None, *, hashed: bool = True) -> PatientKeys:
    """The keys of this user: the salt is made when it is first needed, readable by its owner alone.

    Raises:
        OutputError: the salt cannot be written.
        DataError: the file named holds no salt.
    """
    if not hashed:
        return PatientKeys()
    file = salt_file.expanduser() if salt_file else default_salt_file()
    if not file.exists():
        _make_salt(file)
    try:
        salt = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        salt = b""
    if len(salt) != _LENGTH:
        do = "Give another file with --set data.salt=FILE, or remove this one: patients then get other keys"
        raise DataError("this file does not hold a salt for patient keys", where=str(file), do=do)
    return PatientKeys(salt)


def _make_salt(file: Path) -> None:
    """Whole or not at all, and the first of several processes wins: half a salt would refuse every later command."""
    import secrets

    aside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with said_plainly(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_for_owner(aside, secrets.token_hex(_LENGTH) + "\n")
                _put_first(aside, file)
            finally:
                aside.unlink(missing_ok=True)
    except OutputError as error:
        do = "Name a file that can be written with --set data.salt=FILE"
        raise OutputError("the salt of patient keys cannot be written", where=str(file), do=do) from error


def _put_first(aside: Path, file: Path) -> None:
    try:
        os.link(aside, file)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        aside.replace(file)


def _write_for_owner(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(handle)
