"""What this machine does in a second, measured on the real store before anything is promised."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from medprior.config import Settings
from medprior.progress import Progress, silent
from medprior.study.arms import BORROWED, Grid
from medprior.study.cells import Bench
from medprior.study.ground import Ground, Resident
from medprior.study.outlining import annotated, score_outlines, volumes_of
from medprior.study.planning.plan import Rates
from medprior.study.pretraining import make_encoder, make_trainer
from medprior.study.workers import cell_threads
from medprior.training.adapt import Labelled, embed, fit
from medprior.training.corrupted import under_corruptions
from medprior.training.descent import Recipe
from medprior.training.device import threads
from medprior.training.segment import fit_segmenter
from medprior.views.degrading import SUITE

WARM, TIMED = 2, 5
CORRUPTED = 16
"""Images on which it is measured how long corruptions take."""


def measure_rates(
    ground: Ground, store: Resident, grid: Grid, settings: Settings, progress: Progress = silent
) -> Rates:
    """Time a few real steps of every training the study will run; nothing learnt here is kept."""
    pretrain, adapt, embedded, tested, corrupted = {}, {}, {}, {}, {}
    bench, rows = Bench(ground, store, settings, {}, Path()), ground.usable(ground.splits[0].pool)
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
                if ground.outlined:
                    adapt[backbone], tested[backbone] = _outlining(bench, backbone, rows)
                    embedded[backbone] = 0.0
                else:
                    adapt[backbone], embedded[backbone] = _adaptation(bench, backbone, rows)
                    corrupted[backbone] = _corrupting(bench, rows) + len(SUITE) * embedded[backbone]
            bar.advance()
    return Rates(pretrain, adapt, embedded, tested, corrupted)


def _adaptation(bench: Bench, backbone: str, rows: np.ndarray) -> tuple[float, float]:
    """Seconds of a step, and of one embedded image."""
    ground, store = bench.ground, bench.pixels
    encoder = make_encoder(ground, store, backbone, fold=0, seed=0)
    labelled = Labelled(rows, ground.targets[rows])
    marks = _Marks(store.device)
    recipe = Recipe(steps=WARM + TIMED + 1, batch_size=bench.settings.adapt.batch_size, average=1e-6)
    fit(encoder, ground.classification, store, labelled, recipe, ground.base, seed=0, tick=marks.set)
    some = rows[:256]
    began = time.perf_counter()
    embed(encoder, store, some, ground.base)
    return marks.step(), (time.perf_counter() - began) / len(some)


def _corrupting(bench: Bench, rows: np.ndarray) -> float:
    """Seconds that an image takes to be corrupted in every way, by a model that answers at once."""
    if not bench.settings.study.corruptions:
        return 0.0
    ground, few = bench.ground, rows[:CORRUPTED]

    def answer(pixels: torch.Tensor) -> np.ndarray:
        _wait(pixels.device)
        return np.zeros((len(pixels), 1))

    under_corruptions(answer, bench.pixels, few[:1], ground.base, seed=0)  # imports what writes JPEG
    began = time.perf_counter()
    under_corruptions(answer, bench.pixels, few, ground.base, seed=0)
    return (time.perf_counter() - began) / len(few)


def _outlining(bench: Bench, backbone: str, rows: np.ndarray) -> tuple[float, float]:
    """Seconds of a step, and of one scan that is outlined and scored."""
    ground, store = bench.ground, volumes_of(bench)
    encoder = make_encoder(ground, store, backbone, fold=0, seed=0)
    marks, learnt = _Marks(store.device), annotated(ground, rows)
    recipe = Recipe(steps=WARM + TIMED + 1, batch_size=ground.crops, average=1e-6)
    task, foreground = ground.outlines, ground.foreground
    model = fit_segmenter(
        encoder, task, store, learnt, recipe, ground.base, foreground=foreground, seed=0, tick=marks.set
    )
    some = annotated(ground, ground.splits[0].test)[: WARM + 1]
    score_outlines(bench, model, some[:1])  # imports what measures surfaces
    began = time.perf_counter()
    score_outlines(bench, model, some)
    return marks.step(), (time.perf_counter() - began) / max(1, len(some))


class _Marks:
    """When each step of a training ended."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.times = device, list[float]()

    def set(self) -> None:
        _wait(self.device)
        self.times.append(time.perf_counter())

    def step(self) -> float:
        """Median seconds of a step, the first ones left out."""
        return float(np.median(np.diff(self.times)[WARM:]))


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
