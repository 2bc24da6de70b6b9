"""Weights in and out: encoder folders, and weight files written elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medprior.backbones.axes import Sides
from medprior.backbones.encoder import Encoder
from medprior.backbones.inflate import Inflation, inflate_kernel
from medprior.backbones.vit import VisionTransformer
from medprior.errors import RunError, SettingsError
from medprior.files import make_folder, replace_file, write_json

SCHEMA = 1
WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"
LEAST_SHARE = 0.95

# Where training programs keep the weights inside their checkpoints.
_NESTS = ("state_dict", "model_state_dict", "model", "teacher", "student", "encoder", "network")


@dataclass(frozen=True)
class LoadReport:
    """What of a network was found in a file.

    Attributes:
        matched: names that were found, those that were fitted included.
        fitted: names whose channels, depth or positions were fitted to this network's.
        missing: names of the network that the file does not hold, or holds in another shape.
        unused: names of the file that the network has no use for.
    """

    matched: tuple[str, ...]
    fitted: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def share(self) -> float:
        """Matched part of the network's names."""
        return len(self.matched) / max(1, len(self.matched) + len(self.missing))

    def __str__(self) -> str:
        return (
            f"{len(self.matched)} of {len(self.matched) + len(self.missing)} names matched, {len(self.unused)} unused"
        )


def save_encoder(encoder: Encoder, folder: str | Path) -> None:
    """Write `encoder.safetensors` and `encoder.json` into `folder`.

    Raises:
        OutputError: no space or no permission.
    """
    from safetensors.torch import save_file

    place = make_folder(Path(folder))
    state = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    with replace_file(place / WEIGHTS) as aside:
        save_file(state, aside)
    facts = {
        "channels": encoder.channels,
        "strides": encoder.strides,
        "axis_strides": encoder.axis_strides,
        "embed_dim": encoder.embed_dim,
    }
    write_json(place / DESCRIPTION, {"schema": SCHEMA, **encoder.spec, **facts})


def load_encoder(folder: str | Path) -> Encoder:
    """The encoder that `save_encoder` wrote.

    Raises:
        RunError: the folder holds none, or a damaged one.
    """
    from medprior.backbones.factory import create_encoder

    spec = read_spec(folder)
    try:
        encoder = create_encoder(**spec)
        encoder.load_state_dict(_read_state(Path(folder) / WEIGHTS))
    except (SettingsError, RuntimeError) as error:
        raise RunError("the encoder cannot be loaded", where=str(folder), do=str(error)) from None
    return encoder


def read_spec(folder: str | Path) -> dict[str, Any]:
    """The arguments of `create_encoder` that an encoder folder was written with.

    Raises:
        RunError: no encoder there, or one of a later schema.
    """
    path = Path(folder) / DESCRIPTION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        schema, spec = found["schema"], {k: found[k] for k in ("name", "in_channels", "spatial_dims", "size")}
        spacing = found.get("spacing")  # encoders of earlier versions have none
        spec["spacing"] = None if spacing is None else tuple(float(step) for step in spacing)
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            "this folder holds no encoder", where=str(path), do=f"Name a folder with {WEIGHTS} and {DESCRIPTION}"
        ) from None
    if schema > SCHEMA:
        raise RunError(f"written by a later medprior (schema {schema})", where=str(path), do="Update medprior")
    return spec


def load_weights(encoder: Encoder, source: str | Path, inflation: Inflation = "average") -> LoadReport:
    """Fill the network of `encoder` from a file or encoder folder, whatever prefix its names carry.

    Input channels are summed or repeated, and position embeddings resized, where they differ. Weights of images are
    given depth for a network of volumes. Nothing is changed unless at least 95% of the network's names match. The
    statistics of an encoder folder are taken over too.

    Args:
        source: .safetensors, or a .pth / .pt / .bin state dict (alone or inside a checkpoint), or a folder.
        inflation: how kernels of images are given depth.

    Raises:
        SettingsError: the file cannot be read, or is for another network.
    """
    path = Path(source)
    state = _read_state(path / WEIGHTS if path.is_dir() else path)
    return fill(encoder, state, str(source), inflation)


def fill(encoder: Encoder, state: Mapping[str, Tensor], source: str, inflation: Inflation = "average") -> LoadReport:
    """`load_weights` of tensors by name; errors call them `source`."""
    fitted, report = match(encoder, state, inflation)
    if report.share < LEAST_SHARE:
        shown = ", ".join(report.missing[:5])
        raise SettingsError(
            f"these weights are not for {encoder.spec['name']}: {report}",
            where=source,
            do=f"Choose the encoder they were made with. Not found, among others: {shown}",
        )
    encoder.network.load_state_dict(fitted, strict=False)
    for name in ("mean", "std"):
        given, buffer = state.get(name), getattr(encoder, name)
        if given is not None and given.ndim > 2 and given.numel() == buffer.numel() == given.shape[1]:
            buffer.copy_(given.reshape(buffer.shape))
    return report


