"""A trainer to measure with: the method and encoder asked for, on a folder of scans or on generated ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.backbones.factory import check_fit, create_encoder
from medprior.data.catalog import Catalog, build_catalog
from medprior.data.store.pixels import PixelStore
from medprior.data.store.resident import ResidentStore
from medprior.data.volumestore.resident import ResidentVolumes
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import SettingsError
from medprior.files import make_folder
from medprior.methods import METHODS
from medprior.methods.factory import create_method, make_config, presets
from medprior.methods.method import Batch, Clock, DataFacts, Method, TrainingPreset
from medprior.progress import Progress, silent
from medprior.training.benchmark import Speed, enough_memory, first_scans, steps_needed
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
Store = PixelStore | VolumeStore
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


@contextmanager
def subject(
    asked: Asked, scans: Path | None, out: Path, device: torch.device, progress: Progress = silent
) -> Iterator[Trainer]:
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
        store = build_store(catalog, place, asked.stored_size, asked.spatial_dims, progress)
        with enough_memory(asked.batch):
            trainer = make_trainer(asked, store, device)
            with closing(trainer):
                yield trainer


def build_store(catalog: Catalog, place: Path, size: int, spatial_dims: int, progress: Progress = silent) -> Store:
    """The scans as trainings read them: images at `size` pixels, volumes as they are.

    Raises:
        DataError: scans of other axes, or none that can be stored.
    """
    if spatial_dims == 3:
        return VolumeStore.build(catalog, place, spatial_dims=3, progress=progress)
    return PixelStore.build(catalog, place, size=size, progress=progress)


def make_trainer(asked: Asked, store: Store, device: torch.device) -> Trainer:
    """The trainer of `asked` on a store, with as many steps as `measure` takes.

    Raises:
        SettingsError: fewer scans than a step takes.
    """
    rows = store.stored if isinstance(store, VolumeStore) else np.flatnonzero(~store.failed)
    if len(rows) < asked.batch:
        raise SettingsError(
            f"{len(rows)} scans are too few for {asked.batch} a step", where="--batch", do=f"Use --batch {len(rows)}"
        )
    plan = PretrainPlan(steps_needed(asked.steps, asked.repeats), asked.batch, _optimizer(asked), SEED)
    resident = store.resident(device)
    method = _method(asked, resident, rows).to(device).train()
    return Trainer(method, resident, rows, plan, _base(asked))


def flops_per_image(trainer: Trainer) -> float:
    """Operations of the model for one image, forward and backward, counted on a few without compiling anything."""
    scans = first_scans(trainer, min(COUNTED, trainer.sampler.batch_size))
    seed, count = trainer.plan.seed, len(scans.index)
    views = render(scans, trainer.views, seed=seed, step=0)
    counted = step_flops(trainer.method, views, Batch(index=scans.index, seed=seed, clock=Clock(0, 1)))
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    return counted / count


def _base(asked: Asked) -> ViewRecipe:
    base = base_recipe(None, asked.size, asked.spatial_dims)
    return replace(base, pitch=(1.0, 1.0)) if asked.spatial_dims == 3 else base


def _method(asked: Asked, resident: ResidentStore | ResidentVolumes, rows: NDArray[np.int64]) -> Method:
    if isinstance(resident, ResidentVolumes):
        channels, (mean, std) = resident.volumes.channels(int(rows[0])), resident.moments(rows)
    else:
        channels, (mean, std) = resident.store.channels, resident.store.moments(rows)
    dims = asked.spatial_dims
    encoder = create_encoder(asked.backbone, channels, dims, asked.size, mean=mean, std=std, seed=SEED)
    facts = DataFacts(len(rows), channels, dims, asked.size, mean, std)
    return create_method(asked.method, encoder, asked.preset, facts=facts, seed=SEED)


def _optimizer(asked: Asked) -> OptimizerPlan:
    preset = TrainingPreset.model_validate(presets(asked.method)[asked.preset]["training"])
    lr = scaled_lr(preset.lr, asked.batch, preset.lr_per)
    return OptimizerPlan(preset.optimizer, lr, preset.weight_decay, preset.betas, preset.momentum, clip=preset.clip)


def report(asked: Asked, trainer: Trainer, speed: Speed, *, generated: bool) -> dict[str, Any]:
    """Everything that was asked, found and measured, as plain data that can be understood without medprior."""
    device, placement = trainer.device, trainer.store.placement
    return {
        "schema": SCHEMA,
        "asked": asdict(asked),
        "scans": {"count": len(trainer.sampler.rows), "generated": generated, "stored_size": asked.stored_size},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "precision": str(number_format(device)).removeprefix("torch."),
        "placement": {"kind": placement.kind, "reason": placement.reason},
        **speed.told(),
        "environment": environment(),
    }
