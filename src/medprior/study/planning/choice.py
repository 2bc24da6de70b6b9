"""Which arms a study has: what was asked for, each method with an encoder, and what of it can be had."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from medprior.backbones.factory import create_encoder
from medprior.config import PretrainSettings, Settings
from medprior.errors import SettingsError, unknown
from medprior.methods import METHODS
from medprior.methods.factory import make_config
from medprior.progress import Progress, silent
from medprior.study.arms import GIVEN, IMAGENET, SCRATCH, Grid, Pretraining
from medprior.study.ground import Ground
from medprior.study.pretraining import suitable_backbone, training_preset
from medprior.study.results import Arm

CPU_METHODS, GPU_METHODS = ("mae",), ("simclr", "mae")
"""What is run when nothing was asked for: of the methods, MAE learns from the most images in a minute of a CPU."""
OUTLINE_METHODS = ("genesis",)
"""Where outlines are learnt: it trains the decoder, too."""
Pair = tuple[str, str]


@dataclass(frozen=True)
class Chosen:
    """The study that can be done, and a sentence for every arm that cannot."""

    grid: Grid
    skipped: tuple[str, ...] = ()


def chosen_methods(settings: Settings, spatial_dims: int, on_gpu: bool, outlines: bool = False) -> tuple[Pair, ...]:
    """(method, encoder) pairs: those asked for, a given encoder, or what suits the machine.

    Raises:
        SettingsError: no such method.
    """
    asked = settings.pretrain
    if asked.weights and not asked.methods and not asked.arms:
        return ((GIVEN, asked.backbone or "resnet18"),)
    usual = OUTLINE_METHODS if outlines else GPU_METHODS if on_gpu else CPU_METHODS
    named = asked.arms or asked.methods or usual
    pairs = [_parted(name) for name in named]
    found = [
        (method, _encoder(method, backbone or asked.backbone, spatial_dims, on_gpu, outlines))
        for method, backbone in pairs
    ]
    return tuple(dict.fromkeys(found))


def check_methods(settings: Settings) -> None:
    """Refuse unknown methods, presets and wrong settings of the methods asked for before any work.

    Raises:
        SettingsError: with the nearest right name, or what is allowed.
    """
    asked = settings.pretrain
    if asked.arms and asked.methods:
        do = "Name the methods in one of them: arms also says with which encoder"
        raise SettingsError("both arms and methods were asked for", where="setting pretrain.arms", do=do)
    for method in {*asked.methods, *_methods_of(asked), *settings.method}:
        training_preset(settings, method)
        make_config(method, settings.pretrain.preset, settings.method.get(method))


def primary_arm(settings: Settings, grid: Grid) -> Arm | None:
    """The arm of the comparison that was named beforehand.

    Raises:
        SettingsError: the study has no such arm, or several.
    """
    asked = settings.study.primary
    if asked is None:
        return None
    arm, _, adaptation = asked.partition("/")
    method, backbone = _parted(arm)
    arms = [Arm(m, b, adapted) for m, b in grid.methods for adapted in grid.adaptations]
    named = [one for one in arms if one.name == method and backbone in (None, one.encoder)]
    found = [one for one in named if adaptation.strip() in ("", one.adaptation)]
    if len(found) != 1:
        what = f'"{asked}" names {len(found) or "no"} arms of this study'.replace("no arms", "no arm")
        there = ", ".join(f"{one.name}@{one.encoder}/{one.adaptation}" for one in arms)
        raise SettingsError(what, where="setting study.primary", do=f"Name one of: {there}")
    return found[0]


def without_missing(grid: Grid, ground: Ground, out: Path, progress: Progress = silent) -> Chosen:
    """The grid without the published weights that cannot be had here; a study that has them already keeps them.

    Raises:
        SettingsError: no arm is left.
    """
    wanted = [pair for pair in grid.methods if pair[0] == IMAGENET and not _had(grid, pair[1], out)]
    missing = {}
    if wanted:
        with progress.task("Looking for published weights", len(wanted)) as bar:
            for pair in wanted:
                missing[pair] = _why_missing(ground, pair[1])
                bar.advance()
    skipped = tuple(f"{m}@{b} is skipped: not available: {why}" for (m, b), why in missing.items() if why)
    methods = tuple(pair for pair in grid.methods if not missing.get(pair))
    if not methods:
        do = "Ask for other arms, or give a weights file with --set pretrain.weights=FILE"
        raise SettingsError(f"no arm is left: {'; '.join(skipped)}", where="setting pretrain.arms", do=do)
    return Chosen(replace(grid, methods=methods), skipped)


def _methods_of(asked: PretrainSettings) -> list[str]:
    """The methods of the arms, published weights apart; every arm is looked at."""
    pairs = [_parted(arm) for arm in asked.arms]
    for method, backbone in pairs:
        if method == SCRATCH:
            raise _wrong_arm("scratch is no arm of its own", "Leave it out: every encoder brings its own")
        if method not in (IMAGENET, *METHODS.names()):
            error = unknown("method", method, [IMAGENET, *METHODS.names()], see="medprior methods")
            raise _wrong_arm(error.what, error.do)
        if backbone == "" or (method == IMAGENET and not (backbone or asked.backbone)):
            raise _wrong_arm(f"no encoder stands behind {method}", f"Write {method}@ENCODER: {method}@vit_tiny")
    return [method for method, _ in pairs if method != IMAGENET]


def _wrong_arm(what: str, do: str | None) -> SettingsError:
    return SettingsError(what, where="setting pretrain.arms", do=do)


def _encoder(method: str, asked: str | None, spatial_dims: int, on_gpu: bool, outlines: bool) -> str:
    if method == IMAGENET and asked:
        return asked
    return suitable_backbone(method, asked, spatial_dims, on_gpu, outlines)


def _parted(arm: str) -> tuple[str, str | None]:
    method, at, backbone = arm.partition("@")
    return method.strip(), backbone.strip() if at else None


def _had(grid: Grid, backbone: str, out: Path) -> bool:
    """Whether every run of the arm was finished before."""
    runs = (Pretraining(IMAGENET, backbone, f, s) for f in range(grid.folds) for s in range(grid.pretrain_seeds))
    return all((out / run.folder / "encoder.json").exists() for run in runs)


def _why_missing(ground: Ground, backbone: str) -> str:
    """Why the published weights of an encoder cannot be had; "" when they can."""
    try:
        with _quietly():
            create_encoder(backbone, ground.channels, ground.spatial_dims, ground.base.size, weights=IMAGENET)
    except SettingsError as error:
        if error.where != "pretrain.weights":
            raise
        reason = (error.do or error.what).rpartition("timm says: ")[2]
        return reason.replace(str(Path.home()), "~").rstrip(".") + "."
    return ""


@contextmanager
def _quietly() -> Iterator[None]:
    """Without a line for each of the many attempts that are made where there is no network."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
