"""Every setting of medprior, validated before any work; a wrong name is answered with the nearest right one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from medprior.errors import SettingsError, unknown

Budget = int | Literal["all"]
Adaptation = Literal["probe", "fine-tune"]
CLUSTER = re.compile(r"ray|ray://\S+:\d{1,5}")


def _workers(value: object) -> object:
    """A number of processes from 1 up, or the address of a cluster."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    right = value >= 1 if type(value) is int else value is None or CLUSTER.fullmatch(str(value))
    if not right:
        raise PydanticCustomError("workers", "write a number of processes from 1 up, ray, or ray://host:port")
    return value


Workers = Annotated[int | str | None, BeforeValidator(_workers)]


class Section(BaseModel):
    """A group of settings: unknown names are refused, values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataSettings(Section):
    """What is read and how it is stored."""

    patient: str | None = Field(None, description="column of the label file that names the patient")
    label: tuple[str, ...] = Field((), description="label column; several make a multi-label task")
    split: str | None = Field(None, description="column of the published split, where it is not called split")
    masks: Path | None = Field(None, description="folder of masks to learn outlines from, where they are not beside")
    groups: tuple[str, ...] = Field(
        (), description="columns to score groups by, or none alone; those recognised by name when absent"
    )
    unlabelled: Path | None = Field(None, description="a further folder of scans, which are only ever pre-trained on")
    size: int | None = Field(
        None, ge=16, le=1024, description="side of a view in pixels; chosen from the data when absent"
    )
    workers: int | None = Field(None, ge=1, description="reading processes; all cores when absent")
    patients: Literal["hashed", "clear"] = Field("hashed", description="how the catalog names patients")
    salt: Path | None = Field(None, description="file with the salt of patient keys; the user's own when absent")
    ct_window: tuple[float, float] = Field((-1000, 1000), description="range of CT that is kept, in HU")
    spacing: float | tuple[float, float, float] | None = Field(
        None, description="mm per voxel of stored volumes, or D, H, W; their own when absent"
    )
    dedupe: bool = Field(False, description="leave near-copies of other images out of training")
    placement: Literal["auto", "device", "host", "disk"] = Field("auto", description="where pixels lie while training")


class PretrainSettings(Section):
    """Pre-training on the unlabelled scans."""

    methods: tuple[str, ...] = Field((), description="methods to compare; chosen from the machine when absent")
    arms: tuple[str, ...] = Field(
        (), description="method@encoder pairs instead of methods; imagenet@..., given@..., given+method@... as well"
    )
    backbone: str | None = Field(None, description="encoder; each method's default when absent")
    preset: str = Field("small", description="settings of the method: paper, small, ...")
    weights: str | None = Field(
        None, description="start from this run, weights file (or LAYOUT:FILE), timm or hf-hub: name; --init"
    )
    steps: int | None = Field(None, ge=1, description="optimiser steps; chosen from the minutes when absent")
    batch_size: int | None = Field(None, ge=2, description="images per step; the preset's when absent")
    lr: float | None = Field(None, gt=0, description="base learning rate; the preset's when absent")
    seeds: int = Field(1, ge=1, description="independent pre-training runs per method")
    checkpoint_seconds: float = Field(60, ge=0, description="time between two checkpoints")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="number format; bf16 on GPUs that have it")
    compile: bool | Literal["auto"] = Field("auto", description="compile the step; on GPUs alone when auto")


class AdaptSettings(Section):
    """Adapting an encoder with the few labels."""

    adaptations: tuple[Adaptation, ...] = Field(("probe", "fine-tune"), min_length=1)
    steps: int | None = Field(
        None, ge=1, description="steps of every fine-tuning and of scratch at 1x; planned when absent"
    )
    batch_size: int = Field(32, ge=2)
    outline_rate: float = Field(3e-3, gt=0, description="learning rate when outlines are learnt")
    crops: int | None = Field(None, ge=2, description="crops of a step that outlines are learnt from; by the memory")
    decoder: Literal["kept", "fresh"] = Field(
        "kept", description="whether outlines are learnt by the decoder of a method that trained one that fits"
    )
    supervise: int = Field(0, ge=0, description="coarser resolutions at which outlines are supervised too")
    overlap: float = Field(0.5, ge=0, lt=1, description="share of a window that the next one covers, when outlining")
    mirrored: bool = Field(
        False, description="whether outlines are the mean over mirrored windows, 4 or 8 times slower"
    )
    learning_rates: tuple[float, ...] = Field(
        (1e-3,), min_length=1, description="trials; more than one is chosen inside the budget"
    )
    weight_decay: float = Field(0.05, ge=0)
    layer_decay: float = Field(
        0.75, gt=0, le=1, description="rate of each earlier layer when fine-tuning; scratch uses 1"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps")
    average: float = Field(0.25, gt=0, le=1, description="last share of steps whose weights are averaged")
    early_stop_from: int = Field(200, ge=1, description="labelled patients from which validation may stop training")
    class_balanced: bool = True
    head_first: bool = Field(
        True, description="fine-tuning starts at the probe's head; outlines with the decoder alone for a tenth of steps"
    )


class StudySettings(Section):
    """Arms x budgets x seeds."""

    task: Literal["auto", "classify", "segment"] = Field(
        "auto", description="what is learnt; auto: outlines where masks are given, or lie beside scans without labels"
    )
    tolerance: float = Field(1.0, ge=0, description="mm (or pixels) that two readers may differ by, for surface Dice")

    primary: str | None = Field(
        None, description="the comparison that counts, METHOD[@ENCODER]/probe or /fine-tune; the best arm when absent"
    )
    margin: float = Field(0.05, gt=0, lt=1, description="difference of the main metric that would matter")
    budgets: tuple[Budget, ...] = Field((), description="labelled patients, or all; chosen from the labels when absent")
    seeds: int = Field(3, ge=1, description="adaptation seeds")
    seed: int = Field(0, ge=0, description="the seed everything else is derived from")
    minutes: float | None = Field(None, gt=0, description="time for the whole study; 30 when absent")
    test_fraction: float = Field(0.25, gt=0, lt=1)
    folds: int | None = Field(None, ge=2, description="cross-validation folds under 200 labelled patients")
    repeats: int = Field(2, ge=1, description="repetitions of the cross-validation, each with folds of its own")
    corruptions: bool | Literal["auto"] = Field(
        "auto", description="show models of the largest budget corrupted test images; where that is quick when auto"
    )
    free_validation: bool = Field(False, description="use a given validation split beyond the budget")
    threads: int | None = Field(None, ge=1, description="CPU threads: all cores to pre-train, one a cell when absent")
    workers: Workers = Field(
        None,
        description="processes that train, ray (a cluster here) or ray://host:port; one per core or GPU when absent",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:1")


class Settings(Section):
    """All settings of a study or run; `method` holds what overrides a method's preset, by method name."""

    data: DataSettings = DataSettings()
    pretrain: PretrainSettings = PretrainSettings()
    adapt: AdaptSettings = AdaptSettings()
    study: StudySettings = StudySettings()
    method: dict[str, dict[str, Any]] = Field(default_factory=dict)


