"""Every registered method with every family of encoders, in 2D and 3D: does it learn, and can it be taken up again?

    OMP_NUM_THREADS=1 python benchmarks/cross/run.py

What is asked of a pair stands in `tests/methods/test_every_method.py`, where the suite asks it of fewer pairs. A row of
`results.csv` is written as soon as it is known; what stands there already is not done again. The table of README.md
is drawn from it.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "methods"))

from test_every_method import learns_and_comes_back  # noqa: E402

from medprior.errors import MedpriorError  # noqa: E402
from medprior.methods import METHODS  # noqa: E402

RESULTS, README = HERE / "results.csv", HERE / "README.md"
COLUMNS = ("method", "backbone", "dims", "size", "channels", "outcome", "step", "loss_before", "loss_after", "seconds")
MARK = "<!-- drawn by run.py from results.csv -->"
FAMILIES = {
    "ResNet": "resnet18",
    "ConvNeXt": "convnext_atto",
    "EfficientNet": "efficientnet_b0",
    "DenseNet": "densenet121",
    "RegNet": "regnetx_002",
    "ViT": "vit_tiny_patch8",
    "Swin": "swin_tiny",
}
SHAPES = {2: (64, 1), 3: (32, 2)}
"""Pixels along a side and channels, by number of axes."""
STEPS = (0.01, 0.001, 0.0001)
"""Lengths of the step: a gradient that is right lowers the loss if the step is short enough."""
PASSES = "passes"


def main() -> None:
    torch.set_num_threads(1)
    known = {(row["method"], row["backbone"], int(row["dims"])) for row in read()}
    for method in METHODS.names():
        for backbone in FAMILIES.values():
            for dims, shape in SHAPES.items():
                if (method, backbone, dims) not in known:
                    add(try_pair(method, backbone, dims, *shape))
    README.write_text(drawn())


def try_pair(method: str, backbone: str, dims: int, size: int, channels: int) -> dict[str, object]:
    """A row: the pair passes at some length of the step, is refused with a reason, or fails with one."""
    row = {"method": method, "backbone": backbone, "dims": dims, "size": size, "channels": channels}
    began = time.perf_counter()
    for step in STEPS:
        row |= attempt(method, (backbone, dims, size, channels), step)
        if not str(row["outcome"]).startswith("fails"):
            break
    return {name: row.get(name, "") for name in COLUMNS} | {"seconds": round(time.perf_counter() - began, 2)}


def attempt(method: str, encoder: tuple[str, int, int, int], step: float) -> dict[str, object]:
    with TemporaryDirectory() as folder:
        try:
            before, after = learns_and_comes_back(method, encoder, Path(folder), step)
        except MedpriorError as error:
            return {"outcome": "refused: " + first_line(error)}
        except Exception as error:
            return {"outcome": f"fails: {type(error).__name__}: {first_line(error)}"}
    return {"outcome": PASSES, "step": step, "loss_before": f"{before:.6g}", "loss_after": f"{after:.6g}"}


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no word"])[0]


def read() -> list[dict[str, str]]:
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def add(row: dict[str, object]) -> None:
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(*row.values(), flush=True)


def drawn() -> str:
    """The README with the table and its reasons below the mark."""
    found = {(row["method"], row["backbone"], int(row["dims"])): row["outcome"] for row in read()}
    reasons: dict[str, str] = {}
    lines = [f"| method | {' | '.join(FAMILIES)} |", "|" + "---|" * (len(FAMILIES) + 1)]
    for method in sorted({method for method, _, _ in found}):
        cells = (" / ".join(cell(found[method, b, d], reasons) for d in SHAPES) for b in FAMILIES.values())
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    passed = sum(outcome == PASSES for outcome in found.values())
    failed = sum(outcome.startswith("fails") for outcome in found.values())
    sums = f"Of {len(found)} pairs {passed} pass, {len(found) - passed - failed} cannot be, {failed} fail."
    notes = [f"- {letter}: {outcome}" for outcome, letter in reasons.items()]
    above = README.read_text().partition(MARK)[0]
    return "\n".join([above + MARK, "", sums, "", *lines, "", *notes, ""])


def cell(outcome: str, reasons: dict[str, str]) -> str:
    """ "yes", or the letter of the reason; the method's own name is left out of it, so that like ones share one."""
    if outcome == PASSES:
        return "yes"
    return reasons.setdefault(outcome, chr(ord("a") + len(reasons)))


if __name__ == "__main__":
    main()
