"""Every registered encoder in the form of every target that can hold it, loaded back by the library itself.

    OMP_NUM_THREADS=1 python benchmarks/export/run.py

A row of `results.csv` is written as soon as it is known; what stands there already is not done again. The table of
README.md is drawn from it.
"""

from __future__ import annotations

import csv
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from medprior.backbones.export.targets import TARGETS, difference, encoder_form, expected_of  # noqa: E402
from medprior.errors import RunError, SettingsError  # noqa: E402
from shaken import shaken  # noqa: E402

RESULTS, README = HERE / "results.csv", HERE / "README.md"
COLUMNS = ("backbone", "dims", "size", "channels", "target", "outcome", "difference", "megabytes", "seconds", "with")
MARK = "<!-- drawn by run.py from results.csv -->"
OWN = ("unet_16", "resenc_16", "segresnet_16", "swin_unetr_12", "swin_unetr_first_12")
CNNS = ("resnet18", "convnext_atto", "efficientnet_b0", "densenet121")
VITS = ("vit_micro_patch8", "vit_tiny")
IMAGES = (*CNNS, "resnet50", "convnext_tiny", "swin_tiny", *VITS, "vit_small", *OWN[:-1])
VOLUMES = (*CNNS, *VITS, *OWN)
SHAPES = {2: (64, 1), 3: (32, 2)}
"""Pixels along a side and channels, by number of axes."""
SIZES = {"swin_tiny": 224}
"""Of those whose windows do not fit into fewer."""
LIBRARIES = {"huggingface": "timm", "onnx": "onnxruntime", "safetensors": "safetensors"}


def main() -> None:
    torch.set_num_threads(1)
    known = {(row["backbone"], int(row["dims"])) for row in read()}
    for dims, names in ((2, IMAGES), (3, VOLUMES)):
        for name in names:
            if (name, dims) not in known:
                add(trips(name, dims))
    README.write_text(drawn(), encoding="utf-8")


def trips(name: str, dims: int) -> list[dict[str, object]]:
    """The rows of an encoder: one for every target."""
    size, channels = SHAPES[dims]
    size = SIZES.get(name, size)
    encoder = shaken(name, channels, dims, size)
    rows = []
    for target in TARGETS:
        began = time.perf_counter()
        library = LIBRARIES.get(target, target)
        row = {"backbone": name, "dims": dims, "size": size, "channels": channels, "target": target}
        with TemporaryDirectory() as place:
            row |= trip(encoder, target, Path(place))
        seconds = round(time.perf_counter() - began, 1)
        rows.append(
            {"difference": "", "megabytes": "", **row, "seconds": seconds, "with": f"{library} {version(library)}"}
        )
        print(*rows[-1].values(), sep="\t", flush=True)
    return rows


def trip(encoder: object, target: str, folder: Path) -> dict[str, object]:
    try:
        form = encoder_form(encoder, target)
        form.write(folder)
        apart = difference(form, folder, expected_of(encoder))
    except SettingsError as error:
        return {"outcome": f"refused: {error.what}"}
    except RunError as error:
        return {"outcome": f"fails: {error.what}"}
    bytes_ = sum(file.stat().st_size for file in folder.iterdir())
    return {"outcome": "passes", "difference": f"{apart:.1e}", "megabytes": round(bytes_ / 2**20, 1)}


def read() -> list[dict[str, str]]:
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def add(rows: list[dict[str, object]]) -> None:
    first = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if first:
            writer.writeheader()
        writer.writerows(rows)


def drawn() -> str:
    """README.md with its table anew: the largest difference of each pair, or a letter for the reason."""
    rows = read()
    reasons = list(dict.fromkeys(reason(row) for row in rows if row["outcome"] != "passes"))
    letters = {reason: chr(ord("a") + number) for number, reason in enumerate(reasons)}
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        shape = f"{row['dims']}D, {row['size']} px"
        shown = row["difference"] if row["outcome"] == "passes" else letters[reason(row)]
        cells.setdefault((row["backbone"], shape), {})[row["target"]] = shown
    counts = {kind: sum(row["outcome"].startswith(kind) for row in rows) for kind in ("passes", "refused", "fails")}
    table = ["| encoder | images | " + " | ".join(TARGETS) + " |", "|---" * (2 + len(TARGETS)) + "|"]
    table += [
        f"| `{name}` | {shape} | {' | '.join(found[t] for t in TARGETS)} |" for (name, shape), found in cells.items()
    ]
    said = f"Of {len(rows)} pairs {counts['passes']} pass, {counts['refused']} cannot be, {counts['fails']} fail."
    explained = [f"- {letter}: {reason}" for reason, letter in letters.items()]
    before = README.read_text(encoding="utf-8").partition(MARK)[0] if README.exists() else ""
    return "\n".join([f"{before}{MARK}", "", said, "", *table, "", *explained]) + "\n"


def reason(row: dict[str, str]) -> str:
    """The outcome without the name of the encoder."""
    return row["outcome"].replace(row["backbone"], "this encoder", 1)


if __name__ == "__main__":
    main()
