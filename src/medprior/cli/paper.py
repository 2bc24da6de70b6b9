"""`medprior print`: a report on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medprior.cli.display import Terminal

Run = Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)]


def print_run(run: Run) -> None:
    """Print the report of a finished run to RUN/report.pdf, by a Chromium or Chrome that is installed."""
    from medprior.report.paper import print_report

    Terminal().say(f"Printed  {print_report(run.expanduser())}")
