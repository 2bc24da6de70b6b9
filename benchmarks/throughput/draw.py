"""The table of the README and the figure, drawn from the raw results beside this script.

    python benchmarks/throughput/draw.py            writes README.md's section and throughput.svg

A test runs `table` on the committed results and compares it with the committed README.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medprior.report.axes import Scale, element, line, picture, ratio_ticks, text

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- throughput:begin -->", "<!-- throughput:end -->"
RESULTS = ("cpu.json", "gpu.json")
TITLES = {
    "simclr-64": "SimCLR, ResNet-18, 64 px",
    "simclr-128": "SimCLR, ResNet-18, 128 px",
    "mae-64": "MAE, ViT-Ti/16, 64 px",
    "simclr-224": "SimCLR, ResNet-50, 224 px",
    "mae-224": "MAE, ViT-B/16, 224 px",
    "twoview-224": "SimCLR, ViT-S/16, 224 px",
    "mae-96-3d": "MAE, ViT-B/16, volumes of 96³",
}
SIDES = {"ours": "**medprior**", "lightly on our store": "lightly on medprior's store"}
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #4a5560 } .name { fill: #1d2730 } .title { font-weight: 600; fill: #1d2730 }
.ours { fill: #0f766e } .peer { fill: #b8c2cc } .grid { stroke: #e3e8ec } .curve { fill: none; stroke: #0f766e; stroke-width: 2 }
.range { stroke: #1d2730; stroke-width: 1.2 }
"""  # noqa: E501


def main() -> None:
    README.write_text(replaced(README.read_text(), section(HERE)))
    drawn = figure(HERE)
    if drawn:
        (HERE / "throughput.svg").write_text(drawn + "\n")


def replaced(page: str, body: str) -> str:
    """The page with `body` between the marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{body}{END}{after}"


def section(folder: Path) -> str:
    """What stands between the marks: one table for each machine that was measured."""
    found = [json.loads((folder / name).read_text()) for name in RESULTS if (folder / name).exists()]
    tables = [table(results) for results in found if not results["toy"]]
    return "\n".join(tables) if tables else "Not measured yet: see [benchmarks/throughput](benchmarks/throughput).\n"


def table(results: dict[str, Any]) -> str:
    """Rates with their ranges, and how many times medprior's each is; ratios are of runs side by side."""
    about = results["environment"]
    place = about["gpus"][0] if results["device"] == "cuda" else f"{about['cpus']} CPU cores"
    head = f"On {place}, torch {about['torch'].partition('+')[0]}; images per second, median and range of the rounds:\n"
    rows = ["| | from the files on | after the first epoch | medprior is | memory |", "|---|---|---|---|---|"]
    for task in TITLES:
        rows += task_rows(task, [run for run in results["runs"] if run["task"] == task])
    alone = results.get("shares", {})
    shares = [share for task in TITLES if (share := bare_share(task, results["runs"], alone.get(task)))]
    said = "".join(f"\n{share}" for share in shares)
    return "\n".join([head, *rows]) + "\n" + (f"{said}\n" if shares else "")


def task_rows(task: str, runs: Sequence[dict[str, Any]]) -> list[str]:
    """One row for each side of a task, medprior first."""
    sides = sorted({run["side"] for run in runs}, key=lambda side: (side != "ours", side))
    rows = [f"| {TITLES[task]} | | | | |"] if runs else []
    ours = {run["round"]: run for run in runs if run["side"] == "ours"}
    for side in sides:
        own = [run for run in runs if run["side"] == side]
        whole = spread([rate_whole(run) for run in own])
        steady = spread([rate_steady(run) for run in own])
        memory = f"{statistics.median(memory_of(run) for run in own) / 1e9:.1f} GB"
        rows.append(f"| {SIDES.get(side, side)} | {whole} | {steady} | {ratios(side, own, ours)} | {memory} |")
    return rows


def rate_whole(run: dict[str, Any]) -> float:
    """Images per second with everything counted: start of Python, index, store, decoding, the first epoch."""
    return run["images"] * len(run["epoch_seconds"]) / run["process_seconds"]


def rate_steady(run: dict[str, Any]) -> float:
    """Images per second of the epochs after the first."""
    return run["images"] / statistics.median(run["epoch_seconds"][1:])


def memory_of(run: dict[str, Any]) -> float:
    """Bytes: of tensors on a GPU, else of all processes of the run."""
    return float(run["gpu_memory_bytes"] or run["memory_bytes"])


def ratios(side: str, own: Sequence[dict[str, Any]], ours: dict[int, dict[str, Any]]) -> str:
    """How many times as fast medprior is, from the files on and after the first epoch."""
    pairs = [(ours[run["round"]], run) for run in own if run["round"] in ours]
    if side == "ours" or not pairs:
        return ""
    whole = statistics.median(rate_whole(us) / rate_whole(peer) for us, peer in pairs)
    steady = statistics.median(rate_steady(us) / rate_steady(peer) for us, peer in pairs)
    return f"{whole:.2f}x; {steady:.2f}x"


