"""The tables of the README and its picture, drawn from results/*.csv.

    python benchmarks/statistics/draw.py            writes README.md between its marks, and rates.svg

A test compares what is drawn with what is committed.
"""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import grid
from promises import PROMISES, Promise, Row, between, enough, percent, said, single, smallest

from medprior.evaluation.intervals import FEWEST
from medprior.report.axes import Scale, element, line, picture, text

HERE = Path(__file__).parent
README, PICTURE = HERE / "README.md", HERE / "rates.svg"
BEGIN, END = "<!-- drawn:begin -->", "<!-- drawn:end -->"
SHOWN = 3
"""Worst cells of each promise in the table."""
STEP = 0.001
"""Dots of rates that are as close as this stand above one another."""
CLOSED = 0.1
"""Share of intervals with an open end under which they can be said to miss on both sides."""
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #4a5560 } .name { fill: #1d2730; font-weight: 600 }
.band { fill: #d7eeea } .grid { stroke: #dfe5ea } .kept { fill: #0f766e } .missed { fill: #c2410c }
.none { fill: none; stroke: #7b8794 }
@media (prefers-color-scheme: dark) { svg { background: #14191e } text { fill: #b8c2cc } .name { fill: #eef2f5 }
.band { fill: #17443f } .grid { stroke: #333d47 } .kept { fill: #5eead4 } .missed { fill: #fb923c } }
"""


def main() -> None:
    README.write_text(replaced(README.read_text(), section()))
    PICTURE.write_text(figure() + "\n")


def replaced(page: str, body: str) -> str:
    """The page with `body` between the marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{body}{END}{after}"


def read(part: str) -> list[Row]:
    """The finished cells of a part."""
    file = HERE / "results" / f"{part}.csv"
    return list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []


def planned(part: str) -> list[Row]:
    """All cells of a part, as a table would name them."""
    return [{key: str(value) for key, value in cell.items()} for cell in getattr(grid, part)()]


def section() -> str:
    tables = {part: read(part) for part in ("arms", "dice", "saved", "many")}
    parts = (
        kept_table(tables),
        closed_line(tables["saved"]),
        seeds_table(tables),
        worst_table(tables),
        few_table(tables["arms"]),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def kept_table(tables: dict[str, list[Row]]) -> Iterator[str]:
    """One line for each promise."""
    yield "| rate | promised | cells | keep it | below | above | miss it surely | lowest | median | highest |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for promise in PROMISES:
        cells, whole = promise.cells(tables[promise.part]), len(promise.cells(planned(promise.part)))
        if not cells:
            yield f"| {promise.title} | | 0 of {whole} |"
            continue
        rates = sorted(float(row[promise.column]) for row in cells)
        below, above = sum(rate < promise.low for rate in rates), sum(rate > promise.high for rate in rates)
        promised = f"{percent(promise.low, 0)} to {percent(promise.high, 0)}"
        done = f"{len(cells)} of {whole}" if len(cells) < whole else whole
        counts = [done, len(cells) - below - above, below, above, sum(map(promise.surely_missed, cells))]
        seen = [percent(rate) for rate in (rates[0], rates[len(rates) // 2], rates[-1])]
        yield f"| {promise.title} | {promised} | {' | '.join([*map(str, counts), *seen])} |"


def closed_line(rows: Sequence[Row]) -> Iterator[str]:
    """What labels saved cover where few intervals are open, and so can miss on both sides."""
    inside = [row for row in rows if single(row)]
    closed = [row for row in inside if float(row["open below"]) + float(row["open above"]) < CLOSED]
    yield (
        f"Labels saved, where one number inside the measured range is the truth: in {len(closed)} of {len(inside)} "
        f"cells fewer than {percent(CLOSED, 0)} of the intervals have an open end; they hold the truth in "
        f"{span(closed, 'covered')} of studies."
    )


def seeds_table(tables: dict[str, list[Row]]) -> Iterator[str]:
    """Rejections of a true null by what matters most to them."""
    yield "Rejections of a true null, of the cells that promise 4 to 6%:"
    yield ""
    yield "| seeds | seed variance | AUROC: cells | keep it | from, to | Dice: cells | keep it | from, to |"
    yield "|---|---|---|---|---|---|---|---|"
    promises = [promise for promise in PROMISES if promise.column == "rejected"]
    for seeds, luck in itertools.product(("3", "5", "10"), ("0", "1")):
        line = [seeds, luck]
        for promise in promises:
            rows = promise.cells(tables[promise.part])
            own = [row for row in rows if (row["seeds"], row["luck"]) == (seeds, luck)]
            line += [str(len(own)), str(sum(map(promise.kept, own))), span(own, promise.column)]
        yield f"| {' | '.join(line)} |"


def worst_table(tables: dict[str, list[Row]]) -> Iterator[str]:
    """The cells that are furthest from what was promised."""
    yield f"The {SHOWN} worst cells of every promise that is not kept everywhere:"
    yield ""
    yield "| rate | in this cell | 95% interval | cell |"
    yield "|---|---|---|---|"
    for promise in PROMISES:
        missed = [row for row in promise.cells(tables[promise.part]) if not promise.kept(row)]
        for row in sorted(missed, key=promise.beyond, reverse=True)[:SHOWN]:
            low, high = between(row, promise.column)
            rate = percent(float(row[promise.column]))
            yield f"| {promise.title} | {rate} | {percent(low)} to {percent(high)} | {said(row)} |"


def few_table(rows: Sequence[Row]) -> Iterator[str]:
    """What the same formulas do where nothing is promised."""
    few = [row for row in rows if not enough(row)]
    if not few:
        return
    yield f"The {len(few)} cells of `arms` with fewer than {FEWEST} patients in a class, of which verdicts say none:"
    yield ""
    yield "| patients in the smallest class | cells | interval of an arm covers | of a difference | null rejected |"
    yield "|---|---|---|---|---|"
    for count in sorted({smallest(row) for row in few}):
        own = [row for row in few if smallest(row) == count]
        spans = " | ".join(span(own, column) for column in ("covered", "difference covered", "rejected"))
        yield f"| {count} | {len(own)} | {spans} |"


def span(rows: Sequence[Row], column: str) -> str:
    rates = [float(row[column]) for row in rows]
    if not rates:
        return ""
    return f"{percent(min(rates))} to {percent(max(rates))}"


STRIPS = [
    ("arms", "covered", (0.93, 0.97), "AUROC: an arm's interval holds the truth"),
    ("arms", "rejected", (0.04, 0.06), "AUROC: a true null is rejected"),
    ("dice", "covered", (0.93, 0.97), "Dice: an arm's interval holds the truth"),
    ("dice", "rejected", (0.04, 0.06), "Dice: a true null is rejected"),
    ("saved", "covered", (0.93, 0.97), "Labels saved: the interval holds the truth"),
]


def figure() -> str:
    """A strip for each rate, a dot for each cell."""
    drawn: list[str] = []
    y = 22.0
    for part, column, band, title in STRIPS:
        if not read(part):
            continue
        dots, height = strip(read(part), part, column, band, title, y)
        drawn += dots
        y += height
    key = [("kept", "as promised"), ("missed", "not"), ("none", "nothing promised: too few patients")]
    for place, (class_, label) in enumerate(key):
        x = 20.0 + 110 * place
        drawn += [element("circle", cx=x, cy=y, r=3.5, class_=class_), text(x + 9, y + 4, label)]
    whole = picture(760, y + 16, "Rates of all cells beside what is promised", drawn, "rates")
    return str(whole).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        ">", f"><style>{STYLE}</style>", 1
    )  # fmt: skip


def strip(
    rows: Sequence[Row], part: str, column: str, band: tuple[float, float], title: str, y: float
) -> tuple[list[str], float]:
    """Dots in heaps, the limits of the promise behind them, and how high all that is."""
    promises = [promise for promise in PROMISES if (promise.part, promise.column) == (part, column)]
    rates = [float(row[column]) for row in rows]
    low, high = (0.9, 1.0) if column == "covered" else (0.0, 0.1)
    places = [round(min(max(rate, low), high) / STEP) for rate in rates]
    tallest = 14 + 7.0 * max(Counter(places).values())
    scale, floor, heaps = Scale(low, high, 20, 740), y + 8 + tallest, Counter[int]()
    drawn = [text(0.0, y, title, "name")]
    drawn.append(element("rect", x=scale(band[0]), y=y + 8, width=scale(band[1]) - scale(band[0]), height=tallest, class_="band"))  # fmt: skip # noqa: E501
    drawn.append(line(20.0, floor, 740.0, floor, "grid"))
    for tick in range(11):
        rate = low + tick * (high - low) / 10
        drawn.append(text(scale(rate), floor + 15, percent(rate, 0), anchor="middle"))
    for row, place in sorted(zip(rows, places, strict=True), key=lambda pair: dot(promises, pair[0])):
        cy = floor - 6 - 7.0 * heaps[place]
        heaps[place] += 1
        drawn.append(element("circle", cx=scale(place * STEP), cy=cy, r=2.8, class_=dot(promises, row)))
    outside = sum(not low <= rate <= high for rate in rates)
    if outside:
        drawn.append(text(740.0, y, f"{outside} cells lie outside, and stand at the edge", anchor="end"))
    return drawn, tallest + 50


def dot(promises: Sequence[Promise], row: Row) -> str:
    meant = [promise for promise in promises if promise.meant(row)]
    if not meant:
        return "none"
    return "kept" if all(promise.kept(row) for promise in meant) else "missed"


if __name__ == "__main__":
    main()