def load_settings(
    file: Path | None = None,
    assignments: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
    methods: Iterable[str] = (),
    base: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from a YAML file, then `section.key=value` assignments, then `overrides` (same dotted names).

    Args:
        methods: names that may stand as a section of their own (`simclr.temperature=0.2`).
        base: sections that go before the assignments, where there is no file.

    Raises:
        SettingsError: unknown name (with the nearest), wrong value (with what is allowed), unreadable file.
    """
    tree: dict[str, Any] = deepcopy(dict(base or {}))
    if file:
        tree = read_yaml(file)
        check_file(tree, file)
    for assignment in assignments:
        name, found, value = assignment.partition("=")
        if not found:
            raise SettingsError(
                f'"{assignment}" is no setting', do="Write --set section.key=value, for instance --set adapt.steps=200"
            )
        _assign(tree, name.strip(), _parse(value, name), frozenset(methods))
    for name, value in (overrides or {}).items():
        if value is not None:
            _assign(tree, name, value, frozenset(methods))
    return validate(tree)


def validate(tree: Mapping[str, Any]) -> Settings:
    """Check a tree of settings."""
    _check_names(tree)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "constrained-int")
        given = first.get("input")
        do = f"Give another value with its option (medprior run --help) or with --set {where}=..."
        raise SettingsError(f"wrong value {given!r}: {first['msg'].lower()}", where=f"setting {where}", do=do) from None


def given(settings: Settings) -> tuple[str, ...]:
    """Names (`section.key`) of the settings that somebody gave, be it at their defaults; methods' own left out."""
    sections = sorted(settings.model_fields_set - {"method"})
    return tuple(f"{name}.{key}" for name in sections for key in sorted(getattr(settings, name).model_fields_set))


def check_file(tree: Mapping[str, Any], file: Path) -> None:
    """Check the settings that a file holds; the error names the file beside the setting.

    Raises:
        SettingsError: as `load_settings`.
    """
    try:
        validate(tree)
    except SettingsError as error:
        where = ", ".join(part for part in (str(file), error.where) if part)
        raise SettingsError(error.what, where=where, do=error.do) from None


def _check_names(tree: Mapping[str, Any]) -> None:
    for section, values in tree.items():
        if section not in Settings.model_fields:
            raise unknown("section of settings", section, Settings.model_fields)
        if section == "method":
            continue
        if not isinstance(values, Mapping):
            raise SettingsError(f"section {section} holds settings, not {values!r}", where=section)
        known = type(getattr(Settings(), section)).model_fields
        for name in values:
            if name not in known:
                raise unknown(f"setting of {section}:", name, known)


def _assign(tree: dict[str, Any], dotted: str, value: Any, methods: frozenset[str]) -> None:
    parts = dotted.split(".")
    if parts[0] in methods:
        parts = ["method", *parts]
    if parts[0] not in Settings.model_fields:
        raise unknown("section of settings", parts[0], [*Settings.model_fields, *methods])
    if len(parts) < 2:
        raise SettingsError(f'"{dotted}" names no section', do="Write section.key, for instance study.seeds")
    branch = tree
    for part in parts[:-1]:
        branch = branch.setdefault(part, {})
    branch[parts[-1]] = value


def _parse(value: str, name: str) -> Any:
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise SettingsError(f'"{value}" cannot be read as a value', where=f"setting {name}") from None
    if isinstance(parsed, str):  # YAML 1.1 reads 1e-3 as text
        try:
            return float(parsed)
        except ValueError:
            return parsed
    return parsed


def read_yaml(file: Path) -> dict[str, Any]:
    """The sections of a YAML file, unchecked.

    Raises:
        SettingsError: it cannot be read, or holds no sections.
    """
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError("the settings file cannot be read", where=str(file), do=str(error)) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(
            "the settings file holds no sections", where=str(file), do=f"Sections: {', '.join(Settings.model_fields)}"
        )
    return tree
