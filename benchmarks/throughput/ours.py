"""medprior's side: from the folder through index, store and epochs; afterwards the step alone, and a bare loop.

python benchmarks/throughput/ours.py JOB        JOB is the JSON that compare.py writes
"""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as the command line sets it

import torch
from clock import Clock, job
from share import PAIRS, Beside

from medprior import __version__
from medprior.data.catalog import build_catalog
from medprior.training.benchmark import enough_memory, measure
from medprior.training.benchtrainer import Asked, build_store, flops_per_image, make_trainer
from medprior.training.device import computing
from medprior.training.loop import Trainer

STEPS = {"cpu": 4, "cuda": 20}
REPEATS = 5


def main() -> None:
    asked = job()
    device = torch.device(asked["device"])
    steps, repeats = (1, 1) if asked["backbone"].startswith("test_") else (STEPS[device.type], REPEATS)
    task = Asked(
        asked["method"], asked["preset"], asked["backbone"], asked["size"], asked["dims"], asked["batch"],
        steps=asked["epochs"] * (asked["images"] // asked["batch"]) + 2 * steps, repeats=2 * repeats,
    )  # fmt: skip
    with computing():
        clock = Clock(device.type)
        catalog = build_catalog(Path(asked["folders"]["images"]))
        indexed = clock.mark()
        store = build_store(catalog, Path(asked["folders"]["place"]) / "store", asked["stored"], asked["dims"])
        stored = clock.mark()
        trainer = make_trainer(task, store, device)
        images = run(trainer, asked["epochs"], clock)
        clock.report(images, index_seconds=indexed, store_seconds=stored, version=__version__)
        with enough_memory(task.batch):
            speed = measure(trainer, flops_per_image(trainer), steps=steps, repeats=repeats)
            beside = Beside.of(trainer, *(PAIRS[device.type] if repeats > 1 else (1, 1)))
        placement = f"{trainer.store.placement.kind}: {trainer.store.placement.reason}"
        trainer.close()
    print(json.dumps({"placement": placement, "parts": speed.told(), **beside.told()}))


def run(trainer: Trainer, epochs: int, clock: Clock) -> int:
    """Train for some epochs; returns the images of one."""
    for _ in range(epochs):
        for _ in range(trainer.sampler.steps_per_epoch):
            trainer.step()
        clock.epoch()
    return trainer.sampler.steps_per_epoch * trainer.sampler.batch_size


if __name__ == "__main__":
    main()