def bare_share(task: str, runs: Sequence[dict[str, Any]], alone: dict[str, Any] | None) -> str:
    """End to end beside a loop written by hand on views made once; `alone` is what `share.py` measured."""
    shares = [run["share_of_bare"] for run in runs if run["task"] == task and "share_of_bare" in run]
    if not shares and alone is None:
        return ""
    share, (low, high) = statistics.median(shares or [0.0]), (min(shares, default=0.0), max(shares, default=0.0))
    if alone is not None:
        share, (low, high) = alone["share_of_bare"], alone["share_between"]
    between = f" ({low:.0%} to {high:.0%})" if low < high or len(shares) > 1 else ""
    used = [run["parts"]["utilisation"] for run in runs if run["task"] == task and "parts" in run]
    rest = f"; it does {statistics.median(used):.0%} of the arithmetic of a matrix product" if used else ""
    return f"- {TITLES[task]}: end to end is {share:.0%}{between} of a bare loop{rest}."


def spread(values: Sequence[float]) -> str:
    """The median, and the range where there is one."""
    between = f" [{number(min(values))}-{number(max(values))}]" if len(values) > 1 else ""
    return f"{number(statistics.median(values))}{between}"


def number(value: float) -> str:
    """A rate as one reads it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def figure(folder: Path) -> str:
    """Bars of the steady rates of every task, and below them how cost grows; empty without results."""
    found = [json.loads((folder / name).read_text()) for name in RESULTS if (folder / name).exists()]
    runs = [run for results in found for run in results["runs"] if not results["toy"]]
    bars, height = all_bars(runs)
    curves, bottom = all_curves(runs, height)
    if not bars and not curves:
        return ""
    drawn = picture(720, bottom, "Images per second of medprior and its peers", [*bars, *curves], "throughput")
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        ">", f"><style>{STYLE}</style>", 1
    )  # fmt: skip


def all_bars(runs: Sequence[dict[str, Any]]) -> tuple[list[str], float]:
    """One bar for each side of each task, as long as its rate beside the fastest of its task; and where they end."""
    drawn, y = [], 10.0
    for task, title in TITLES.items():
        rates = {run["side"]: [] for run in runs if run["task"] == task}
        for run in runs:
            if run["task"] == task:
                rates[run["side"]].append(rate_steady(run))
        if not rates:
            continue
        top = max(max(values) for values in rates.values())
        drawn.append(text(0.0, y + 12, title, "title"))
        y += 20
        for side, values in sorted(rates.items(), key=lambda pair: (pair[0] != "ours", pair[0])):
            drawn += one_bar(side, values, Scale(0, top, 190, 600), y)
            y += 20
        y += 10
    return drawn, y


def one_bar(side: str, values: Sequence[float], scale: Scale, y: float) -> list[str]:
    """Name, bar to the median, line over the range, and the median in figures."""
    end = scale(statistics.median(values))
    name = {"ours": "medprior"}.get(side, side.replace("our store", "medprior's store"))
    bar = element(
        "rect",
        x=scale.start,
        y=y,
        width=end - scale.start,
        height=14,
        rx=2,
        class_="ours" if side == "ours" else "peer",
    )
    reach = line(scale(min(values)), y + 7, scale(max(values)), y + 7, "range")
    label = text(scale(max(values)) + 6, y + 11, f"{number(statistics.median(values))} images/s")
    return [text(180.0, y + 11, name, "name", "end"), bar, reach, label]


def all_curves(runs: Sequence[dict[str, Any]], top: float) -> tuple[list[str], float]:
    """Milliseconds of an image against the size of the view, the batch and the number of images."""
    points = [point for run in runs if run["task"] == "scaling" for point in run["points"]]
    panels = {"size": "side of the view, px", "batch": "images a step", "images": "images in the folder"}
    drawn = []
    for place, (axis, title) in enumerate(panels.items()):
        own = [(point["value"], cost(point)) for point in points if point["axis"] == axis]
        if len(own) > 1:
            drawn += one_curve(own, title, 45 + place * 240, top + 20)
    return drawn, top + 190 if drawn else top


def cost(point: dict[str, Any]) -> float:
    """Milliseconds of one image: trained on, or made ready."""
    if "end_to_end" in point:
        return 1000 / point["end_to_end"]["median"]
    return 1000 * (point["index_seconds"] + point["store_seconds"]) / point["value"]


def one_curve(points: Sequence[tuple[float, float]], title: str, left: float, top: float) -> list[str]:
    """A panel with logarithmic axes."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    across = Scale(min(xs), max(xs), left, left + 180, log=True)
    up = Scale(min(ys) / 1.5, max(ys) * 1.5, top + 110, top + 10, log=True)
    grid = [line(left, up(tick), left + 180, up(tick), "grid") for tick in ratio_ticks(up.low, up.high)]
    ticks = [text(left - 6, up(tick) + 4, f"{tick:.3g}", anchor="end") for tick in ratio_ticks(up.low, up.high)]
    feet = [text(across(x), top + 128, f"{x:,.0f}", anchor="middle") for x in xs]
    path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
    names = [text(left, top, "ms an image", "title"), text(left + 90, top + 148, title, anchor="middle")]
    return [*grid, *ticks, *feet, element("polyline", points=path, class_="curve"), *names]


if __name__ == "__main__":
    main()
