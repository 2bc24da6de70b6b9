"""Every target of an export by name, which of them can hold an encoder, and the check of what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from medprior.backbones.encoder import Encoder
from medprior.backbones.export.form import HERE, Form, as_tensors, image_of, still
from medprior.backbones.export.to_monai import monai_form
from medprior.backbones.export.to_onnx import onnx_form
from medprior.backbones.export.to_timm import hub_form, timm_form
from medprior.backbones.export.to_torchvision import torchvision_form
from medprior.backbones.weights import save_encoder
from medprior.errors import RunError, SettingsError, unknown

Expected = Callable[[Tensor], Mapping[str, object]]
"""What a model answers to images (B, C, *S) in [0, 1], by name."""
TOLERANCE = 1e-5
IMAGES = 3
"""How many a check looks at: not as many as a graph was traced with."""


def safetensors_form(encoder: Encoder) -> Form:
    """The form that medprior itself reads, which every encoder has."""
    return Form(
        library="medprior",
        load=("from medprior.backbones.weights import load_encoder", f'model = load_encoder("{HERE}").eval()'),
        use=("maps = model(images)", "features = model.pool(maps)"),
        write=lambda folder: save_encoder(encoder, folder),
        image=image_of(encoder),
        notes=("The names in `encoder.safetensors` behind `network.` are those of the library the network is from.",),
    )


TARGETS: dict[str, Callable[[Encoder], Form]] = {
    "timm": timm_form,
    "torchvision": torchvision_form,
    "monai": monai_form,
    "huggingface": hub_form,
    "onnx": onnx_form,
    "safetensors": safetensors_form,
}


def holders(encoder: Encoder) -> list[str]:
    """The targets that can hold an encoder."""
    found = []
    for name, form in TARGETS.items():
        try:
            form(encoder)
        except SettingsError:
            continue
        found.append(name)
    return found


def encoder_form(encoder: Encoder, target: str) -> Form:
    """An encoder in the form of a target.

    Raises:
        SettingsError: there is no such target, or it cannot hold this encoder; with those that can.
    """
    check_target(target)
    try:
        return TARGETS[target](encoder)
    except SettingsError as error:
        do = f"Targets that can: {', '.join(holders(encoder))}"
        raise SettingsError(error.what, where=error.where or "--to", do=do) from None


def check_target(target: str) -> None:
    """Refuse an unknown target.

    Raises:
        SettingsError: with the nearest one.
    """
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)


def difference(form: Form, folder: Path, expected: Expected) -> float:
    """How far the files in `folder`, loaded and used as the form says, are from what is `expected` of the same images.

    The largest difference of any number over the largest number beside it, on noise and on pictures.

    Raises:
        RunError: it is more than 1e-5, or the files cannot be loaded or used.
    """
    worst = 0.0
    for images in (noise(form.image), pictures(form.image)):
        with torch.no_grad():
            wanted = {name: as_tensors(found) for name, found in expected(images).items()}
        try:
            given = form.answers(folder, images)
        except Exception as error:  # whatever another library makes of the files
            raise _failed(form, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error
        for name in form.gives:
            pairs = list(zip(wanted[name], given[name], strict=True))
            if any(a.shape != b.shape for a, b in pairs):
                raise _failed(form, f"its {name} have another shape")
            worst = max([worst, *(_apart(a, b) for a, b in pairs)])
    if not worst <= TOLERANCE:
        raise _failed(form, f"its answers differ by {worst:.1e} of the largest, and {TOLERANCE:g} is allowed")
    return worst


def expected_of(encoder: Encoder) -> Expected:
    """What is expected of an encoder's export: its maps and features."""

    def answers(images: Tensor) -> Mapping[str, object]:
        with still(encoder):
            maps = encoder(images)
            return {"maps": maps, "features": encoder.pool(maps)}

    return answers


def noise(image: Sequence[int]) -> Tensor:
    """Images (B, C, *S) of independent values in [0, 1]; `image` is (C, *S)."""
    return torch.rand(IMAGES, *image, generator=torch.Generator().manual_seed(0))


def pictures(image: Sequence[int]) -> Tensor:
    """Images (B, C, *S) as scans are: smooth, bright in the middle, black around, each of another contrast."""
    channels, *extents = image
    coarse = torch.rand(IMAGES, channels, *[6] * len(extents), generator=torch.Generator().manual_seed(1))
    smooth = functional.interpolate(coarse, tuple(extents), mode="bilinear" if len(extents) == 2 else "trilinear")
    axes = [torch.linspace(-1, 1, side).square() for side in extents]
    distance = torch.stack(torch.meshgrid(*axes, indexing="ij")).sum(0)
    return smooth * (distance < 0.8) * torch.tensor([1.0, 0.6, 0.3]).reshape(-1, 1, *[1] * len(extents))


def _apart(expected: Tensor, given: Tensor) -> float:
    """NaN where one of them holds any."""
    gap = (expected.double() - given.double()).abs().max()
    return float(gap / expected.double().abs().max().clamp(min=1e-30))


def _failed(form: Form, why: str) -> RunError:
    return RunError(
        f"the export to {form.library} failed its check, and nothing is left of it: {why}",
        do="Choose another --to, and tell medprior's developers which encoder this was",
    )
