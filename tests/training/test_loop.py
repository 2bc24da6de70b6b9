"""Pre-training: the loss falls, a stopped run ends as one that was not, and divergence is said."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medprior.backbones.factory import create_encoder
from medprior.data.catalog import build_catalog
from medprior.data.store.pixels import PixelStore
from medprior.data.store.resident import ResidentStore
from medprior.data.volumestore.resident import ResidentVolumes
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import Interrupted, RunError, StoreError
from medprior.methods.factory import create_method
from medprior.methods.method import DataFacts
from medprior.progress import Bar, silent
from medprior.training.checkpoint import load_checkpoint
from medprior.training.compiling import Wanted, compiled
from medprior.training.loop import PretrainPlan, Trainer, pretrain
from medprior.training.optim import OptimizerPlan
from medprior.training.run import Run
from medprior.views.recipe import base_recipe

SMALL = {"simclr": {}, "mae": {"decoder_width": 48, "decoder_depth": 1, "decoder_heads": 3}}
STEPS = 8
CPU = torch.device("cpu")
BACKBONES = {"simclr": "test_resnet", "mae": "test_vit"}


@pytest.fixture(scope="module")
def store(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> ResidentStore:
    catalog = build_catalog(cohort.parent)
    return PixelStore.build(catalog, tmp_path_factory.mktemp("store"), size=32).resident(torch.device("cpu"))


def make_trainer(
    store: ResidentStore, method: str, *, lr: float = 1e-3, steps: int = STEPS, compile: Wanted = "auto"
) -> Trainer:
    encoder = create_encoder(BACKBONES[method], in_channels=1, size=32, mean=[0.4], std=[0.2], seed=0)
    facts = DataFacts(count=60, channels=1, spatial_dims=2, size=32, mean=(0.4,), std=(0.2,), labels=())
    built = create_method(method, encoder, overrides=SMALL[method], facts=facts, seed=0)
    plan = PretrainPlan(steps, 16, OptimizerPlan("adamw", lr), seed=5, checkpoint_seconds=0, compile=compile)
    return Trainer(built, store, np.arange(60), plan, base_recipe("CR", 32))


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.method.state_dict().items()}


class Stopping:
    """Asks to stop after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


