"""Weights in and out: encoder folders, and weight files written elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from medprior.backbones.axes import Sides
from medprior.backbones.encoder import Encoder
from medprior.backbones.inflate import Inflation, inflate_kernel
from medprior.backbones.layout import AS_THEY_ARE, Layout, layout_of, recognise
from medprior.backbones.loadreport import LoadReport, folded
from medprior.backbones.statefile import read_state
from medprior.backbones.swinmerging import reordered
from medprior.backbones.vit import VisionTransformer
from medprior.errors import RunError, SettingsError
from medprior.files import make_folder, replace_file, write_json

SCHEMA = 1
WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"
LEAST_SHARE = 0.95


@dataclass(frozen=True)
class _Named:
    """Which tensor of a file each name of a network is, and the names of the file that are set aside."""

    layout: Layout
    names: Mapping[str, str]
    aside: tuple[str, ...]


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
        encoder.load_state_dict(read_state(Path(folder) / WEIGHTS))
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


def load_weights(
    encoder: Encoder, source: str | Path, inflation: Inflation = "average", layout: str | None = None
) -> LoadReport:
    """Fill the network of `encoder` from a file or encoder folder, whoever wrote it.

    The layout of its names is recognised. Input channels are summed or repeated, and position embeddings resized, where
    they differ. Weights of images are given depth for a network of volumes. Nothing is changed unless at least 95% of
    the network's names and of its values match. The statistics of an encoder folder are taken over too.

    Args:
        source: .safetensors, or a .pth / .pt / .bin state dict (alone or inside a checkpoint), or a folder.
        inflation: how kernels of images are given depth.
        layout: of the file, where it is not to be recognised; one of `layout_names()`.

    Raises:
        SettingsError: the file cannot be read, or is for another network.
    """
    path = Path(source)
    state = read_state(path / WEIGHTS if path.is_dir() else path)
    return fill(encoder, state, str(source), inflation, layout)


def fill(
    encoder: Encoder,
    state: Mapping[str, Tensor],
    source: str,
    inflation: Inflation = "average",
    layout: str | None = None,
) -> LoadReport:
    """`load_weights` of tensors by name; errors call them `source`."""
    try:
        fitted, report = match(encoder, state, inflation, layout)
    except SettingsError as error:
        raise SettingsError(error.what, where=source, do=error.do) from None
    if report.share < LEAST_SHARE:
        raise _refused(encoder, report, source)
    encoder.network.load_state_dict(fitted, strict=False)
    for name in ("mean", "std"):
        given, buffer = state.get(name), getattr(encoder, name)
        if given is not None and given.ndim > 2 and given.numel() == buffer.numel() == given.shape[1]:
            buffer.copy_(given.reshape(buffer.shape))
    return report


def whole_report(encoder: Encoder) -> LoadReport:
    """The report of an encoder that was taken from its folder as it is."""
    sizes = {name: value.numel() for name, value in encoder.network.state_dict().items() if value.is_floating_point()}
    return LoadReport(tuple(sizes), (), (), (), sizes=sizes, layout="medprior", title=layout_of("medprior").title)


def match(
    encoder: Encoder, state: Mapping[str, Tensor], inflation: Inflation = "average", layout: str | None = None
) -> tuple[dict[str, Tensor], LoadReport]:
    """The tensors of `state` under the names of the encoder's network, in its shapes, and what was found."""
    own = encoder.network.state_dict()
    wanted = {name: value for name, value in own.items() if value.is_floating_point()}
    named = _named(state, wanted, layout_of(layout) if layout else recognise(state))
    given = {name: state[place] for name, place in named.names.items() if name in wanted}
    note = named.layout.note
    if named.layout.merging and encoder.merging and named.layout.merging != encoder.merging:
        orders = named.layout.merging, encoder.merging
        given = {name: reordered(name, value, *orders) for name, value in given.items()}
        note = f"{note} What merges patches was put into the order of {encoder.spec['name']}.".strip()
    dims = _dims(encoder, given, wanted)
    tried = {name: _fit(encoder, name, value, wanted[name], dims, inflation) for name, value in given.items()}
    found = {name: tensor for name, tensor in tried.items() if tensor is not None}
    counters = own.keys() - wanted.keys()  # whole numbers that every network makes itself
    known = {place for name, place in named.names.items() if name in found or name in counters} | set(named.aside)
    fitted = [name for name, tensor in found.items() if tensor is not given[name]]
    return found, LoadReport(
        matched=tuple(name for name in wanted if name in found),
        fitted=tuple(fitted),
        missing=tuple(name for name in wanted if name not in found),
        unused=tuple(name for name in state if name not in known),
        aside=named.aside,
        sizes={name: value.numel() for name, value in wanted.items()},
        shapes={name: (tuple(given[name].shape), tuple(found[name].shape)) for name in fitted},
        layout=named.layout.name,
        title=named.layout.title,
        note=note,
    )


def _refused(encoder: Encoder, report: LoadReport, source: str) -> SettingsError:
    told = [("Not found", report.missing), ("of no use", report.unused)]
    names = "; ".join(f"{what}: {', '.join(folded(listed))}" for what, listed in told if listed)
    return SettingsError(
        f"these weights are not for {encoder.spec['name']}: {report} (read as {report.title}, layout {report.layout})",
        where=source,
        do=f"Choose the encoder they were made with, or name their layout: LAYOUT:FILE. {names}",
    )


def _named(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout) -> _Named:
    if layout.name == AS_THEY_ARE:
        prefix = _prefix(state, wanted)
        return _Named(layout, {key[len(prefix) :]: key for key in state if key.startswith(prefix)}, ())
    names: dict[str, str] = {}
    aside = []
    for key in state:
        name = layout.translated(key)
        if name is None:
            aside.append(key)
        else:
            names.setdefault(name, key)
    return _Named(layout, names, tuple(aside))


def _prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What the file puts before the names of the network, such as "module.backbone."."""
    probes = list(wanted)[:: max(1, len(wanted) // 8)]
    candidates = {key[: -len(name)] for name in probes for key in state if key.endswith(name)}
    return max(sorted(candidates), key=lambda p: sum(p + name in state for name in wanted), default="")


def _dims(encoder: Encoder, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> int:
    """2 where the network is one of volumes and the file holds kernels of images; else those of the network."""
    flat = any(value.ndim == 4 and wanted[name].ndim == 5 for name, value in given.items())
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
