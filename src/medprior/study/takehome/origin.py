"""Where a model of a run lies, and what its run says of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medprior.backbones.weights import DESCRIPTION
from medprior.data.catalog import Catalog
from medprior.data.catalogfile import load_catalog
from medprior.errors import DataError, RunError, SettingsError, unknown

BEST = "best"
LEVELS = 3  # an encoder lies so deep below the folder of its run


@dataclass(frozen=True)
class Origin:
    """Where a model lies, and what its run says of it.

    Attributes:
        folder: the model's own.
        config: of its pre-training, empty where there was none.
        finished: how the pre-training ended.
        facts: of the predictor or outliner that it is part of.
        study: what the run was asked.
        catalog: of the run, where it is still there.
    """

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    finished: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    study: dict[str, Any] = field(default_factory=dict)
    catalog: Catalog | None = None


def origin_of(place: Path, arm: str | None = None) -> Origin:
    """The model that `place` and `arm` name, and what its run says of it.

    Raises:
        RunError: no run and no encoder there. SettingsError: no such arm.
    """
    folder = _folder(place, arm)
    root = next((each for each in folder.resolve().parents[:LEVELS] if (each / "study.json").is_file()), None)
    facts = _json(folder / "outliner.json") or _json(folder / "predictor.json")
    return Origin(
        folder=folder,
        config=_yaml(folder / "config.yaml"),
        finished=_json(folder / "finished.json"),
        facts=facts,
        study=_json(root / "study.json") if root else {},
        catalog=_catalog(root) if root else None,
    )


def arms_of(run: Path) -> dict[str, Path]:
    """The folders of the models in a run, by `method/encoder`; of several seeds and folds the first."""
    found: dict[str, Path] = {}
    for file in sorted(run.glob(f"pretrain/*/*/{DESCRIPTION}")):
        config = _yaml(file.with_name("config.yaml"))
        if config and file.with_name("finished.json").is_file():
            found.setdefault(f"{config.get('method')}/{config.get('backbone')}", file.parent)
    return found


def _folder(place: Path, arm: str | None) -> Path:
    if (place / DESCRIPTION).is_file():
        if arm is not None:
            raise SettingsError("this folder holds one model and no arms", where="--arm", do="Leave --arm out")
        return place
    if not (place / "study.json").is_file():
        do = "Give the folder that medprior run, compare or pretrain wrote (its --out), or one with encoder.json in it"
        raise RunError("this is not the folder of a run", where=str(place), do=do)
    arms = arms_of(place)
    if (place / BEST / DESCRIPTION).is_file():
        arms = {BEST: place / BEST, **arms}
    if not arms:
        do = "Repeat the command that made it, which resumes; then ask again"
        raise RunError("this run is not finished: it has no encoder yet", where=str(place), do=do)
    if arm is None:
        if BEST not in arms and len(arms) > 1:
            raise SettingsError("this run has several encoders", where="--arm", do=f"Name one: {', '.join(arms)}")
        return next(iter(arms.values()))
    asked = arm.replace("@", "/")
    fitting = [name for name in arms if asked in (name, name.partition("/")[0])]
    if not fitting:
        raise unknown("arm", arm, arms)
    if len(fitting) > 1:
        raise SettingsError(
            f"{arm} was trained on several encoders", where="--arm", do=f"Name one: {', '.join(fitting)}"
        )
    return arms[fitting[0]]


def _json(path: Path) -> dict[str, Any]:
    """What a file holds; nothing where it cannot be read: a card does with less."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _catalog(root: Path) -> Catalog | None:
    try:
        return load_catalog(root / "catalog.parquet")
    except DataError:
        return None
