"""The options that several commands share, and the settings they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from medprior.config import Settings, load_settings
from medprior.errors import SettingsError, unknown

Scans = Annotated[Path, typer.Argument(help="Folder of scans, or one .npz/.npy file.", show_default=False)]
ScansOrRecipe = Annotated[
    Path,
    typer.Argument(metavar="SCANS", help="Folder of scans, .npz/.npy file, or a recipe (.yaml).", show_default=False),
]
Labels = Annotated[
    Path | None, typer.Option(help="CSV with a path column and one or more label columns.", show_default=False)
]
Masks = Annotated[
    Path | None, typer.Option(help="Folder of masks, named as their scans; not needed beside them.", show_default=False)
]
Task = Annotated[str | None, typer.Option(help="classify or segment (default: by what is given).", show_default=False)]
Out = Annotated[Path, typer.Option(help="Where everything is written.")]
Methods = Annotated[str | None, typer.Option(help="Pre-training methods, e.g. simclr,mae.", show_default=False)]
Backbone = Annotated[str | None, typer.Option(help="Encoder, e.g. resnet18 or vit_tiny.", show_default=False)]
Init = Annotated[
    str | None, typer.Option(help="Begin with a run, FILE, LAYOUT:FILE, imagenet or hf-hub:NAME.", show_default=False)
]
Size = Annotated[int | None, typer.Option(help="Side of a view in pixels.", show_default=False)]
Budgets = Annotated[str | None, typer.Option(help="Labelled patients, e.g. 20,80,all.", show_default=False)]
Seeds = Annotated[int | None, typer.Option(help="Adaptation seeds (default: 3).", show_default=False)]
Workers = Annotated[
    str | None,
    typer.Option(help="Processes that train, or a cluster: ray, ray://HOST:PORT (docs/scale.md).", show_default=False),
]
Minutes = Annotated[float | None, typer.Option(help="Time for the whole study (default: 30).", show_default=False)]
Patient = Annotated[str | None, typer.Option(help="Column that names the patient.", show_default=False)]
Label = Annotated[
    str | None, typer.Option(help="Label column; several, with commas, make a multi-label task.", show_default=False)
]
Unlabelled = Annotated[
    Path | None, typer.Option(help="A further folder of scans, only ever pre-trained on.", show_default=False)
]
Split = Annotated[
    str | None, typer.Option(help="Column of the published split, if not called split.", show_default=False)
]
Groups = Annotated[
    str | None,
    typer.Option(help="Columns to score groups by, e.g. sex,age,site, or none (default: by name).", show_default=False),
]
FreeValidation = Annotated[
    bool, typer.Option("--free-validation", help="Use a given validation split beyond the budget.")
]
Dedupe = Annotated[
    bool, typer.Option("--dedupe", help="Leave copies of other images out of training; tests stay as they are.")
]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings.", show_default=False)]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, section.key=value; may be repeated.", show_default=False)
]


def make_settings(
    config: Path | None, assignments: list[str] | None, *, base: Mapping[str, Any] | None = None, **options: Any
) -> Settings:
    """Settings from a recipe (`base`) or a file, then `--set`, then the options, the later over the earlier.

    Raises:
        SettingsError: an unknown name or a wrong value.
    """
    from medprior.methods import METHODS

    names = METHODS.names()
    methods = split_names(options.pop("methods", None))
    for method in methods or ():
        if method not in names:
            raise unknown("method", method, names, see="medprior methods")
    overrides = {
        "pretrain.methods": methods,
        "pretrain.arms": () if methods else None,
        "pretrain.backbone": options.get("backbone"),
        "pretrain.weights": options.get("init"),
        "data.size": options.get("size"),
        "study.budgets": parse_budgets(options.get("budgets")),
        "study.seeds": options.get("seeds"),
        "study.minutes": options.get("minutes"),
        "study.workers": options.get("workers"),
        "data.patient": options.get("patient"),
        "data.label": split_names(options.get("label")),
        "data.split": options.get("split"),
        "data.groups": split_names(options.get("groups")),
        "data.unlabelled": options.get("unlabelled"),
        "data.masks": options.get("masks"),
        "study.task": options.get("task"),
        "study.free_validation": options.get("free_validation") or None,
        "data.dedupe": options.get("dedupe") or None,
    }
    return load_settings(config, assignments or (), overrides, methods=names, base=base)


def study_settings(
    config: Path | None, assignments: list[str] | None, *, everything: bool, base: Mapping[str, Any], **options: Any
) -> Settings:
    """The settings of a study; where `everything` is meant and no method is named anywhere, it is all of them.

    Raises:
        SettingsError: an unknown name or a wrong value.
    """
    from medprior.methods import METHODS

    settings = make_settings(config, assignments, base=base, **options)
    if not everything or settings.pretrain.methods or settings.pretrain.arms:
        return settings
    return make_settings(config, assignments, base=base, **{**options, "methods": ",".join(METHODS.names())})


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Names between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else None


def parse_budgets(text: str | None) -> tuple[int | str, ...] | None:
    """Numbers of patients, or all."""
    if not text:
        return None
    budgets: list[int | str] = []
    for part in text.split(","):
        word = part.strip().lower()
        if word != "all" and not (word.isdigit() and int(word) > 0):
            raise SettingsError(
                f'"{part}" is no budget',
                where="--budgets",
                do="Write numbers of labelled patients, or all: --budgets 20,80,all",
            )
        budgets.append(word if word == "all" else int(word))
    return tuple(budgets)
