"""Encoders by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch

from medprior.backbones import volumes
from medprior.backbones.axes import Sides, check_spacing, voxels
from medprior.backbones.encoder import Encoder, EncoderSpec, Kind, Statistics, refuse_uneven_voxels
from medprior.backbones.inflate import Inflation, first_without_twin
from medprior.backbones.layout import AS_THEY_ARE
from medprior.backbones.source import HUB, PUBLISHED, Source, read_source
from medprior.backbones.timm2d import TimmEncoder
from medprior.backbones.vit import VisionTransformer
from medprior.backbones.weights import fill, load_weights
from medprior.errors import SettingsError, nearest

FITTING: dict[str, tuple[str, ...]] = {
    "any": (
        "resnet18",
        "convnext_atto",
        "convnext_tiny",
        "vit_tiny",
        "swin_tiny",
        "efficientnet_b0",
        *volumes.FAMILIES,
    ),
    "cnn": ("resnet18", "resnet50", "convnext_atto", "efficientnet_b0", "densenet121", "unet", "resenc", "segresnet"),
    "vit": ("vit_micro_patch8", "vit_tiny", "vit_tiny_patch8", "vit_small", "vit_base"),
}
_FRIENDLY = {
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "swin_small": "swin_small_patch4_window7_224",
    "swin_base": "swin_base_patch4_window7_224",
}
_VIT = re.compile(r"vit_(micro|tiny|small|base|large)(?:_patch([1-9]\d*)(mm)?)?")
_MICRO = {"embed_dim": 128, "depth": 6, "num_heads": 4}  # small patches at the price of vit_tiny's large ones, for CPUs
_UNKNOWN = {"mean": (0.5,), "std": (0.25,)}


def create_encoder(
    name: str,
    in_channels: int = 1,
    spatial_dims: int = 2,
    size: int = 64,
    *,
    weights: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
    inflation: Inflation = "average",
    spacing: Sequence[float] | None = None,
) -> Encoder:
    """An encoder of images (2) or volumes (3) of `size` pixels a side.

    Args:
        name: `resnet18`, `convnext_atto`, `vit_tiny` (patches of 16), `vit_tiny_patch8`, `vit_tiny_patch16mm` (of 16
            mm), `swin_tiny` ..., or any timm model that offers feature maps. In 3D plain vision transformers, ResNets,
            ConvNeXts, EfficientNets and DenseNets. In both `unet`, `resenc`, `segresnet` and `swin_unetr`, at another
            width with its number behind the name: `unet_16`.
        weights: what it starts from, as `read_source` reads it: an encoder folder, a weights file whose layout is
            recognised or said ("moco:FILE"), "imagenet" for those timm knows for this model, one of their tags
            ("a1_in1k"), or "hf-hub:owner/model". `loaded` then says what was found.
        mean, std: of each channel of the data, in [0, 1]; those of `weights` when absent, else 0.5 and 0.25.
        seed: of the initial weights; the caller's random state is neither used nor moved. None draws anew.
        inflation: how weights of images are given depth when they start an encoder of volumes; see
            `medprior.backbones.inflate.inflate_kernel`.
        spacing: mm per voxel along each axis of what it will see. `unet`, `resenc` and `segresnet` then halve no axis
            whose voxels are twice as long as the finest ones, or longer; the patches of plain vision transformers,
            `patch` voxels long along the finest axis, get as many along another as come nearest to the same mm.
            `size` is along the finest axis.

    Raises:
        SettingsError: unknown name, a size, dimensionality or spacing the network cannot take, weights that do not fit
            or cannot be had.
    """
    known = None if spacing is None else tuple(float(step) for step in spacing)
    spec = EncoderSpec(name, in_channels, spatial_dims, size, known)
    _check(spec)
    source = Source("") if weights is None else read_source(weights)
    published = source.published
    with seeded(seed):
        if volumes.is_known(name):
            _refuse_published(name, published)
            encoder: Encoder = volumes.make_encoder(spec, _statistics(mean, std, in_channels, _UNKNOWN))
        else:
            encoder = _of_timm(spec, published, mean, std, inflation)
    if source.path is not None:
        encoder.loaded = load_weights(encoder, source.path, inflation, source.layout)
        _set_statistics(encoder, mean, std)
    return encoder


def check_fit(needs: str, name: str, kind: Kind, method: str) -> None:
    """Refuse a pair of method and encoder that cannot work."""
    if needs in ("any", kind):
        return
    wanted = {"vit": "a plain vision transformer", "cnn": "a convolutional encoder"}[needs]
    fitting = ", ".join(FITTING[needs])
    raise SettingsError(
        f"{method} needs {wanted}, and {name} is none", where="pretrain.backbone", do=f"For instance: {fitting}"
    )


def follows_spacing(name: str) -> bool:
    """Whether strides or patches of the encoder of that name may differ from axis to axis; others refuse to."""
    if _VIT.fullmatch(name):
        return True
    return volumes.follows_spacing(name) or name.partition(".")[0] in timm.list_models(module="vision_transformer")


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw from `seed` inside, on the CPU, and give the caller's random state back afterwards; None changes nothing."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def timm_name(name: str) -> tuple[str, dict[str, Any]]:
    """timm's name of the model, and the arguments that make it what `name` says."""
    found = _VIT.fullmatch(name)
    if found and not timm.is_model(name):
        width, patch, in_mm = found.groups()
        arguments = {} if patch in (None, "16") or in_mm else {"patch_size": int(patch)}
        if width == "micro":
            return "vit_tiny_patch16_224", _MICRO | arguments
        return f"vit_{width}_patch16_224", arguments
    return _FRIENDLY.get(name, name), {}


