"""`medprior suggest`: what to label next."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medprior.cli.display import Terminal


class By(StrEnum):
    """What makes a scan worth a label."""

    typical = "typical"
    uncertain = "uncertain"


Run = Annotated[Path, typer.Argument(help="Folder of a finished run, or of an encoder in it.", show_default=False)]
Count = Annotated[int, typer.Option(help="Patients to suggest.")]
Out = Annotated[Path | None, typer.Option(help="Where the list is written (default: RUN/suggest).", show_default=False)]
Why = Annotated[
    By | None,
    typer.Option(help="typical or uncertain (default: typical before any label, then uncertain).", show_default=False),
]


def suggest(run: Run, count: Count = 50, out: Out = None, by: Why = None) -> None:
    """Say what to label next: a list of patients (worklist.csv), and a page with their pictures (worklist.html)."""
    from medprior.files import make_folder
    from medprior.report.worklist import write_page
    from medprior.study.suggest import suggest as choose
    from medprior.study.worklist import write_worklist

    terminal = Terminal()
    found = choose(run, count, by.value if by else None, terminal)
    place = make_folder(out or found.folder / "suggest")
    write_worklist(found, place / "worklist.csv")
    page = write_page(found, place / "worklist.html")
    terminal.say(f"Chosen   {found.said}")
    for warning in found.warnings:
        terminal.say(f"Beware   {warning}")
    terminal.say(f"Page     {page}   (rows and pictures, to tick off)")
    terminal.say(f"Private  {place / 'worklist.csv'}   (their files)")
