"""One pre-training run of a study: from the plan to an encoder in a folder, resumable."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic.main import IncEx

from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import create_encoder, follows_spacing
from medprior.backbones.source import read_source
from medprior.backbones.weights import load_encoder, save_encoder, whole_report
from medprior.config import Settings
from medprior.data.store.pixels import ResidentStore
from medprior.errors import MedpriorError, unknown
from medprior.files import make_folder, replace_file, write_json
from medprior.methods import METHODS
from medprior.methods.factory import create_method, presets
from medprior.methods.method import DataFacts, Method, TrainingPreset
from medprior.progress import Progress, silent
from medprior.study.arms import BORROWED, IMAGENET, Pretraining, begun_at, method_of
from medprior.study.ground import Ground, Resident
from medprior.training.adapt import embed
from medprior.training.diagnosis import Diagnosis, Labels
from medprior.training.interrupt import Stop, never
from medprior.training.loop import PretrainPlan, Trainer, pretrain
from medprior.training.optim import OptimizerPlan, scaled_lr
from medprior.training.run import Run

UNTOLD: IncEx = {"pretrain": {"methods", "arms", "seeds", "checkpoint_seconds", "compile"}}
"""Settings of a study that one pre-training run does not depend on."""
STARTED = "init.json"
"""What of the weights that a run began with was found, name by name."""


def seed_of(*parts: object) -> int:
    """A stable 31-bit seed from names and numbers: neighbours in a grid share no random stream."""
    return zlib.crc32("/".join(map(str, parts)).encode()) & 0x7FFFFFFF


def suitable_backbone(method: str, asked: str | None, spatial_dims: int, on_gpu: bool, outlines: bool = False) -> str:
    """The encoder asked for, or the default that fits method and machine; for `outlines` one of a U-Net.

    Raises:
        SettingsError: no such method.
    """
    kind: type[Method] = METHODS.get(method_of(method))
    if asked:
        return asked
    if outlines and kind.needs != "vit":
        return "unet" if on_gpu else "unet_8"
    if spatial_dims == 3 and not outlines:
        return "resnet18" if kind.needs == "cnn" else "vit_tiny"
    if kind.needs == "vit":
        return "vit_small" if on_gpu else "vit_micro_patch8"
    return "resnet50" if on_gpu else "resnet18"


def make_encoder(ground: Ground, store: Resident, backbone: str, *, fold: int, seed: int) -> Encoder:
    """A fresh encoder on the store's device, standardised by the scans it may see."""
    mean, std = ground.moments(fold)
    encoder = create_encoder(
        backbone,
        in_channels=ground.channels,
        spatial_dims=ground.spatial_dims,
        size=ground.base.size,
        mean=mean,
        std=std,
        seed=seed,
        spacing=seen_spacing(ground, backbone),
    )
    return encoder.to(store.device)


def seen_spacing(ground: Ground, backbone: str) -> tuple[float, ...] | None:
    """mm per voxel of crops, for encoders that halve thick slices less often or whose patches are given in mm."""
    in_mm = backbone.endswith("mm") or not backbone.startswith("vit")
    return ground.voxel if in_mm and follows_spacing(backbone) else None


def training_preset(settings: Settings, method: str) -> TrainingPreset:
    """The training half of the method's preset, with what the user set instead."""
    found = presets(method_of(method))
    name = settings.pretrain.preset
    if name not in found:
        raise unknown(f"preset of {method}", name, found)
    preset = TrainingPreset.model_validate(found[name]["training"])
    changes = {"batch_size": settings.pretrain.batch_size, "lr": settings.pretrain.lr}
    return preset.model_copy(update={k: v for k, v in changes.items() if v is not None})


