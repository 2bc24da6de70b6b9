"""Encoders in the forms of other libraries: loaded back by the lines of the card, they answer as before."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder
from medprior.backbones.export import to_onnx
from medprior.backbones.export.form import MOST_LINES, as_tensors, located
from medprior.backbones.export.targets import (
    TOLERANCE,
    difference,
    encoder_form,
    expected_of,
    holders,
    noise,
    pictures,
)
from medprior.errors import RunError, SettingsError
from shaken import shaken

TIMM = ("timm", "torchvision", "huggingface", "onnx", "safetensors")
FITTING = {
    ("resnet18", 2): (*TIMM, "monai"),
    ("convnext_atto", 2): TIMM,
    ("efficientnet_b0", 2): TIMM,
    ("densenet121", 2): (*TIMM, "monai"),
    ("swin_tiny", 2): ("timm", "huggingface", "onnx", "safetensors"),
    ("vit_micro_patch8", 2): (*TIMM, "monai"),
    ("unet_8", 2): ("onnx", "safetensors"),
    ("resenc_8", 2): ("onnx", "safetensors"),
    ("segresnet_8", 3): ("monai", "onnx", "safetensors"),
    ("swin_unetr_12", 2): ("monai", "onnx", "safetensors"),
    ("vit_micro_patch8", 3): ("monai", "onnx", "safetensors"),
}
"""What of each family is held by whom."""
TRIED = [
    ("resnet18", 2, "torchvision"), ("resnet18", 2, "monai"), ("test_convnext", 2, "huggingface"),
    ("convnext_atto", 2, "torchvision"), ("efficientnet_b0", 2, "timm"), ("efficientnet_b0", 2, "torchvision"),
    ("vit_micro_patch8", 2, "torchvision"), ("vit_micro_patch8", 3, "monai"), ("vit_micro_patch8", 3, "onnx"),
    ("unet_8", 2, "onnx"), ("segresnet_8", 3, "monai"), ("segresnet_8", 3, "onnx"), ("swin_unetr_12", 2, "monai"),
    ("resenc_8", 2, "safetensors"),
]  # fmt: skip
"""Every family and target at least once; `benchmarks/export` has all pairs."""


@cache
def encoder(name: str, dims: int, channels: int = 1) -> Encoder:
    return shaken(name, channels, dims, size=16 if name == "segresnet_8" else 32)


@pytest.mark.parametrize(("name", "dims", "target"), TRIED)
def test_it_answers_as_before(name: str, dims: int, target: str, tmp_path: Path) -> None:
    ours = encoder(name, dims)
    form = encoder_form(ours, target)
    assert len(form.load) <= MOST_LINES
    form.write(tmp_path)
    assert difference(form, tmp_path, expected_of(ours)) <= TOLERANCE
    assert not [file for file in tmp_path.iterdir() if file.suffix in (".pth", ".pt", ".bin", ".pkl")]


@pytest.mark.parametrize("target", ["timm", "torchvision", "huggingface"])
def test_several_channels_are_standardised_each_by_its_own(target: str, tmp_path: Path) -> None:
    ours = encoder("test_resnet" if target != "torchvision" else "resnet18", 2, channels=2)
    form = encoder_form(ours, target)
    form.write(tmp_path)
    assert difference(form, tmp_path, expected_of(ours)) <= TOLERANCE


def test_the_card_s_lines_do_it_in_a_fresh_process(tmp_path: Path) -> None:
    """All targets in one process, each in its own folder, without medprior where the library is another."""
    ours = encoder("vit_micro_patch8", 2)
    images = noise((1, 32, 32))
    np.save(tmp_path / "images.npy", images.numpy())
    code = ["import numpy, os, sys, torch", "torch.set_num_threads(1)"]
    for target in ("timm", "torchvision", "huggingface", "onnx", "safetensors"):
        (tmp_path / target).mkdir()
        form = encoder_form(ours, target)
        form.write(tmp_path / target)
        if target == "safetensors":
            code.append("assert 'medprior' not in sys.modules")
        code += [f"os.chdir({str(tmp_path / target)!r})", "images = torch.from_numpy(numpy.load('../images.npy'))"]
        code += ["with torch.no_grad():", *[f"    {line}" for line in form.code().splitlines()]]
        code += ["    numpy.save('features.npy', numpy.asarray(features))"]
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = as_tensors(expected_of(ours)(images)["features"])[0]
    for file in tmp_path.glob("*/features.npy"):
        torch.testing.assert_close(torch.from_numpy(np.load(file)), expected, rtol=1e-4, atol=TOLERANCE)
    assert len(list(tmp_path.glob("*/features.npy"))) == 5


@pytest.mark.parametrize(("name", "dims"), list(FITTING))
def test_each_family_is_held_by_those_that_have_it(name: str, dims: int) -> None:
    assert set(holders(encoder(name, dims))) == set(FITTING[name, dims])


def test_a_target_that_cannot_is_refused_with_those_that_can() -> None:
    with pytest.raises(SettingsError, match=r"monai cannot hold efficientnet_b0.*\n.*timm, torchvision, huggingface"):
        encoder_form(encoder("efficientnet_b0", 2), "monai")
    with pytest.raises(SettingsError, match=r"windows are smaller than 7"):
        encoder_form(encoder("swin_tiny", 2), "torchvision")
    with pytest.raises(SettingsError, match=r'Nearest: "torchvision"'):
        encoder_form(encoder("resnet18", 2), "torchvison")


@pytest.mark.parametrize("name", ["cls_token", "blocks.5.attn.proj.bias"])
def test_one_weight_that_is_off_fails_the_check(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    ours = encoder("vit_micro_patch8", 2)
    form = encoder_form(ours, "timm")
    form.write(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state[name] = state[name] * 1.01
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(RunError, match="failed its check"):
        difference(form, tmp_path, expected_of(ours))
    del state[name]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(RunError, match="failed its check"):
        difference(form, tmp_path, expected_of(ours))


def test_a_number_of_images_that_became_a_constant_fails_the_check(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) + torch.ones(len(images), 1)  # the length is a number of Python's

    form = to_onnx.graph_form(
        Fixed(), ("features",), 'features = model.run(None, {"images": images.numpy()})', (1, 4, 4)
    )
    form.write(tmp_path)
    with pytest.raises(RunError, match="failed its check"):
        difference(form, tmp_path, lambda images: {"maps": [], "features": Fixed()(images)})


@pytest.mark.parametrize("layer", [nn.InstanceNorm3d(4, affine=True), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)])
def test_norms_are_as_exact_in_onnx_over_a_large_background(layer: nn.Module, tmp_path: Path) -> None:
    import onnxruntime

    dims = 2 if isinstance(layer, nn.InstanceNorm2d) else 3
    image = (4, *[40] * dims)
    to_onnx.write_graph(layer, ("found",), image, tmp_path / "norm.onnx")
    images = pictures(image) + 1
    (found,) = onnxruntime.InferenceSession(tmp_path / "norm.onnx").run(None, {"images": images.numpy()})
    exact = layer.double()(images.double())
    layer.float()
    assert (torch.from_numpy(found) - exact).abs().max() <= 2e-6 * exact.abs().max()


def test_pictures_are_dark_around_and_smooth_within() -> None:
    images = pictures((2, 32, 32))
    assert images.min() == 0 and images.max() <= 1 and (images == 0).float().mean() > 0.2
    inside = images[0, 0, 12:20, 12:20]
    assert inside.diff(dim=0).abs().max() < 0.2 * inside.max()


@pytest.mark.parametrize("name", ["test_resnet", "vit_micro_patch8"])
def test_transformers_reads_the_same_folder(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="nothing here needs transformers, which is large")
    ours = encoder(name, 2)
    form = encoder_form(ours, "huggingface")
    form.write(tmp_path)
    scope: dict[str, Any] = {}
    exec("\n".join(located(form.also, tmp_path)), scope)
    images = noise((1, 32, 32))
    with torch.no_grad():
        (*_, last), found = ours(images), scope["model"](ours.standardise(images)).last_hidden_state
    found = found[:, 1:].transpose(1, 2).reshape(last.shape) if found.ndim == 3 else found
    torch.testing.assert_close(found, last, rtol=1e-4, atol=1e-5)
