"""A trainer to measure with: the method and encoder asked for, on a folder of scans or on generated ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from medprior.backbones.factory import check_fit, create_encoder
from medprior.data.catalog import Catalog, build_catalog
from medprior.data.store.pixels import PixelStore, ResidentStore
from medprior.errors import SettingsError
from medprior.files import make_folder
from medprior.methods import METHODS
from medprior.methods.factory import create_method, make_config, presets
from medprior.methods.method import Batch, Clock, DataFacts, Method, TrainingPreset
from medprior.progress import Progress, silent
from medprior.training.benchmark import Speed, enough_memory, steps_needed
from medprior.training.flops import number_format, step_flops
from medprior.training.generated import write_generated
from medprior.training.loop import PretrainPlan, Trainer
from medprior.training.optim import OptimizerPlan, scaled_lr
from medprior.training.run import environment
from medprior.views.engine import render
from medprior.views.recipe import ViewRecipe, base_recipe

COUNTED = 8
"""Images whose operations are counted."""
GENERATED = {2: 512, 3: 16}
"""Generated images and volumes, or twice the batch where that is more."""
SEED = 0
SCHEMA = 1


@dataclass(frozen=True)
class Asked:
    """What to measure.

    Attributes:
        size: pixels along each axis of a view.
        spatial_dims: 2 or 3.
        batch: images per step.
        steps: of each timing.
        repeats: timings of each part.
    """

    method: str
    preset: str
    backbone: str
    size: int
    spatial_dims: int
    batch: int
    steps: int
    repeats: int

    def check(self) -> None:
        """Refuse unknown names, and an encoder that does not go with the method or the size, before any work.

        Raises:
            SettingsError: with the nearest right name, or what is allowed.
        """
        kind: type[Method] = METHODS.get(self.method)
        make_config(self.method, self.preset)
        encoder = create_encoder(self.backbone, 1, self.spatial_dims, self.size)
        check_fit(kind.needs, self.backbone, encoder.kind, self.method)

    @property
    def stored_size(self) -> int:
        """Pixels along each axis that are stored: twice the view, so that a crop of a quarter of the scan is sharp."""
        return 2 * self.size if self.spatial_dims == 2 else self.size * 3 // 2


@dataclass(frozen=True)
class Subject:
    """A trainer to measure, and the operations of its model for one image."""

    trainer: Trainer
    flops: float


@contextmanager
def subject(
    asked: Asked, scans: Path | None, out: Path, device: torch.device, progress: Progress = silent
) -> Iterator[Subject]:
    """The trainer of `asked` on the scans, or on generated ones that are gone afterwards.

    Raises:
        DataError: no scans, or of other axes.
        SettingsError: a name or a size that cannot be used.
        RunError: the memory is too small.
    """
    asked.check()
    make_folder(out)
    with TemporaryDirectory(dir=out, prefix=".generated-") as aside:
        place = out / "store"
        if scans is None:
            scans, place = Path(aside) / "scans", Path(aside) / "store"
            make_folder(scans)
            count = max(GENERATED[asked.spatial_dims], 2 * asked.batch)
            write_generated(scans, count, asked.stored_size, asked.spatial_dims, seed=SEED, progress=progress)
        catalog = build_catalog(scans, progress=progress)
        store = PixelStore.build(
            catalog, place, size=asked.stored_size, spatial_dims=asked.spatial_dims, progress=progress
        )
        with enough_memory(asked.batch):
            yield make_subject(asked, catalog, store, device)


def make_subject(asked: Asked, catalog: Catalog, store: PixelStore, device: torch.device) -> Subject:
    """The trainer of `asked` on a store."""
    rows = np.flatnonzero(~store.failed)
    if len(rows) < asked.batch:
        raise SettingsError(
            f"{len(rows)} scans are too few for {asked.batch} a step", where="--batch", do=f"Use --batch {len(rows)}"
        )
    base = base_recipe(None, asked.size, asked.spatial_dims)
    method = _method(asked, store, len(rows)).to(device).train()
    resident = store.resident(device)
    flops = _flops_per_image(method, resident, rows[: min(COUNTED, asked.batch)], base)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    plan = PretrainPlan(steps_needed(asked.steps, asked.repeats), asked.batch, _optimizer(asked), SEED)
    return Subject(Trainer(method, resident, rows, plan, base), flops)


def _method(asked: Asked, store: PixelStore, count: int) -> Method:
    channels, dims = store.channels, asked.spatial_dims
    encoder = create_encoder(asked.backbone, channels, dims, asked.size, mean=store.mean, std=store.std, seed=SEED)
    facts = DataFacts(count, channels, dims, asked.size, store.mean, store.std)
    return create_method(asked.method, encoder, asked.preset, facts=facts, seed=SEED)


def _optimizer(asked: Asked) -> OptimizerPlan:
    preset = TrainingPreset.model_validate(presets(asked.method)[asked.preset]["training"])
    lr = scaled_lr(preset.lr, asked.batch, preset.lr_per)
    return OptimizerPlan(preset.optimizer, lr, preset.weight_decay, preset.betas, preset.momentum, clip=preset.clip)


def _flops_per_image(method: Method, store: ResidentStore, rows: np.ndarray, base: ViewRecipe) -> float:
    stored = store.batch(torch.from_numpy(rows))
    views = render(stored, method.views(base), seed=SEED, step=0)
    batch = Batch(index=stored.index, seed=SEED, clock=Clock(0, 1))
    return step_flops(method, views, batch) / len(rows)


def report(asked: Asked, found: Subject, speed: Speed, *, generated: bool) -> dict[str, Any]:
    """Everything that was asked, found and measured, as plain data that can be understood without medprior."""
    trainer = found.trainer
    device, placement = trainer.device, trainer.store.placement
    return {
        "schema": SCHEMA,
        "asked": asdict(asked),
        "scans": {"count": len(trainer.sampler.rows), "generated": generated, "stored_size": trainer.store.store.size},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "precision": str(number_format(device)).removeprefix("torch."),
        "placement": {"kind": placement.kind, "reason": placement.reason},
        **speed.told(),
        "environment": environment(),
    }