def make_trainer(
    ground: Ground,
    store: Resident,
    settings: Settings,
    method: str,
    backbone: str,
    *,
    fold: int,
    seed: int,
    steps: int,
    encoder: Encoder | None = None,
) -> Trainer:
    """The trainer of one pre-training run; no test patient of `fold` is among its rows.

    Args:
        encoder: to go on with, such as the one a run left; else a fresh one, or what the arm begins with.

    Raises:
        SettingsError: the weights it begins with cannot be had, or are for another encoder.
    """
    rows = ground.usable(ground.splits[fold].pretrain)
    preset = training_preset(settings, method)
    batch = min(preset.batch_size, len(rows))
    start = seed_of(settings.study.seed, "pretrain", method, backbone, fold, seed)
    if encoder is None and begun_at(method):
        encoder = begun_encoder(ground, store, weights_of(settings, method), backbone, fold)
    elif encoder is None:
        encoder = make_encoder(ground, store, backbone, fold=fold, seed=start)
    mean, std = ground.moments(fold)
    facts = DataFacts(
        count=len(rows),
        channels=ground.channels,
        spatial_dims=ground.spatial_dims,
        size=ground.base.size,
        mean=mean,
        std=std,
        labels=ground.task.names,
        shape=ground.base.shape,
    )
    name = method_of(method)
    built = create_method(name, encoder, settings.pretrain.preset, settings.method.get(name), facts=facts, seed=start)
    optimizer = optimizer_plan(preset, batch)
    asked = settings.pretrain
    plan = PretrainPlan(steps, batch, optimizer, start, asked.checkpoint_seconds, asked.precision, asked.compile)
    return Trainer(built.to(store.device), store, rows, plan, ground.base)


def optimizer_plan(preset: TrainingPreset, batch: int) -> OptimizerPlan:
    """What moves the weights when `batch` scans make a step."""
    return OptimizerPlan(
        preset.optimizer,
        scaled_lr(preset.lr, batch, preset.lr_per),
        preset.weight_decay,
        preset.betas,
        preset.momentum,
        preset.warmup,
        preset.clip,
        min_lr=preset.min_lr,
        weight_decay_end=preset.weight_decay_end,
        nesterov=preset.nesterov,
    )


def run_pretraining(
    ground: Ground,
    store: Resident,
    settings: Settings,
    which: Pretraining,
    steps: int,
    out: Path,
    *,
    progress: Progress = silent,
    stop: Stop = never,
) -> Path:
    """Pre-train unless it is done already; returns the run's folder with encoder and features in it."""
    folder = out / which.folder
    config = {
        "method": which.method,
        "backbone": which.backbone,
        "fold": which.fold,
        "seed": which.seed,
        "steps": steps,
    }
    run = Run.open(
        folder,
        {
            **config,
            "settings": settings.model_dump(mode="json", include={"pretrain": True, "method": True}, exclude=UNTOLD),
        },
    )
    if run.finished and _is_whole(folder, embedded=not ground.outlined):
        return folder
    if which.method in BORROWED:
        weights = weights_of(settings, which.method)
        encoder = begun_encoder(ground, store, weights, which.backbone, which.fold)
        _tell_start(encoder, weights, folder, progress)
        save_encoder(encoder, folder)
        _save_features(ground, store, encoder, folder, progress)
        run.finish({"steps": 0, "seconds": 0.0, "weights": read_source(weights).title})
        return folder
    trainer = make_trainer(
        ground, store, settings, which.method, which.backbone, fold=which.fold, seed=which.seed, steps=steps
    )
    if begun_at(which.method):
        _tell_start(trainer.method.encoder, weights_of(settings, which.method), folder, progress)
    labels, title = known_labels(ground, which.fold), f"{which.method} on {which.backbone}"
    seconds = pretrain(trainer, run, title=title, labels=labels, progress=progress, stop=stop)
    save_encoder(trainer.method.encoder, folder)
    _save_parts(trainer, folder)
    _save_features(ground, store, trainer.method.encoder, folder, progress)
    facts = {"steps": steps, "seconds": seconds, "images": len(trainer.sampler.rows), "wait_seconds": trainer.wait}
    run.finish({**facts, "warnings": Diagnosis(trainer, run, progress.say, labels).sentences()})
    return folder


