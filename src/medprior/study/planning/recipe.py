"""A study as one YAML file: where its scans and labels lie, and every setting that differs from the default.

scans: ../data/covid-ct                # paths are relative to the current directory, as on the command line
labels: ../data/covid-ct/labels.csv
unlabelled: ../data/ct-slices
pretrain: {arms: [simclr@resnet18, spark@resnet18]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medprior.config import Settings, check_file, read_yaml
from medprior.errors import SettingsError, unknown

PATHS = ("scans", "labels", "masks", "unlabelled")
"""The keys of a recipe beside the sections of settings."""


@dataclass(frozen=True)
class Recipe:
    """What a recipe says; `settings` are sections as `medprior.config.load_settings` takes them."""

    scans: Path
    labels: Path | None
    masks: Path | None
    unlabelled: Path | None
    settings: Mapping[str, Any]


def is_recipe(place: Path) -> bool:
    """Whether a path, given where scans are meant, is a recipe by its ending."""
    return place.suffix.lower() in (".yaml", ".yml")


def read_recipe(
    file: Path, *, labels: Path | None = None, masks: Path | None = None, unlabelled: Path | None = None
) -> Recipe:
    """The recipe in `file`; the paths that are given go before those it names.

    Raises:
        SettingsError: an unknown key (with the nearest), a wrong value, or a path where nothing is; the message
            names the file and the key.
    """
    tree = read_yaml(file)
    known = (*PATHS, *Settings.model_fields)
    for key in tree:
        if key not in known:
            error = unknown("key of a recipe", str(key), known)
            raise SettingsError(error.what, where=str(file), do=error.do)
    sections = {key: value for key, value in tree.items() if key not in PATHS}
    check_file(sections, file)
    given = {"labels": labels, "masks": masks, "unlabelled": unlabelled}
    paths = {key: given.get(key) or _path(tree, key, file) for key in PATHS}
    scans = paths.pop("scans")
    if scans is None:
        do = "Add a line scans: FOLDER, relative to the current directory"
        raise SettingsError("the recipe names no scans", where=f"{file}, scans", do=do)
    return Recipe(scans, settings=sections, **paths)


def _path(tree: Mapping[str, Any], key: str, file: Path) -> Path | None:
    value = tree.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise SettingsError(f"{key} is a path, not {value!r}", where=f"{file}, {key}", do=f"Write {key}: PATH")
    path = Path(value).expanduser()
    if not path.exists():
        do = f"Paths are relative to the current directory ({Path.cwd()}): start there, or mend the recipe"
        raise SettingsError(f"nothing lies at {value}", where=f"{file}, {key}", do=do)
    return path
