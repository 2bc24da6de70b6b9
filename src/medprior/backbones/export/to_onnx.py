"""Models as one graph of ONNX, standardising included, for batches of any number of images of one shape."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from medprior.backbones.encoder import Encoder
from medprior.backbones.export.form import HERE, Form, image_of, still
from medprior.errors import SettingsError
from medprior.files import replace_file

GRAPH = "model.onnx"
NEEDED = ("onnx", "onnxruntime")
OPSET = 18
TRACED = 2


class _Outputs(nn.Module):
    """What the encoder gives, flat: pooled features, then the maps, finest first."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.encoder(images)
        return self.encoder.pool(maps), *maps


def onnx_form(encoder: Encoder) -> Form:
    """Features and maps of an encoder of any kind."""
    names = ("features", *(f"map_{i}" for i in range(len(encoder.channels))))
    use = 'features, *maps = model.run(None, {"images": images.numpy()})'
    return graph_form(_Outputs(encoder), names, use, image_of(encoder))


def graph_form(module: nn.Module, names: Sequence[str], use: str, image: tuple[int, ...], **more: Any) -> Form:
    """A graph of `module`, whose outputs are called `names`, for images (C, *S) in [0, 1]."""
    notes = ("The graph standardises the images itself. The batch may have any size, the images have one shape.",)
    return Form(
        library="onnxruntime",
        load=("import onnxruntime", f'model = onnxruntime.InferenceSession("{HERE}/{GRAPH}")'),
        use=(use,),
        write=lambda folder: write_graph(module, names, image, folder / GRAPH),
        image=image,
        notes=(*notes, *more.pop("notes", ())),
        **more,
    )


def write_graph(module: nn.Module, names: Sequence[str], image: Sequence[int], path: Path) -> None:
    """Write `module` as ONNX; its weights lie in the same file.

    It is traced by torch's older exporter: the newer one takes twenty times as long, minutes for a Swin UNETR. A number
    of images that had become a constant on the way would fail the check, which looks at another number.

    Raises:
        SettingsError: what writes or reads ONNX is not installed, or the network cannot be written.
        OutputError: no space, no permission.
    """
    check_installed()
    try:
        with still(module), _quiet(), _Plain(), replace_file(path) as aside:
            torch.onnx.export(
                module,
                (torch.zeros(TRACED, *image),),
                str(aside),
                dynamo=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=list(names),
                dynamic_axes={name: {0: "batch"} for name in ("images", *names)},
            )
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
        said = (str(error).splitlines() or [""])[0]
        raise SettingsError(f"this model cannot be written as ONNX: {said}", where="--to") from error


def check_installed() -> None:
    """Refuse to begin without what ONNX needs.

    Raises:
        SettingsError: with the command that installs it.
    """
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        what = f"ONNX needs {', '.join(missing)}, which is not installed"
        raise SettingsError(what, where="--to", do="pip install 'medprior[export]'")


class _Plain(TorchFunctionMode):
    """Inside, what the exporter or onnxruntime get wrong is made of plainer parts: norms of instances and groups, and
    moved axes that are counted from the end."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is functional.instance_norm:
            found = _named(("input", "running_mean", "running_var", "weight", "bias", "use_input_stats"), args, given)
            if found.get("use_input_stats", True):
                eps = args[7] if len(args) > 7 else given.get("eps", 1e-5)
                return _normed(found["input"], found["input"].shape[1], found.get("weight"), found.get("bias"), eps)
        if func is functional.group_norm:
            found = _named(("input", "num_groups", "weight", "bias", "eps"), args, given)
            norm = found.get("weight"), found.get("bias"), found.get("eps", 1e-5)
            return _normed(found["input"], found["num_groups"], *norm)
        if func is Tensor.movedim and not given and isinstance(args[1], int):
            image, source, destination = args
            return func(image, source % image.ndim, destination % image.ndim)
        return func(*args, **given)


def _named(names: Sequence[str], args: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(names, args, strict=False)) | dict(given)


def _normed(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """(B, C, *S), each group of channels of each image at mean 0 and deviation 1, then scaled and moved by channel.

    onnxruntime adds up numbers one after the other: over a large black background its means, and its own layer for
    these norms, are off by 1e-4. Along one axis after the other there are few numbers to add.
    """
    grouped = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    centred = grouped - _mean(grouped)
    normed = (centred / (_mean(centred.square()) + eps).sqrt()).reshape(x.shape)
    by_channel = (1, -1, *[1] * (x.ndim - 2))
    scaled = normed if weight is None else normed * weight.reshape(by_channel)
    return scaled if bias is None else scaled + bias.reshape(by_channel)


def _mean(grouped: Tensor) -> Tensor:
    """Over all axes behind the second, which stay."""
    for axis in reversed(range(2, grouped.ndim)):
        grouped = grouped.mean(axis, keepdim=True)
    return grouped


@contextmanager
def _quiet() -> Iterator[None]:
    """torch warns of much that it traces; the check says what became of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
