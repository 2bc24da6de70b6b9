"""What this machine does in a second, measured on the real store before anything is promised."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from medprior.config import Settings
from medprior.data.store.pixels import ResidentStore
from medprior.progress import Progress, silent
from medprior.study.arms import BORROWED, Grid
from medprior.study.ground import Ground
from medprior.study.plan import Rates
from medprior.study.pretraining import make_encoder, make_trainer
from medprior.study.workers import cell_threads
from medprior.training.adapt import Labelled, embed, fit
from medprior.training.descent import Recipe
from medprior.training.device import threads

WARM, TIMED = 2, 5


def measure_rates(
    ground: Ground, store: ResidentStore, grid: Grid, settings: Settings, progress: Progress = silent
) -> Rates:
    """Time a few real steps of every training the study will run; nothing learnt here is kept."""
    pretrain, adapt, embedded = {}, {}, {}
    rows = ground.usable(ground.splits[0].pool)
    with progress.task("Measuring this machine", len(grid.methods) + len(grid.backbones)) as bar:
        for method, backbone in grid.methods:
            if method in BORROWED:
                pretrain[(method, backbone)] = 1e-3
                continue
            trainer = make_trainer(ground, store, settings, method, backbone, fold=0, seed=0, steps=WARM + TIMED)
            trainer.method.train()
            pretrain[(method, backbone)] = _median_seconds(trainer.step, store.device)
            bar.advance()
        for backbone in grid.backbones:
            with threads(cell_threads(settings)):
                adapt[backbone], embedded[backbone] = _adaptation(ground, store, backbone, rows, settings)
            bar.advance()
    return Rates(pretrain, adapt, embedded)


def _adaptation(
    ground: Ground, store: ResidentStore, backbone: str, rows: np.ndarray, settings: Settings
) -> tuple[float, float]:
    encoder = make_encoder(ground, store, backbone, fold=0, seed=0)
    labelled = Labelled(rows, ground.targets[rows])
    marks: list[float] = []

    def tick() -> None:
        _wait(store.device)
        marks.append(time.perf_counter())

    recipe = Recipe(steps=WARM + TIMED + 1, batch_size=settings.adapt.batch_size, average=1e-6)
    fit(encoder, ground.task, store, labelled, recipe, ground.base, seed=0, tick=tick)
    step = float(np.median(np.diff(marks)[WARM:]))
    some = rows[:256]
    began = time.perf_counter()
    embed(encoder, store, some, ground.base)
    return step, (time.perf_counter() - began) / len(some)


def _median_seconds(action: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(WARM + TIMED):
        began = time.perf_counter()
        action()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[WARM:]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
