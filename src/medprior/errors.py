"""The error types that leave medprior: each says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MedpriorError(Exception):
    """A problem the user can act on.

    Args:
        what: what was wrong, one sentence without a full stop.
        where: the file, row or setting it concerns.
        do: what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, do: str | None = None) -> None:
        self.what, self.where, self.do = what, where, do
        place = f" [{where}]" if where else ""
        advice = f"\n{do}" if do else ""
        super().__init__(f"{what}{place}{advice}")


class DataError(MedpriorError):
    """A file or a folder of scans cannot be used."""

    exit_code = 3


class LabelError(MedpriorError):
    """The label table, or the labels in it, cannot be used."""

    exit_code = 4


class SettingsError(MedpriorError):
    """A name, an option or a setting is unknown or has a wrong value."""

    exit_code = 2


class StoreError(MedpriorError):
    """The pixel store on disk is missing, damaged or does not fit."""

    exit_code = 5


class RunError(MedpriorError):
    """A results folder, checkpoint or predictor cannot be used for what was asked."""

    exit_code = 6


class OutputError(MedpriorError):
    """Results cannot be written (no permission, no space)."""

    exit_code = 7


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option most like `name`, or None when none is alike."""
    names = list(options)
    found = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return found[0] if found else None


def unknown(kind: str, name: str, options: Iterable[str], *, see: str | None = None) -> SettingsError:
    """The error for an unknown name: it carries the nearest valid one and the whole list."""
    names = sorted(options)
    close = nearest(name, names)
    hint = f'Nearest: "{close}". ' if close else ""
    tail = f" ({see})" if see else ""
    return SettingsError(f'unknown {kind} "{name}"', do=f"{hint}All: {', '.join(names)}{tail}")


class Interrupted(MedpriorError):  # noqa: N818 - nothing went wrong
    """The user, or the system, asked to stop; everything finished so far is saved."""

    exit_code = 130
