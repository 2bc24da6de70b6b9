"""Encoders of images as timm models: a weights file, or a folder as the Hugging Face Hub holds it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from medprior.backbones.encoder import Encoder
from medprior.backbones.export.families import architecture
from medprior.backbones.export.form import HERE, WEIGHTS, Form, image_of, pooled, refuse, standardised, weights_writer
from medprior.backbones.factory import seeded, timm_name
from medprior.backbones.timm2d import TimmEncoder
from medprior.backbones.vit import VisionTransformer
from medprior.files import write_json


def timm_form(encoder: Encoder) -> Form:
    """A weights file with timm's names.

    Raises:
        SettingsError: the network is not timm's, or one of volumes.
    """
    name, arguments = _model(encoder, "timm")
    words = "".join(f", {key}={value!r}" for key, value in arguments.items())
    return Form(
        library="timm",
        load=(
            "import timm, torch",
            f'model = timm.create_model("{name}"{words}, checkpoint_path="{HERE}/{WEIGHTS}").eval()',
        ),
        use=_use(encoder),
        write=weights_writer(lambda: _filled(encoder, name, arguments)),
        image=image_of(encoder),
        notes=_notes(encoder, name, arguments),
    )


def hub_form(encoder: Encoder) -> Form:
    """A folder with `config.json`, which timm and transformers read, from the Hugging Face Hub as well.

    Raises:
        SettingsError: the network is not timm's, or one of volumes.
    """
    name, arguments = _model(encoder, "huggingface")
    untaught = _notes(encoder, name, arguments)  # transformers gives what follows the last map, too
    wrapped = ("from transformers import AutoModel", f'model = AutoModel.from_pretrained("{HERE}").eval()')
    return Form(
        library="timm",
        load=("import timm, torch", f'model = timm.create_model("local-dir:{HERE}", pretrained=True).eval()'),
        use=_use(encoder),
        write=weights_writer(
            lambda: _filled(encoder, name, arguments),
            lambda folder: write_json(folder / "config.json", _config(encoder, name, arguments)),
        ),
        image=image_of(encoder),
        notes=(*untaught, "On the Hub it is `hf-hub:OWNER/NAME` in the place of `local-dir:.`"),
        also=() if untaught else wrapped,
    )


def _model(encoder: Encoder, target: str) -> tuple[str, dict[str, Any]]:
    """timm's name of the model, and the arguments that make it."""
    if not isinstance(encoder, TimmEncoder | VisionTransformer):
        raise refuse(encoder, target, "timm has no such network")
    if encoder.spatial_dims != 2:
        raise refuse(encoder, target, "timm's networks are of images, and this one is of volumes")
    name, arguments = timm_name(str(encoder.spec["name"]))
    arguments = {"in_chans": encoder.spec["in_channels"], "num_classes": 0, **arguments}
    if "img_size" in inspect.signature(type(encoder.network).__init__).parameters:
        extents = encoder.extents
        arguments["img_size"] = extents[0] if len(set(extents)) == 1 else list(extents)
    if isinstance(encoder, VisionTransformer):
        if len(set(encoder.sides)) > 1:
            raise refuse(encoder, target, "its patches are no squares")
        arguments["patch_size"] = encoder.patch
    return name, arguments


def _use(encoder: Encoder) -> tuple[str, ...]:
    if isinstance(encoder, TimmEncoder):
        taken, pool = encoder.taken, "features = model.forward_head(maps[-1])" if encoder.pool_norm else pooled(encoder)
    else:
        taken, pool = [len(encoder.network.blocks) - 1], pooled(encoder)
    return (
        standardised(encoder),
        f"maps = model.forward_intermediates(x, indices={taken}, norm=True, intermediates_only=True)",
        pool,
    )


def _filled(encoder: Encoder, name: str, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """The whole model by name: what lies behind the last map, if anything, is as timm draws it."""
    own: dict[str, Tensor] = encoder.network.state_dict()
    with seeded(0):
        whole = timm.create_model(name, **arguments).state_dict()
    return {key: own.get(key, value) for key, value in whole.items()}


def _notes(encoder: Encoder, name: str, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    own = encoder.network.state_dict()
    with torch.device("meta"):
        whole = timm.create_model(name, **arguments).state_dict()
    untaught = sorted({key.rpartition(".")[0] for key in whole if key not in own})
    listed = ", ".join(f"`{key}`" for key in untaught)
    said = f"What follows the last map was not trained, and is as timm draws it: {listed}."
    return (said,) if untaught else ()


def _config(encoder: Encoder, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """timm's `config.json`. It names no first layer: timm would fit that of colour images to other channels."""
    channels = int(encoder.spec["in_channels"])
    return {
        "architecture": architecture(encoder),
        "num_classes": 0,
        "num_features": encoder.embed_dim,
        "model_args": {key: value for key, value in arguments.items() if key != "num_classes"},
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [channels, *encoder.extents],
            "fixed_input_size": "img_size" in arguments,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": encoder.mean.flatten().tolist(),
            "std": encoder.std.flatten().tolist(),
            "num_classes": 0,
            "pool_size": None,
            "first_conv": None,
            "classifier": None,
        },
    }