def match(
    encoder: Encoder, state: Mapping[str, Tensor], inflation: Inflation = "average"
) -> tuple[dict[str, Tensor], LoadReport]:
    """The tensors of `state` under the names of the encoder's network, in its shapes, and what was found."""
    wanted = {name: value for name, value in encoder.network.state_dict().items() if value.is_floating_point()}
    prefix = _prefix(state, wanted)
    dims = _dims(encoder, state, wanted, prefix)
    found, changed = {}, []
    for name, value in wanted.items():
        given = state.get(prefix + name)
        if given is None:
            continue
        tensor = _fit(encoder, name, given, value, dims, inflation)
        if tensor is not None:
            found[name] = tensor
            if tensor is not given:
                changed.append(name)
    missing = tuple(name for name in wanted if name not in found)
    unused = tuple(name for name in state if not name.startswith(prefix) or name[len(prefix) :] not in found)
    return found, LoadReport(tuple(found), tuple(changed), missing, unused)


def _prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What the file puts before the names of the network, such as "module.backbone."."""
    probes = list(wanted)[:: max(1, len(wanted) // 8)]
    candidates = {key[: -len(name)] for name in probes for key in state if key.endswith(name)}
    return max(sorted(candidates), key=lambda p: sum(p + name in state for name in wanted), default="")


def _dims(encoder: Encoder, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], prefix: str) -> int:
    """2 where the network is one of volumes and the file holds kernels of images; else those of the network."""
    pairs = ((state.get(prefix + name), value) for name, value in wanted.items() if value.ndim == 5)
    flat = any(given is not None and given.ndim == 4 for given, _ in pairs)
    return 2 if flat else encoder.spatial_dims


def _fit(encoder: Encoder, name: str, given: Tensor, wanted: Tensor, dims: int, inflation: Inflation) -> Tensor | None:
    """A tensor of a file for images or volumes (`dims`) in the shape that is wanted; None where it cannot be."""
    if name.endswith("pos_embed") and given.ndim == 3 and given.shape[-1] == wanted.shape[-1]:
        if dims == encoder.spatial_dims and given.shape == wanted.shape:
            return given
        grid = encoder.tokens_grid if isinstance(encoder, VisionTransformer) else None
        return resize_positions(given, wanted.shape[1], encoder.spatial_dims, dims, grid)
    if given.ndim == 4 and wanted.ndim == 5:
        given = inflate_kernel(given, wanted.shape[2], inflation)
    if given.shape == wanted.shape:
        return given
    others_equal = given.shape[0] == wanted.shape[0] and given.shape[2:] == wanted.shape[2:]
    if given.ndim == wanted.ndim > 3 and others_equal and wanted.shape[1] == encoder.spec["in_channels"]:
        return _fit_channels(given, wanted.shape[1])
    return None


def _fit_channels(weight: Tensor, channels: int) -> Tensor:
    """An input convolution for grey images repeated over `channels`: the same response. One channel: their sum."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    copies = math.ceil(channels / weight.shape[1])
    return weight.repeat(1, copies, *[1] * (weight.ndim - 2))[:, :channels] * (weight.shape[1] / channels)


def resize_positions(
    positions: Tensor, count: int, dims: int, given_dims: int | None = None, grid: Sides | None = None
) -> Tensor | None:
    """Position embeddings (1, P + n^d, D) interpolated to (1, count, D) with the same prefix P.

    Those of images (`given_dims` 2) are repeated along the depth of volumes: Arnab et al., ICCV 2021, arXiv
    2103.15691. What is wanted are the positions of `grid`, or of a square or cube where that is None. None where they
    are not that many with one prefix, or those given are of no square or cube.
    """
    flat = given_dims or dims
    for prefix in range(6):
        old, new = _cube(positions.shape[1] - prefix, flat), grid or _cube(count - prefix, dims)
        if old and new and math.prod(new) == count - prefix:
            break
    else:
        return None
    cells = positions[:, prefix:].float().transpose(1, 2).reshape(1, -1, *old)
    mode = "bicubic" if flat == 2 else "trilinear"
    resized = F.interpolate(cells, size=new[dims - flat :], mode=mode, antialias=flat == 2, align_corners=False)
    rows = resized.flatten(2).transpose(1, 2).to(positions.dtype).repeat(1, math.prod(new[: dims - flat]), 1)
    return torch.cat([positions[:, :prefix], rows], dim=1)


def _cube(cells: int, dims: int) -> Sides:
    """Positions along each axis of a square or cube of so many; none where there is none."""
    side = round(max(0, cells) ** (1 / dims))
    return (side,) * dims if side and side**dims == cells else ()


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SettingsError("there is no such weights file", where=str(path)) from None
    except Exception as error:  # any damage at all: truncated, another format, code inside
        raise SettingsError(
            "the weights cannot be read", where=str(path), do=f"Export them as .safetensors ({error})"
        ) from None
    return _tensors(found, path)


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(found, nn.Module):
        found = found.state_dict()
    while isinstance(found, Mapping):
        nested = next((found[key] for key in _NESTS if isinstance(found.get(key), Mapping)), None)
        if nested is None:
            break
        found = nested
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise SettingsError("the file holds no weights by name", where=str(path), do="Save a state dict")
    return tensors
