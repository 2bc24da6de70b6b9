"""Measuring: operations counted right, generated scans as promised, figures that follow from each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medprior.data.catalog import build_catalog
from medprior.errors import RunError, SettingsError
from medprior.methods.method import Batch, Clock, Method
from medprior.training.benchmark import PARTS, Measured, Speed, enough_memory, measure, prepared
from medprior.training.benchtrainer import Asked, flops_per_image, report, subject
from medprior.training.flops import step_flops
from medprior.training.generated import write_generated
from medprior.views.view import View

SIMCLR = Asked("simclr", "small", "test_resnet", size=32, spatial_dims=2, batch=4, steps=1, repeats=2)
MAE = Asked("mae", "small", "test_vit", size=32, spatial_dims=2, batch=4, steps=1, repeats=1)
VOLUMES = Asked("mae", "small", "test_vit", size=32, spatial_dims=3, batch=4, steps=1, repeats=1)
CPU = torch.device("cpu")


class Product(Method):
    """One matrix product, whose operations are known."""

    def forward(self, views, batch):
        return {"loss": self.encoder.layer(views[0].pixels.flatten(1)).sum()}


class Attention(Method):
    """Pixels (B, L, D) attend to each other by way of a weight that has no product of its own."""

    def forward(self, views, batch):
        tokens = views[0].pixels * self.encoder.layer.weight[0, 0]
        return {"loss": torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).sum()}


def made(kind: type[Method]) -> Method:
    method = kind.__new__(kind)
    torch.nn.Module.__init__(method)
    method.encoder = torch.nn.Module()
    method.encoder.layer = torch.nn.Linear(64, 10)
    return method


def counted(method: Method, pixels: torch.Tensor) -> int:
    view = View(pixels, torch.ones_like(pixels, dtype=torch.bool), torch.zeros(len(pixels), 2, 3), clean=None)
    return step_flops(method, [view], Batch(torch.arange(len(pixels)), 0, Clock(0, 1)))


def test_operations_of_a_product_are_those_of_the_formula():
    method = made(Product)
    forward = 2 * 3 * 64 * 10
    assert counted(method, torch.rand(3, 1, 8, 8)) == 2 * forward  # and the gradient of the weights; pixels need none
    assert all(p.grad is None for p in method.parameters())


def test_attention_is_counted_whatever_kernel_computes_it():
    b, heads, tokens, width = 2, 3, 5, 4
    forward = 2 * (2 * b * heads * tokens * tokens * width)
    assert counted(made(Attention), torch.rand(b, heads, tokens, width)) == 3 * forward


@pytest.mark.parametrize(("dims", "kind", "top"), [(2, np.uint8, 255), (3, np.int16, 4000)])
def test_generated_scans_are_many_different_and_the_same_again(tmp_path: Path, dims: int, kind: type, top: int):
    for name in "ab":
        (tmp_path / name).mkdir()
        write_generated(tmp_path / name, 6, 16, dims)
    first, again = (np.load(tmp_path / name / "images.npy") for name in "ab")
    assert first.shape == (6, *[16] * dims, 1) and first.dtype == kind
    assert np.array_equal(first, again)
    assert len({image.tobytes() for image in first}) == 6
    assert first.min() == 0 and first.max() == top
    catalog = build_catalog(tmp_path / "a", workers=1)
    assert [len(shape) for shape in catalog.table["shape"]] == [dims] * 6


@pytest.mark.parametrize("asked", [SIMCLR, MAE, VOLUMES])
def test_the_figures_follow_from_each_other(asked: Asked, tmp_path: Path):
    with subject(asked, None, tmp_path, CPU) as trainer:
        speed = measure(trainer, flops_per_image(trainer), steps=asked.steps, repeats=asked.repeats)
        told = report(asked, trainer, speed, generated=True)
    for part in PARTS:
        values = told[part]["values"]
        assert len(values) == asked.repeats and min(values) > 0
        assert told[part]["min"] <= told[part]["median"] <= told[part]["max"]
    assert told["flops_per_image"] > 0 and 0 <= told["wait"]["median"] <= 100
    rate, limit = told["end_to_end"]["median"], told["matmul"]["max"]
    assert told["limit"] == limit
    assert told["utilisation"] == pytest.approx(told["flops_per_image"] * rate / limit)
    assert told["step_utilisation"] == pytest.approx(told["flops_per_image"] * told["step"]["median"] / limit)
    counts, sides = {2: 512, 3: 16}, {2: 64, 3: 48}
    dims = asked.spatial_dims
    assert told["scans"] == {"count": counts[dims], "generated": True, "stored_size": sides[dims]}
    assert told["placement"]["kind"] in ("host", "disk") and told["placement"]["reason"]
    assert told["precision"] == "float32" and told["peak_memory_bytes"] > 1e7
    assert not list(tmp_path.iterdir())  # what was generated is gone


def test_the_share_of_the_step_is_of_pairs():
    """Both parts slow down together when the machine is busy; the ratio of medians would not see it."""
    flat = Measured((1.0, 1.0, 1.0))
    speed = Speed(Measured((9.0, 45.0, 1.9)), Measured((10.0, 50.0, 2.0)), flat, flat, flat, flops=1.0, memory=None)
    assert speed.share_of_step == pytest.approx(0.9)


def test_what_is_measured_moves_no_step_of_the_trainer(tmp_path: Path):
    with subject(MAE, None, tmp_path, CPU) as trainer:
        made, before = prepared(trainer), [p.clone() for p in trainer.method.parts()["decoder"].parameters()]
        flops_per_image(trainer)
        assert trainer.step_number == 0 and all(p.grad is None for p in trainer.method.parameters())
        assert made.scans.index.tolist() == trainer.sampler.batch(0).tolist()
        trainer.learn(made.views, made.batch)
        after = trainer.method.parts()["decoder"].parameters()
        assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_too_few_scans_for_a_batch_are_refused(tmp_path: Path):
    (tmp_path / "scans").mkdir()
    write_generated(tmp_path / "scans", 70, 32, 2)
    wide = Asked("mae", "small", "test_vit", size=32, spatial_dims=2, batch=71, steps=1, repeats=1)
    with pytest.raises(SettingsError, match="70 scans are too few"), subject(wide, tmp_path / "scans", tmp_path, CPU):
        pass


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: tried")])
def test_too_little_memory_is_said(error: Exception):
    with pytest.raises(RunError, match="memory is too small for 64 images"), enough_memory(64):
        raise error


def test_other_failures_keep_their_words():
    with pytest.raises(RuntimeError, match="shapes"), enough_memory(64):
        raise RuntimeError("shapes do not fit")