def _check(spec: EncoderSpec) -> None:
    if not volumes.is_known(spec.name) and not timm.is_model(timm_name(spec.name)[0]):
        known = [*FITTING["any"], *FITTING["vit"], *_FRIENDLY, *timm.list_models()]
        close = nearest(spec.name, dict.fromkeys(known))
        hint = f'Nearest: "{close}". ' if close else ""
        raise SettingsError(
            f'unknown encoder "{spec.name}"', do=f"{hint}For instance: {', '.join(FITTING['any'])}, or any timm model"
        )
    if spec.spatial_dims not in (2, 3):
        raise SettingsError(f"an encoder has 2 or 3 spatial dimensions, not {spec.spatial_dims}")
    if spec.in_channels < 1 or spec.size < 1:
        raise SettingsError(f"{spec.in_channels} channels of {spec.size} pixels cannot be encoded")
    if spec.spacing is not None:
        check_spacing(spec.spacing, spec.spatial_dims)
    elif _patch_mm(spec.name):
        raise SettingsError(
            f"{spec.name} has patches in mm, and nothing says how long a voxel is",
            where="pretrain.backbone",
            do=f"Give the spacing, or name patches in voxels: {spec.name.removesuffix('mm')}",
        )


def _patch_mm(name: str) -> float:
    """mm along the patch that a name asks for; 0 where it asks for none."""
    found = _VIT.fullmatch(name)
    return float(found[2]) if found and found[3] else 0.0


def _sides(spec: EncoderSpec, side: int) -> Sides:
    """Those of a patch that is `side` voxels along the finest axis, or as many mm as its name asks for."""
    return voxels(_patch_mm(spec.name) or side * min(spec.voxel), spec.voxel)


def _refuse_published(name: str, published: str | None) -> None:
    if published is not None:
        raise SettingsError(
            f"skipped: there are no weights {published} of {name}",
            where="pretrain.weights",
            do="Name a local file, or do without: none are published",
        )