def known_labels(ground: Ground, fold: int) -> Labels | None:
    """What is known of the scans an encoder of `fold` may see; None without any label."""
    if ground.outlined:
        return None
    split = ground.splits[fold]
    rows = ground.usable(np.sort(np.concatenate([split.val, split.pool])))
    if not len(rows):
        return None
    task = ground.classification
    return Labels(rows, ground.targets[rows], ground.persons[rows], task.kind, task.outputs)


def _is_whole(folder: Path, embedded: bool) -> bool:
    """Whether the encoder, and features where there are any, can be read; a damaged run is done again."""
    try:
        load_encoder(folder)
        if embedded:
            features_of(folder)
    except (MedpriorError, OSError, ValueError):
        return False
    return True


def weights_of(settings: Settings, arm: str) -> str:
    """What an arm begins with: the published weights of its encoder, or those that were given."""
    return IMAGENET if begun_at(arm) == IMAGENET else settings.pretrain.weights or ""


def begun_encoder(ground: Ground, store: Resident, weights: str, backbone: str, fold: int) -> Encoder:
    """`backbone` with the weights that are named; `loaded` says what was found.

    An encoder folder of the same network is taken with its size, spacing and statistics. A file without statistics of
    its own gets those of the scans; published weights keep theirs.

    Raises:
        SettingsError: the weights cannot be had, or are for another encoder.
    """
    source, channels, dims = read_source(weights), ground.channels, ground.spatial_dims
    spec = source.spec or {}
    if (spec.get("name"), spec.get("in_channels"), spec.get("spatial_dims")) == (backbone, channels, dims):
        encoder = load_encoder(source.path or weights)
        encoder.loaded = whole_report(encoder)
        return encoder.to(store.device)
    own = source.published is not None or spec.get("in_channels") == channels
    mean, std = (None, None) if own else ground.moments(fold)
    spacing, size = seen_spacing(ground, backbone), ground.base.size
    encoder = create_encoder(backbone, channels, dims, size, weights=weights, mean=mean, std=std, spacing=spacing)
    return encoder.to(store.device)


def _tell_start(encoder: Encoder, weights: str, folder: Path, progress: Progress) -> None:
    """Say what was found in the weights a run begins with, and keep every name in its folder."""
    report, title = encoder.loaded, read_source(weights).title
    if report is None or (folder / STARTED).exists():
        return
    for line in report.told(title):
        progress.say(line)
    write_json(folder / STARTED, {"weights": title, "encoder": encoder.spec["name"], **report.as_json()})


def encoder_of(folder: Path, store: Resident) -> Encoder:
    """The encoder that a run left behind."""
    return load_encoder(folder).to(store.device)


def features_of(folder: Path) -> NDArray[np.float32]:
    """(N, embed_dim) features by catalog row; rows without a label or pixels hold zeros."""
    found: NDArray[np.float32] = np.load(folder / "features.npy")
    return found


def _save_parts(trainer: Trainer, folder: Path) -> None:
    """Keep what the method wants kept beside its encoder (a decoder, a teacher)."""
    from safetensors.torch import save_file

    make_folder(folder / "parts")
    for name, part in trainer.method.parts().items():
        with replace_file(folder / "parts" / f"{name}.safetensors") as aside:
            save_file({k: v.contiguous().cpu() for k, v in part.state_dict().items()}, aside)


def _save_features(ground: Ground, store: Resident, encoder: Encoder, folder: Path, progress: Progress) -> None:
    """For the probes of a study that classifies."""
    if ground.outlined:
        return
    assert isinstance(store, ResidentStore)
    labelled = ground.usable(np.flatnonzero(ground.catalog.table["labelled"].to_numpy()))
    table = np.zeros((len(ground.catalog), encoder.embed_dim), np.float32)
    with progress.task("Embedding", len(labelled), "images") as bar:
        table[labelled] = embed(encoder, store, labelled, ground.base, bar.advance)
    np.save(folder / "features.npy", table)
