"""Pre-training without labels, and encoders that come from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from medprior.config import Settings
from medprior.data.catalogfile import save_catalog
from medprior.data.splits import Split
from medprior.files import alone_in, make_folder
from medprior.progress import Progress, silent
from medprior.study.arms import BORROWED, Pretraining
from medprior.study.canvas import whole_canvas
from medprior.study.ground import Ground
from medprior.study.planning.choice import check_methods, chosen_methods
from medprior.study.planning.found import catalog_lines, write_problems
from medprior.study.planning.plan import DEFAULT_MINUTES
from medprior.study.planning.reading import index_all
from medprior.study.planning.words import pixels_line
from medprior.study.pretraining import make_trainer, run_pretraining, training_preset
from medprior.study.record import Record
from medprior.tasks.classification import Classification
from medprior.training.device import computing, pick_device
from medprior.training.interrupt import Stop, never

WARM, TIMED = 2, 5


def pretrain_alone(
    scans: Path, settings: Settings, out: Path, *, progress: Progress = silent, stop: Stop = never
) -> list[Path]:
    """Pre-train each asked-for method on every scan of a folder; returns the run folders. The same call resumes."""
    device = pick_device(settings.study.device)
    check_methods(settings)
    make_folder(out)
    with alone_in(out), computing(settings.study.threads):
        return list(_pretrain_each(scans, settings, out, device, progress, stop))


def _pretrain_each(
    scans: Path, settings: Settings, out: Path, device: torch.device, progress: Progress, stop: Stop
) -> Iterator[Path]:
    record = Record.open(out, settings)
    ground = unlabelled_ground(scans, settings, out, device.type == "cuda", progress)
    record.same_data(ground.catalog.fingerprint())
    store = ground.store.resident(device, settings.data.placement)
    progress.say(pixels_line(store))
    pairs = chosen_methods(settings, ground.spatial_dims, device.type == "cuda", learning=True)
    seconds = (settings.study.minutes or DEFAULT_MINUTES) * 60 / len(pairs)
    for method, backbone in pairs:
        which = Pretraining(method, backbone, fold=0, seed=0)
        steps = record.facts.setdefault("steps", {}).get(f"{method}/{backbone}")
        if steps is None:
            steps = settings.pretrain.steps or _affordable(ground, store, settings, method, backbone, seconds)
            record.facts["steps"][f"{method}/{backbone}"] = steps
            record.same_data(ground.catalog.fingerprint())
        progress.say(f"Plan     {method} on {backbone}: {steps:,} steps, {ground.base.size} px views")
        yield run_pretraining(ground, store, settings, which, steps, out, progress=progress, stop=stop)


def unlabelled_ground(scans: Path, settings: Settings, out: Path, on_gpu: bool, progress: Progress = silent) -> Ground:
    """The ground of a pre-training alone: every readable scan may be seen, nothing is tested."""
    catalog = index_all(scans, settings, out, progress)
    write_problems(catalog, out)
    for line in catalog_lines(catalog):
        progress.say(line)
    catalog.table["labelled"] = False
    save_catalog(catalog, out / "catalog.parquet")
    canvas = whole_canvas(catalog, settings, out, on_gpu, progress)
    nothing = np.empty(0, np.int64)
    split = Split(
        test=nothing, val=nothing, pool=nothing, unlabelled=np.arange(len(catalog)), given=False, fold=0, repeat=0
    )
    task = Classification("multiclass", ())
    return Ground(catalog, task, (split,), canvas.store, canvas.base, (), settings.study.seed)


def _affordable(ground: Ground, store: object, settings: Settings, method: str, backbone: str, seconds: float) -> int:
    if method in BORROWED:
        return 1
    trainer = make_trainer(ground, store, settings, method, backbone, fold=0, seed=0, steps=WARM + TIMED)  # type: ignore[arg-type]
    trainer.method.train()
    times = []
    for _ in range(WARM + TIMED):
        began = time.perf_counter()
        trainer.step()
        times.append(time.perf_counter() - began)
    preset = training_preset(settings, method)
    most = preset.epochs * trainer.sampler.steps_per_epoch
    return max(1, min(most, int(seconds / float(np.median(times[WARM:])))))