def _of_timm(
    spec: EncoderSpec,
    published: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    inflation: Inflation,
) -> Encoder:
    network = _network(spec, published)
    statistics = _statistics(mean, std, spec.in_channels, network.pretrained_cfg if published else _UNKNOWN)
    found = network.state_dict() if published else {}
    encoder = _wrap(spec, network, statistics)
    of_images = spec.spatial_dims == 3 or len(set(spec.voxel)) > 1
    if isinstance(encoder, VisionTransformer) and (of_images or not published):
        encoder.fix_positions()
    if published:  # in the place of images timm has fitted channels and positions itself
        encoder.loaded = fill(encoder, found, published, inflation, AS_THEY_ARE)
    return encoder


def _network(spec: EncoderSpec, published: str | None) -> Any:
    """The timm model, without classifier and pooling."""
    name, arguments = timm_name(spec.name)
    arguments |= {"in_chans": spec.in_channels, "num_classes": 0, "global_pool": ""}
    if _patch_mm(spec.name):
        arguments["patch_size"] = max(_sides(spec, 0))
    if published is not None:
        arguments |= _published(published)
    try:
        try:
            return timm.create_model(name, img_size=spec.size, **arguments)
        except TypeError:  # only transformers need to know the size
            return timm.create_model(name, **arguments)
    except Exception as error:
        if published is not None:
            raise SettingsError(
                f"skipped: the weights {published} of {spec.name} are not available here",
                where="pretrain.weights",
                do=f"Name a local file, or do without. timm says: {_first_line(error)}",
            ) from None
        raise SettingsError(
            f"{spec.name} cannot be made for {spec.size} pixels: {_first_line(error)}", where="data.size"
        ) from None


def _published(weights: str) -> dict[str, Any]:
    if weights.startswith(HUB):
        source = {"hf_hub_id": weights.removeprefix(HUB), "hf_hub_filename": None, "url": "", "file": ""}
        return {"pretrained": True, "pretrained_cfg_overlay": source}
    tag = {} if weights in PUBLISHED else {"pretrained_cfg": weights.partition(".")[2] or weights}
    return {"pretrained": True, **tag}


def _wrap(spec: EncoderSpec, network: Any, statistics: Statistics) -> Encoder:
    if _is_plain_vit(network):
        vit = VisionTransformer(spec, network, statistics, _sides(spec, network.patch_embed.patch_size[0]))
        vit.grid_of(vit.extents)
        return vit
    if not hasattr(network, "forward_intermediates"):
        raise SettingsError(
            f"{spec.name} offers no feature maps",
            where="pretrain.backbone",
            do=f"For instance: {', '.join(FITTING['any'])}",
        )
    missing = first_without_twin(network) if spec.spatial_dims == 3 else None
    if missing:
        raise SettingsError(
            f"{spec.name} has no 3D form: its {missing} is for images alone",
            where="pretrain.backbone",
            do=f"In 3D, for instance: {', '.join(FITTING['cnn'] + FITTING['vit'])}",
        )
    refuse_uneven_voxels(spec)
    encoder = TimmEncoder(spec, network, statistics)
    if spec.size < max(encoder.strides):
        raise SettingsError(f"{spec.name} needs images of {max(encoder.strides)} pixels at least", where="data.size")
    return encoder


def _is_plain_vit(network: Any) -> bool:
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer as Timm

    return type(network) is Timm and type(network.patch_embed) is PatchEmbed and network.pos_embed is not None


def _statistics(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int, defaults: Mapping[str, Sequence[float]]
) -> Statistics:
    chosen = {}
    for name, given in (("mean", mean), ("std", std)):
        values = _over_channels(defaults[name], channels) if given is None else tuple(map(float, given))
        if len(values) != channels:
            raise SettingsError(f"{name} holds {len(values)} values for {channels} channels")
        chosen[name] = values
    return Statistics(**chosen)


def _over_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def _set_statistics(encoder: Encoder, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """What the caller gave goes before what an encoder folder held."""
    for name, values in (("mean", mean), ("std", std)):
        if values is not None:
            buffer = getattr(encoder, name)
            buffer.copy_(torch.tensor([float(v) for v in values]).reshape(buffer.shape))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
