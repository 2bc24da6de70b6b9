"""How long work tells how far it is, without knowing who is looking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One running piece of work."""

    def advance(self, amount: float = 1) -> None:
        """Count `amount` more units as done."""

    def note(self, text: str) -> None:
        """Show `text` beside the bar (a loss, a wait)."""


class Progress(Protocol):
    """A place where pieces of work can be shown."""

    def task(self, title: str, total: float | None, unit: str = "", done: float = 0) -> AbstractContextManager[Bar]:
        """Show work named `title` of `total` units, `done` of them before; rate and time left are the display's."""

    def say(self, text: str) -> None:
        """Print one line above the bars."""


class _SilentBar:
    def advance(self, amount: float = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Silent:
    @contextmanager
    def task(self, title: str, total: float | None, unit: str = "", done: float = 0) -> Iterator[Bar]:
        yield _SilentBar()

    def say(self, text: str) -> None:
        pass


silent: Progress = _Silent()
