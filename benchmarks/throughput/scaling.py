"""How medprior's cost grows with the size of the views, the batch, and the number of images; one line per point.

python benchmarks/throughput/scaling.py JOB        JOB is the JSON that compare.py writes
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clock import job

from medprior.data.catalog import build_catalog
from medprior.training.benchmark import measure
from medprior.training.benchtrainer import Asked, build_store, flops_per_image, subject
from medprior.training.device import computing
from medprior.training.generated import write_generated

STEPS, REPEATS = 15, 3


def main() -> None:
    asked = job()
    device, toy = torch.device(asked["device"]), asked["backbone"].startswith("test_")
    place, size, batch = Path(asked["folders"]["place"]), asked["size"], asked["batch"]
    with computing():
        for side in [32, 64] if toy else [96, 160, 224, 320]:
            tell("size", side, point(asked, side, batch, device, place))
        for count in [4, 8] if toy else [32, 64, 256, 512]:
            tell("batch", count, point(asked, size, count, device, place))
        for count in [16, 32] if toy else [1_000, 4_000, 16_000, 64_000]:
            tell("images", count, prepared(count, size, place))


def tell(axis: str, value: int, found: dict[str, Any]) -> None:
    print(json.dumps({"axis": axis, "value": value, **found}), flush=True)


def point(asked: dict[str, Any], size: int, batch: int, device: torch.device, place: Path) -> dict[str, Any]:
    """Rates of one size and batch on generated images."""
    steps, repeats = (1, 1) if asked["backbone"].startswith("test_") else (STEPS, REPEATS)
    task = Asked("mae", "small", asked["backbone"], size, 2, batch, steps, repeats)
    with subject(task, None, place, device) as trainer:
        told = measure(trainer, flops_per_image(trainer), steps=steps, repeats=repeats).told()
    return {"end_to_end": told["end_to_end"], "step": told["step"], "utilisation": told["utilisation"],
            "memory_bytes": told["peak_memory_bytes"]}  # fmt: skip


def prepared(count: int, size: int, place: Path) -> dict[str, Any]:
    """Seconds to index and to store `count` images, and to fetch a batch of them."""
    with tempfile.TemporaryDirectory(dir=place) as aside:
        folder = Path(aside) / "images"
        folder.mkdir()
        write_generated(folder, count, size, 2)
        began = time.perf_counter()
        catalog = build_catalog(folder)
        indexed = time.perf_counter()
        store = build_store(catalog, Path(aside) / "store", size, 2)
        stored = time.perf_counter()
        rows = torch.from_numpy(np.random.default_rng(0).integers(0, count, (20, 64)))
        resident = store.resident("cpu")
        loaded = time.perf_counter()
        for batch in rows:
            resident.batch(batch)
        fetched = time.perf_counter()
    return {"index_seconds": indexed - began, "store_seconds": stored - indexed,
            "fetch_seconds_per_image": (fetched - loaded) / rows.numel()}  # fmt: skip


if __name__ == "__main__":
    main()
