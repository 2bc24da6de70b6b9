"""Progress in the terminal: rate, wait, time left; plain lines where no one watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from medprior.progress import Bar


class _Rate(ProgressColumn):
    """Done, total and units per second."""

    def render(self, task: Task) -> Text:
        unit = task.fields.get("unit", "")
        speed = f"{task.speed:,.0f}" if task.speed and task.speed >= 10 else f"{task.speed or 0:.1f}"
        total = f"/{task.total:,.0f}" if task.total else ""
        return Text(
            f"{task.completed:,.0f}{total} {unit}  {speed} {unit}/s" if unit else f"{task.completed:,.0f}{total}", "dim"
        )


class _RichBar:
    def __init__(self, progress: RichProgress, task: int) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float = 1) -> None:
        self._progress.advance(self._task, amount)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)  # type: ignore[arg-type]


class _PlainBar:
    def __init__(self, title: str, total: float | None, unit: str, done: float) -> None:
        self._title, self._total, self._unit, self._before = title, total, unit, done
        self._done, self._note, self._began, self._said = done, "", time.monotonic(), time.monotonic()

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        if time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            self.say()

    def note(self, text: str) -> None:
        self._note = text

    def say(self, end: bool = False) -> None:
        seconds = max(1e-9, time.monotonic() - self._began)
        rate = (self._done - self._before) / seconds
        left = (
            f"  {_clock((self._total - self._done) / rate)} left"
            if self._total and rate and not end
            else f"  {seconds:.1f} s"
        )
        total = f"/{self._total:,.0f}" if self._total else ""
        print(
            f"{self._title:<28} {self._done:,.0f}{total} {self._unit}  {rate:,.1f}/s{left}  {self._note}".rstrip(),
            flush=True,
        )


class Terminal:
    """A Progress that draws bars on a terminal and prints a line every half minute elsewhere."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(highlight=False, soft_wrap=False)
        self._quiet = quiet

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: float | None, unit: str = "", done: float = 0) -> Iterator[Bar]:
        """Show one piece of work until it ends."""
        if not sys.stdout.isatty():
            plain = _PlainBar(title, total, unit, done)
            yield plain
            plain.say(end=True)
            return
        columns = (
            TextColumn("{task.description:<26}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(),
            TextColumn("[dim]{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]left"),
        )
        with RichProgress(*columns, console=self.console, transient=False, speed_estimate_period=20) as progress:
            task = progress.add_task(title, total=total, completed=int(done), unit=unit, note="")
            yield _RichBar(progress, task)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
