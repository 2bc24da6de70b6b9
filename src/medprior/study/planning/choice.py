"""Which arms a study has: what was asked for, each method with an encoder, and what of it can be had."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from medprior.backbones.factory import create_encoder
from medprior.backbones.source import encoder_named, read_source
from medprior.config import PretrainSettings, Settings
from medprior.errors import SettingsError, unknown
from medprior.methods import METHODS
from medprior.methods.factory import make_config
from medprior.progress import Progress, silent
from medprior.study.arms import BORROWED, GIVEN, IMAGENET, SCRATCH, Grid, Pretraining, begun_at, method_of
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


def chosen_methods(
    settings: Settings, spatial_dims: int, on_gpu: bool, outlines: bool = False, *, learning: bool = False
) -> tuple[Pair, ...]:
    """(method, encoder) pairs: those asked for, a given encoder, or what suits the machine.

    Where weights are given, methods begin there, and without any the given encoder is taken as it is.

    Args:
        learning: whether something has to be pre-trained, also where nothing was asked for.

    Raises:
        SettingsError: no such method, or weights that do not say of which encoder they are.
    """
    asked = settings.pretrain
    usual = OUTLINE_METHODS if outlines else GPU_METHODS if on_gpu else CPU_METHODS
    named = asked.arms or asked.methods or usual
    if asked.weights and not asked.arms:
        named = tuple(f"{GIVEN}+{name}" for name in named) if asked.methods or learning else (GIVEN,)
    pairs = [_parted(name) for name in named]
    found = [(method, _encoder(method, backbone, asked, spatial_dims, on_gpu, outlines)) for method, backbone in pairs]
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
    _check_weights(asked)
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
    wanted = [pair for pair in grid.methods if begun_at(pair[0]) == IMAGENET and not _had(grid, pair, out)]
    missing = {}
    if wanted:
        with progress.task("Looking for published weights", len(wanted)) as bar:
            for pair in wanted:
                missing[pair] = _why_missing(ground, pair[1])
                bar.advance()
    skipped = tuple(f"{m}@{b} is skipped: not available: {why}" for (m, b), why in missing.items() if why)
    methods = tuple(pair for pair in grid.methods if not missing.get(pair))
    if not methods:
        do = "Ask for other arms, or give weights with --init"
        raise SettingsError(f"no arm is left: {'; '.join(skipped)}", where="setting pretrain.arms", do=do)
    return Chosen(replace(grid, methods=methods), skipped)


def _methods_of(asked: PretrainSettings) -> list[str]:
    """The methods of the arms, weights that are taken as they are apart; every arm is looked at."""
    pairs = [_parted(arm) for arm in asked.arms]
    for arm, backbone in pairs:
        start, method = begun_at(arm), method_of(arm)
        if arm == SCRATCH:
            raise _wrong_arm("scratch is no arm of its own", "Leave it out: every encoder brings its own")
        if arm not in BORROWED and method not in METHODS.names():
            error = unknown("method", method, [*BORROWED, *METHODS.names()], see="medprior methods")
            raise _wrong_arm(error.what, error.do)
        if backbone == "" or (start == IMAGENET and not (backbone or asked.backbone)):
            raise _wrong_arm(f"no encoder stands behind {arm}", f"Write {arm}@ENCODER: {arm}@vit_tiny")
    return [method_of(arm) for arm, _ in pairs if arm not in BORROWED]


def _check_weights(asked: PretrainSettings) -> None:
    """Refuse weights that are not there, that no arm begins with, or arms that begin with none.

    Raises:
        SettingsError: they are.
    """
    begins = any(begun_at(_parted(arm)[0]) == GIVEN for arm in asked.arms)
    if begins and not asked.weights:
        raise _wrong_arm("an arm begins with given weights, and none are given", "Name them: --init FOLDER or FILE")
    if not asked.weights:
        return
    if asked.arms and not begins:
        do = f"Write {GIVEN}@ENCODER for the weights as they are, {GIVEN}+METHOD@ENCODER for a method that begins there"
        raise _wrong_arm("weights are given, and no arm begins with them", do)
    source = read_source(asked.weights)
    if source.path is not None and not source.path.exists():
        raise SettingsError("there is no such weights file", where=str(source.path), do="Correct --init")


def _wrong_arm(what: str, do: str | None) -> SettingsError:
    return SettingsError(what, where="setting pretrain.arms", do=do)


def _encoder(
    method: str, backbone: str | None, asked: PretrainSettings, spatial_dims: int, on_gpu: bool, outlines: bool
) -> str:
    named = backbone or asked.backbone
    if begun_at(method) is None:
        return suitable_backbone(method, named, spatial_dims, on_gpu, outlines)
    found = named or (encoder_named(read_source(asked.weights)) if asked.weights else None)
    if found is None:
        do = "Name it with --backbone: resnet50, vit_base ..."
        raise SettingsError(
            "these weights do not say of which encoder they are", where="setting pretrain.backbone", do=do
        )
    return found


def _parted(arm: str) -> tuple[str, str | None]:
    method, at, backbone = arm.partition("@")
    return method.strip(), backbone.strip() if at else None


def _had(grid: Grid, pair: Pair, out: Path) -> bool:
    """Whether every run of the arm was finished before."""
    runs = (Pretraining(*pair, f, s) for f in range(grid.folds) for s in range(grid.pretrain_seeds))
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
