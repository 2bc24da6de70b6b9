"""Methods by name, with their presets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import check_fit, seeded
from medprior.errors import SettingsError, unknown
from medprior.methods import METHODS
from medprior.methods.method import DataFacts, Method, MethodConfig


def create_method(
    name: str,
    encoder: Encoder,
    preset: str = "small",
    overrides: Mapping[str, Any] | None = None,
    *,
    facts: DataFacts,
    seed: int = 0,
) -> Method:
    """The method `name` around `encoder`, its heads built for the data.

    Args:
        preset: which of the method's own settings to start from.
        overrides: settings of the method that differ from the preset.
        seed: of the heads' initial weights.

    Raises:
        SettingsError: unknown method, preset or setting (with the nearest), wrong value, or an encoder that the
            method cannot use.
    """
    kind: type[Method] = METHODS.get(name)
    check_fit(kind.needs, encoder.spec["name"], encoder.kind, name)
    config = make_config(name, preset, overrides)
    with seeded(seed):
        method = kind(encoder, config)
        method.build(facts)
    return method


def presets(name: str) -> dict[str, dict[str, Any]]:
    """The presets of a method by name, each with "config" (its own settings) and "training" (a `TrainingPreset`).

    Raises:
        SettingsError: unknown method.
    """
    if name not in METHODS.names():
        raise unknown("method", name, METHODS.names(), see="medprior methods")
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        (Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return found


def make_config(name: str, preset: str = "small", overrides: Mapping[str, Any] | None = None) -> MethodConfig:
    """The settings of a method: those of the preset, changed by `overrides`, checked."""
    found = presets(name)
    if preset not in found:
        raise unknown(f"preset of {name}", preset, found)
    kind: type[Method] = METHODS.get(name)
    for setting in overrides or {}:
        if setting not in kind.Config.model_fields:
            raise unknown(f"setting of {name}:", setting, kind.Config.model_fields)
    try:
        return kind.Config.model_validate({**found[preset]["config"], **(overrides or {})})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([name, *map(str, first["loc"])])
        given = f" {first['input']!r}" if first["loc"] else "s"
        said = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"wrong value{given}: {said[0].lower()}{said[1:]}", where=f"setting {where}") from None
