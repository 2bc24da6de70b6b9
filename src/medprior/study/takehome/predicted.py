"""What a prediction leaves: lines to print, and a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Predicted:
    """How a prediction went: scans predicted, and lines to print."""

    predicted: int
    lines: tuple[str, ...]


def as_csv(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """The text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def unreadable_said(problems: pd.DataFrame) -> list[str]:
    """How many files could not be read, where any could not."""
    count = int((problems["kind"] == "unreadable").sum())
    return [f"Problems  {count:,} files could not be read"] if count else []
