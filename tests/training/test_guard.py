"""What is not finite is named and kept out of the weights; everything else learns as if it had been black."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.data.catalog import build_catalog
from medprior.data.store.pixels import PixelStore
from medprior.data.store.resident import ResidentStore, Stored
from medprior.errors import RunError
from medprior.methods.factory import create_method
from medprior.methods.method import DataFacts
from medprior.progress import Bar, silent
from medprior.training.checkpoint import load_checkpoint
from medprior.training.guard import mend, prepare, update
from medprior.training.loop import PretrainPlan, Trainer, pretrain
from medprior.training.optim import OptimizerPlan, decay_groups, make_optimizer
from medprior.training.run import Run
from medprior.views.recipe import base_recipe
from medprior.views.view import View

BACKBONES = {"simclr": "test_resnet", "mae": "test_vit"}
BAD = 7
NAN = float("nan")


class Poisoned(ResidentStore):
    """A store with float pixels, in which one scan has one value that is not finite."""

    value: ClassVar[float] = NAN

    def batch(self, rows: torch.Tensor) -> Stored:
        stored = super().batch(rows)
        pixels = stored.pixels.float()
        pixels[rows == BAD, 0, 16, 16] = self.value
        return replace(stored, source=pixels)


class Blackened(ResidentStore):
    """The same with nothing in the place of that scan, and no content."""

    def batch(self, rows: torch.Tensor) -> Stored:
        stored = super().batch(rows)
        pixels, content = stored.pixels.float(), stored.content.clone()
        pixels[rows == BAD] = 0
        content[rows == BAD] = -1
        return replace(stored, source=pixels, content=content)


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


@pytest.fixture(scope="module")
def store(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> ResidentStore:
    catalog = build_catalog(cohort.parent)
    return PixelStore.build(catalog, tmp_path_factory.mktemp("store"), size=32).resident(torch.device("cpu"))


def make_trainer(store: ResidentStore, method: str, steps: int = 6) -> Trainer:
    encoder = create_encoder(BACKBONES[method], in_channels=1, size=32, mean=[0.4], std=[0.2], seed=0)
    facts = DataFacts(count=24, channels=1, spatial_dims=2, size=32, mean=(0.4,), std=(0.2,), labels=())
    built = create_method(method, encoder, facts=facts, seed=0)
    plan = PretrainPlan(steps, 12, OptimizerPlan("adamw", 1e-3), seed=5, checkpoint_seconds=0)
    return Trainer(built, store, np.arange(24), plan, base_recipe("CR", 32))


def as_kind(store: ResidentStore, kind: type[ResidentStore]) -> ResidentStore:
    return kind(store.store, store.device, store.placement)


def events(folder: Path, kind: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    return [event for event in found if event["event"] == kind]


@pytest.mark.parametrize("method", ["simclr", "mae"])
def test_one_bad_image_is_named_and_changes_nothing(store: ResidentStore, method: str, tmp_path: Path) -> None:
    spoken = Spoken()
    poisoned = make_trainer(as_kind(store, Poisoned), method)
    pretrain(poisoned, Run.open(tmp_path / "bad", {}), title=method, progress=spoken)
    first = next(step for step in range(6) if BAD in poisoned.sampler.batch(step))
    (named,) = events(tmp_path / "bad", "images not finite")
    assert (named["rows"], named["step"]) == ([BAD], first)
    assert [line for line in spoken.lines if "not finite" in line] == [
        "Row 7 of the catalog: views that are not finite, left out as black and not valid"
    ]
    black = make_trainer(as_kind(store, Blackened), method)
    pretrain(black, Run.open(tmp_path / "black", {}), title=method)
    for name, value in poisoned.method.state_dict().items():
        assert value.isfinite().all(), name
        assert torch.equal(value, black.method.state_dict()[name]), name


def test_a_batch_of_bad_images_alone_ends_training(store: ResidentStore, tmp_path: Path) -> None:
    trainer = make_trainer(as_kind(store, Poisoned), "mae")
    trainer.sampler = replace(trainer.sampler, rows=np.full(24, BAD))
    with pytest.raises(RunError, match="none of the 12 images of step 0 is finite"):
        pretrain(trainer, Run.open(tmp_path, {}), title="mae")


def spoil(trainer: Trainer, what: Callable[[torch.Tensor], torch.Tensor], first: int, last: int) -> None:
    """Change the loss of some steps."""
    honest = trainer._losses

    def spoilt(views: list[View], batch: object) -> dict[str, torch.Tensor]:
        losses = honest(views, batch)  # type: ignore[arg-type]
        if first <= trainer.step_number <= last:
            losses["loss"] = what(losses["loss"])
        return losses

    trainer._losses = spoilt  # type: ignore[assignment]


def test_a_loss_that_is_no_number_ends_training_before_it_reaches_the_weights(
    store: ResidentStore, tmp_path: Path
) -> None:
    trainer = make_trainer(store, "mae")
    spoil(trainer, lambda loss: loss * NAN, 3, 3)
    with pytest.raises(RunError, match="loss of MAE is nan at step 3, though its images are finite"):
        pretrain(trainer, Run.open(tmp_path, {}), title="mae")
    kept = load_checkpoint(tmp_path / "checkpoints")
    assert kept is not None
    assert kept["step"] == 3
    assert all(weight.isfinite().all() for weight in trainer.method.parameters())


def without_gradient(loss: torch.Tensor) -> torch.Tensor:
    """The same number, with a gradient that is none: the root of 0 has none."""
    return loss + (loss * 0).sqrt()


def test_a_gradient_that_is_not_finite_leaves_out_one_update(store: ResidentStore, tmp_path: Path) -> None:
    spoken = Spoken()
    trainer = make_trainer(store, "mae")
    spoil(trainer, without_gradient, 2, 2)
    pretrain(trainer, Run.open(tmp_path, {}), title="mae", progress=spoken)
    (event,) = events(tmp_path, "update left out")
    assert event["step"] == 2
    assert str(event["why"]).startswith("the gradient of encoder.")
    assert "the weights were left as they were" in spoken.lines[-1]
    assert all(weight.isfinite().all() for weight in trainer.method.parameters())
    taken = {int(state["step"]) for state in trainer.optimizer.state.values()}
    assert taken == {5}


def test_gradients_that_stay_infinite_end_training(store: ResidentStore, tmp_path: Path) -> None:
    trainer = make_trainer(store, "mae")
    spoil(trainer, without_gradient, 1, 5)
    with pytest.raises(RunError, match="is not finite at step 3, nor one in the 2 steps before"):
        pretrain(trainer, Run.open(tmp_path, {}), title="mae")


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_an_image_that_is_bad_in_one_view_is_black_in_all(value: float) -> None:
    views = [View(torch.rand(3, 1, 4, 4), torch.ones(3, 1, 4, 4, dtype=torch.bool), torch.zeros(3, 2, 3)) for _ in "ab"]
    views[1].pixels[2, 0, 1, 1] = value
    mended, bad = mend(views)
    assert bad.tolist() == [False, False, True]
    for before, after in zip(views, mended, strict=True):
        assert torch.equal(after.pixels[:2], before.pixels[:2])
        assert not after.pixels[2].any()
        assert after.valid[:2].all()
        assert not after.valid[2].any()


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("left_out", [0, 2])
def test_an_update_left_out_leaves_no_trace(name: str, left_out: int) -> None:
    weights = [trained(name, without) for without in (None, left_out)]
    for one, other in zip(*weights, strict=True):
        assert torch.equal(one, other)


def trained(name: str, left_out: int | None) -> list[torch.Tensor]:
    """Two weights after four updates; before one of them another one is left out."""
    draw = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((4, 3), (3,))]
    groups = decay_groups(zip(("weight", "bias"), weights, strict=True), 0.05)
    optimizer = make_optimizer(OptimizerPlan(name, lr=0.1), groups)
    prepare(optimizer)
    for step in range(4):
        if step == left_out:
            for weight in weights:
                weight.grad = torch.full_like(weight, NAN)
            update(optimizer, torch.tensor(False))
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=draw)
        update(optimizer, torch.tensor(True))
    return [weight.detach() for weight in weights]
