"""`medprior bench`: how fast a method trains on this machine, and where the time of an image goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from medprior.cli import options as o
from medprior.cli.display import Terminal

SIZES = {(2, False): 64, (2, True): 224, (3, False): 32, (3, True): 96}
"""Side of a view by (dimensions, whether there is a GPU)."""
BATCHES = {False: 64, True: 256}
ROWS = {"end_to_end": "end to end", "step": "step alone", "views": "views alone"}
BAR = 20

Scans = Annotated[Path | None, typer.Argument(help="Folder of scans; generated ones when absent.", show_default=False)]
Method = Annotated[str, typer.Option(help="Pre-training method.")]
Preset = Annotated[str, typer.Option(help="Settings of the method: small, paper, ...")]
Dims = Annotated[int, typer.Option(help="2 for images, 3 for volumes.", min=2, max=3)]
Size = Annotated[int | None, typer.Option(help="Side of a view in pixels.", min=8, max=1024, show_default=False)]
Batch = Annotated[int | None, typer.Option(help="Images per step.", min=2, show_default=False)]
Steps = Annotated[int, typer.Option(help="Steps of each timing.", min=1)]
Repeats = Annotated[int, typer.Option(help="Timings of each part, in turn.", min=1)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]


def bench(
    scans: Scans = None,
    method: Method = "simclr",
    backbone: o.Backbone = None,
    size: Size = None,
    dims: Dims = 2,
    batch: Batch = None,
    steps: Steps = 20,
    repeats: Repeats = 5,
    preset: Preset = "small",
    device: Device = "auto",
    out: o.Out = Path("bench-out"),
) -> None:
    """Measure a method here: end to end, the bare step, the views, memory, and the share of what the device can do."""
    from medprior.files import write_json
    from medprior.study.pretraining import suitable_backbone
    from medprior.training.benchmark import measure
    from medprior.training.benchtrainer import Asked, flops_per_image, report, subject
    from medprior.training.device import computing, pick_device

    place = pick_device(device)
    on_gpu = place.type == "cuda"
    size, batch = size or SIZES[dims, on_gpu], batch or BATCHES[on_gpu]
    asked = Asked(method, preset, suitable_backbone(method, backbone, dims, on_gpu), size, dims, batch, steps, repeats)
    terminal = Terminal()
    with computing(), subject(asked, scans, out, place, terminal) as trainer:
        flops = flops_per_image(trainer)
        speed = measure(trainer, flops, steps=steps, repeats=repeats, progress=terminal)
        told = report(asked, trainer, speed, generated=scans is None)
    show(terminal.console, told)
    write_json(out / "bench.json", told)
    terminal.say(f"Figures  {out / 'bench.json'}")


def show(console: Console, told: dict[str, Any]) -> None:
    """The figures of `bench.json` as a small table: for each part its rate and, as a bar, the time of one image."""
    asked, whole = told["asked"], told["end_to_end"]["median"]
    place = told["device"] if told["device"] != "CPU" else f"{told['threads']} CPU threads"
    heading = f"[bold]{asked['method']}[/bold] on {asked['backbone']}, {asked['size']} px in {asked['spatial_dims']}D"
    console.print(f"\n{heading}, {asked['batch']} a step   [dim]{place}, {told['precision']}[/dim]\n")
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "left", "right", "left", "right"):
        table.add_column(justify=justify, no_wrap=True)
    for name, title in ROWS.items():
        rate = told[name]
        table.add_row(
            title,
            _bar(whole / rate["median"]),
            f"[bold]{rate['median']:,.0f}[/bold] images/s",
            f"[dim]{rate['min']:,.0f} to {rate['max']:,.0f}[/dim]",
            f"{1000 / rate['median']:,.2f} ms each",
        )
    console.print(table)
    console.print()
    for line in lines(told):
        console.print(line, markup=False, soft_wrap=True)


def lines(told: dict[str, Any]) -> list[str]:
    """What the figures mean, in words."""
    share, wait, limit = told["share_of_step"], told["wait"]["median"], told["limit"]
    work, used = told["flops_per_image"], told["utilisation"]
    found = [
        f"Share    end to end is {share:.0%} of the step alone; {wait:.1f}% of the time waits for scans",
        f"Model    {_scaled(work)}FLOP an image; {used:.0%} of the {_scaled(limit)}FLOP/s of a matrix product here",
    ]
    if told["peak_memory_bytes"] is not None:
        of = "this process" if told["device"] == "CPU" else "tensors on the GPU"
        found.append(f"Memory   {told['peak_memory_bytes'] / 1e9:,.2f} GB at the peak ({of})")
    scans, placement = told["scans"], told["placement"]
    kind = "generated" if scans["generated"] else "of yours"
    found.append(
        f"Scans    {scans['count']:,} {kind}, stored at {scans['stored_size']} px, "
        f"{placement['kind']}: {placement['reason']}"
    )
    return found


def _bar(share: float) -> str:
    """Time of an image as a bar; the whole step is `BAR` wide."""
    halves = max(1, min(round(2 * BAR * share), 2 * BAR))
    full = "━" * (halves // 2) + "╸" * (halves % 2)
    return f"[green]{full}[/green][dim]{'━' * (BAR - len(full))}[/dim]"


def _scaled(value: float) -> str:
    """A number with T, G or M, to stand before a unit."""
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:,.1f} {letter}"
    return f"{value:,.0f} "
