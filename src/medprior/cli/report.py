"""`medprior report`: the page of a finished run, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medprior.cli.display import Terminal

Run = Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)]


def report_run(run: Run) -> None:
    """Write report.html and model-card.md of a finished run again, from its folder alone: nothing is trained."""
    from medprior.files import alone_in, make_folder
    from medprior.report.assemble import pixels_lost, report
    from medprior.study.finished import folder_of
    from medprior.study.reopened import reopen
    from medprior.study.takehome.modelcard import NAME

    terminal = Terminal()
    with alone_in(make_folder(folder_of(run))):
        outcome = reopen(run)
        page = report(outcome)
    terminal.say(f"Report   {page}")
    terminal.say(f"Card     {outcome.out / NAME}")
    for sentence in pixels_lost(outcome):
        terminal.say(f"Beware   {sentence}")
