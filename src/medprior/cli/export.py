"""`medprior export`: a model in the form of another library."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medprior.cli.display import Terminal


class Target(StrEnum):
    """The forms there are."""

    timm = "timm"
    torchvision = "torchvision"
    monai = "monai"
    huggingface = "huggingface"
    onnx = "onnx"
    safetensors = "safetensors"


Run = Annotated[
    Path, typer.Argument(help="Folder of a run, of one of its encoders, or its best/ folder.", show_default=False)
]
To = Annotated[Target, typer.Option("--to", help="The library, or the format.", show_default=False)]
Arm = Annotated[
    str | None,
    typer.Option(help="simclr, or simclr/resnet18 (default: the model taken home).", show_default=False),
]
Out = Annotated[Path | None, typer.Option(help="Where it is written (default: RUN/export/TO).", show_default=False)]


def export(run: Run, to: To, arm: Arm = None, out: Out = None) -> None:
    """Write a model in the form of another library, checked against the run, with a card that says how to load it."""
    from medprior.study.takehome.exporting import export as write

    terminal = Terminal()
    done = write(run, to.value, arm, out)
    terminal.say(f"Exported {done.title} for {to.value}: {done.folder}")
    terminal.say(f"Checked  its answers differ from the run's by {done.difference:.1e} of the largest; 1e-5 is allowed")
    terminal.say(f"Card     {done.folder / 'README.md'}   (how to load it; put the licence of the data there)")