class Spoken:
    """A Progress that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def task(self, title: str, total: float | None, unit: str = "", done: float = 0) -> Iterator[Bar]:
        with silent.task(title, total, unit, done) as bar:
            yield bar


def readers() -> list[threading.Thread]:
    """The threads of queues."""
    return [thread for thread in threading.enumerate() if "_work" in thread.name]


def broken(_graph: Any, _inputs: Any) -> None:
    raise RuntimeError("no compiler")


@pytest.mark.parametrize("method", ["simclr", "mae"])
def test_a_stopped_run_ends_as_one_that_was_not(store: ResidentStore, method: str, tmp_path: Path) -> None:
    whole = make_trainer(store, method)
    pretrain(whole, Run.open(tmp_path / "whole", {}), title=method)
    for patience in (1, 3):
        with pytest.raises(Interrupted):
            run = Run.open(tmp_path / "parts", {})
            pretrain(make_trainer(store, method), run, title=method, stop=Stopping(patience))
    parts = make_trainer(store, method)
    pretrain(parts, Run.open(tmp_path / "parts", {}), title=method)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(parts)[name]), name
    curves = [Run.open(tmp_path / place, {}).curves()["loss"] for place in ("whole", "parts")]
    assert curves[0] == curves[1]
    assert curves[0][0] == list(range(STEPS))


def test_the_loss_falls(store: ResidentStore, tmp_path: Path) -> None:
    run = Run.open(tmp_path, {})
    pretrain(make_trainer(store, "mae", steps=60), run, title="mae")
    _, losses = run.curves()["loss"]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:5])


def test_divergence_is_said(store: ResidentStore, tmp_path: Path) -> None:
    trainer = make_trainer(store, "mae")
    with torch.no_grad():
        next(trainer.method.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="loss of MAE is nan at step 0"):
        pretrain(trainer, Run.open(tmp_path, {}), title="mae")


def test_no_step_reads_from_the_device(store: ResidentStore) -> None:
    for method in ("simclr", "mae"):
        trainer = make_trainer(store, method)
        trainer.method.train()
        with NoReading():
            outcomes = [trainer.step() for _ in range(2)]
        assert [outcome.read().step for outcome in outcomes] == [0, 1]


READS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "allclose")


class NoReading(TorchDispatchMode):
    """Fails on every operation that would make the host wait for a GPU: numbers read, shapes that depend on values."""

    def __torch_dispatch__(self, function: Any, types: Any, inputs: tuple[Any, ...] = (), named: Any = None) -> Any:
        name = function.name().split("::")[1].split(".")[0]
        assert name not in READS, f"the step reads from the device: {name}"
        if name in ("index", "index_put_", "_index_put_impl_"):
            assert all(i is None or i.dtype != torch.bool for i in inputs[1]), "the step indexes by a mask"
        return function(*inputs, **(named or {}))


def test_no_reading_catches_a_read() -> None:
    for read in (lambda x: x.sum().item(), lambda x: float(x[0]), lambda x: x[x > 0], lambda x: bool(x.any())):
        with pytest.raises(AssertionError, match="the step"), NoReading():
            read(torch.ones(3))


def test_precision_can_be_chosen(store: ResidentStore) -> None:
    seen = []
    for precision in ("auto", "fp32", "bf16"):
        trainer = make_trainer(store, "mae")
        trainer.plan = replace(trainer.plan, precision=precision)
        trainer.method.decoder.head.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
        trainer.step()
    assert seen == [torch.float32, torch.float32, torch.bfloat16]


def test_convolutions_keep_their_channels_together(store: ResidentStore, tmp_path: Path) -> None:
    trainer = make_trainer(store, "simclr")
    with pytest.raises(Interrupted):
        pretrain(trainer, Run.open(tmp_path, {}), title="simclr", stop=Stopping(3))
    again = make_trainer(store, "simclr")
    again.resume(tmp_path / "checkpoints")
    for one in (trainer, again):
        weight = one.method.encoder.network.layer1[0].conv1.weight
        kept = one.optimizer.state[weight]["exp_avg"]
        assert all(t.is_contiguous(memory_format=torch.channels_last) for t in (weight, kept))


def test_a_compiler_that_fails_is_said_and_done_without(store: ResidentStore, tmp_path: Path) -> None:
    spoken = Spoken()
    trainer = make_trainer(store, "mae", steps=2)
    reference = make_trainer(store, "mae", steps=2)
    for name, function in (("_see", trainer._cut_views), ("_losses", trainer.method)):
        setattr(trainer, name, compiled(function, True, CPU, lambda why: trainer.report(why), backend=broken))
    pretrain(trainer, Run.open(tmp_path / "broken", {}), title="mae", progress=spoken)
    pretrain(reference, Run.open(tmp_path / "plain", {}), title="mae")
    assert spoken.lines == ["Not compiled, which is slower but the same: RuntimeError: no compiler"] * 2
    log = (tmp_path / "broken" / "events.jsonl").read_text(encoding="utf-8")
    assert log.count('"event": "eager", "why": "RuntimeError: no compiler"') == 2
    for name, value in weights(reference).items():
        assert torch.equal(value, weights(trainer)[name]), name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_compiled_step_is_the_step(store: ResidentStore) -> None:
    said: list[str] = []
    losses = []
    for wanted in (True, False):
        trainer = make_trainer(store, "mae", compile=wanted)
        trainer.report = said.append
        trainer.method.train()
        losses.append([trainer.step().read().losses["loss"] for _ in range(3)])
    assert said == []
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.parametrize("damage", ["cut", "deleted"])
def test_a_store_that_is_damaged_in_use_is_said(cohort: Path, tmp_path: Path, damage: str) -> None:
    images = PixelStore.build(build_catalog(cohort.parent), tmp_path / "store", size=32)
    (file,) = (tmp_path / "store").glob("pixels-*.npy")

    def harm() -> bool:
        if damage == "deleted":
            file.unlink(missing_ok=True)
        else:
            os.truncate(file, 1000)
        return False

    for kind in ("host", "disk"):
        trainer = make_trainer(images.resident(CPU, kind), "mae", steps=50)  # type: ignore[arg-type]
        harmed = iter([lambda: False] * 2 + [harm] + [lambda: False] * 99)
        with pytest.raises(StoreError, match="the pixel store cannot be used"):
            pretrain(trainer, Run.open(tmp_path / kind, {}), title="mae", stop=lambda h=harmed: next(h)())
        kept = load_checkpoint(tmp_path / kind / "checkpoints")
        assert kept is not None
        assert kept["step"] >= 2
        if kind == "host":
            shutil.rmtree(tmp_path / "store")
            images = PixelStore.build(build_catalog(cohort.parent), tmp_path / "store", size=32)
    assert readers() == []


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> ResidentVolumes:
    """Eight volumes of different lengths: a soft gradient and grain."""
    folder = tmp_path_factory.mktemp("volumes")
    (folder / "scans").mkdir()
    for i in range(8):
        voxels = np.random.default_rng(i).normal(0, 100, (24 + i, 30, 28)) + 40 * np.arange(28)
        np.save(folder / "scans" / f"{i}.npy", voxels.astype(np.int16))
    return VolumeStore.build(build_catalog(folder / "scans"), folder / "store").resident(CPU)


def volume_trainer(volumes: ResidentVolumes) -> Trainer:
    size, statistics = 16, volumes.moments(np.arange(8))
    encoder = create_encoder("vit_tiny_patch8", 1, 3, size, mean=statistics[0], std=statistics[1], seed=0)
    facts = DataFacts(8, 1, 3, size, *statistics)
    built = create_method("mae", encoder, overrides=SMALL["mae"], facts=facts, seed=0)
    base = replace(base_recipe("CT", size, 3), pitch=(1.0, 1.5))
    return Trainer(built, volumes, np.arange(8), PretrainPlan(6, 4, OptimizerPlan(lr=1e-3), 5, 0), base)


def test_crops_of_volumes_train_and_resume_bit_for_bit(volumes: ResidentVolumes, tmp_path: Path) -> None:
    whole = volume_trainer(volumes)
    pretrain(whole, Run.open(tmp_path / "whole", {}), title="mae")
    with pytest.raises(Interrupted):
        pretrain(volume_trainer(volumes), Run.open(tmp_path / "parts", {}), title="mae", stop=Stopping(2))
    assert readers() == []
    parts = volume_trainer(volumes)
    pretrain(parts, Run.open(tmp_path / "parts", {}), title="mae")
    for name, value in weights(whole).items():
        assert value.isfinite().all(), name
        assert torch.equal(value, weights(parts)[name]), name
    assert len(Run.open(tmp_path / "whole", {}).curves()["loss"][1]) == 6
