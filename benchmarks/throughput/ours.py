"""medprior's side: from the folder through index, store and epochs; afterwards the step alone, and a bare loop.

python benchmarks/throughput/ours.py JOB        JOB is the JSON that compare.py writes
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as the command line sets it

import torch
from clock import Clock, job

from medprior import __version__
from medprior.data.catalog import build_catalog
from medprior.training.benchmark import WARM, enough_memory, measure, prepared
from medprior.training.benchtrainer import Asked, build_store, flops_per_image, make_trainer
from medprior.training.device import computing, precision
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
            ratio, bare = beside_bare(trainer, steps, repeats)
        placement = f"{trainer.store.placement.kind}: {trainer.store.placement.reason}"
        trainer.close()
    print(json.dumps({"placement": placement, "parts": speed.told(), "bare": bare, "share_of_bare": ratio}))


def run(trainer: Trainer, epochs: int, clock: Clock) -> int:
    """Train for some epochs; returns the images of one."""
    for _ in range(epochs):
        for _ in range(trainer.sampler.steps_per_epoch):
            trainer.step()
        clock.epoch()
    return trainer.sampler.steps_per_epoch * trainer.sampler.batch_size


def beside_bare(trainer: Trainer, steps: int, repeats: int) -> tuple[float, float]:
    """Whole steps beside a loop as one writes it by hand on views made once: the median ratio, and the bare rate."""
    made = prepared(trainer)
    optimizer = torch.optim.AdamW([w for w in trainer.method.parameters() if w.requires_grad], lr=0.0, fused=True)
    loss_of = torch.compile(trainer.method) if trainer.device.type == "cuda" else trainer.method

    def bare() -> None:
        with precision(trainer.device):
            loss = loss_of(made.views, made.batch)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    pairs = []
    for repeat in range(repeats):
        both = {}
        for work in (trainer.step, bare) if repeat % 2 == 0 else (bare, trainer.step):
            both[work] = rate(work, steps, trainer)
        pairs.append((both[trainer.step], both[bare]))
    return statistics.median(whole / alone for whole, alone in pairs), statistics.median(alone for _, alone in pairs)


def rate(work: Callable[[], object], steps: int, trainer: Trainer) -> float:
    """Images per second of `steps` times the work, after some that do not count."""
    clock = Clock(trainer.device.type)
    for number in range(WARM + steps):
        if number == WARM:
            clock.mark()
        work()
    return trainer.sampler.batch_size * steps / clock.mark()


if __name__ == "__main__":
    main()
