"""Files of weights, whoever wrote them: their tensors by name. Code that a file may hold is never run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medprior.errors import SettingsError

# Where training programs keep the weights inside their checkpoints.
_WRAPPERS = ("state_dict", "model_state_dict", "network_weights", "model", "module", "network")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a torch file: a state dict, alone or anywhere inside a checkpoint.

    Weights that lie in several dictionaries (a teacher's, a student's) get the name of theirs before their own.

    Raises:
        SettingsError: no such file, a damaged one, one that would run code, or one without weights.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(_plain()):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SettingsError("there is no such weights file", where=str(path)) from None
    except Exception as error:  # any damage at all: truncated, another format, code inside
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingsError(
            "the weights cannot be read",
            where=str(path),
            do=f"Save its state dict anew, best as .safetensors; code in a file is never run ({first})",
        ) from None
    return _tensors(found, path)


def _plain() -> list[Any]:
    """What checkpoints hold beside weights and what runs nothing: the options of a training, numbers of NumPy."""
    kinds = {type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")}
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    return [argparse.Namespace, np.dtype, scalar, (scalar, "numpy.core.multiarray.scalar"), *kinds]


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(found, nn.Module):
        found = found.state_dict()
    while isinstance(found, Mapping):
        inside = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inside is None:
            break
        found = inside
    tensors = dict(_flat(found)) if isinstance(found, Mapping) else {}
    if not tensors:
        raise SettingsError("the file holds no weights by name", where=str(path), do="Save a state dict")
    return tensors


def _flat(found: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of a dictionary and those below it, with dots between; what is numbered is the state of an optimiser."""
    for name, value in found.items():
        if isinstance(value, Tensor):
            yield f"{before}{name}", value
        elif isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            yield from _flat(value, f"{before}{name}.")
