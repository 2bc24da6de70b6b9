"""Pre-training: the loss falls, a stopped run ends as one that was not, and divergence is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.data.catalog import build_catalog
from medprior.data.store.pixels import PixelStore, ResidentStore
from medprior.errors import Interrupted, RunError
from medprior.methods.factory import create_method
from medprior.methods.method import DataFacts
from medprior.training.loop import PretrainPlan, Trainer, pretrain
from medprior.training.optim import OptimizerPlan
from medprior.training.run import Run
from medprior.views.recipe import base_recipe

STEPS = 8
BACKBONES = {"simclr": "resnet18", "mae": "test_vit"}


@pytest.fixture(scope="module")
def store(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> ResidentStore:
    catalog = build_catalog(cohort.parent)
    return PixelStore.build(catalog, tmp_path_factory.mktemp("store"), size=32).resident(torch.device("cpu"))


def make_trainer(store: ResidentStore, method: str, *, lr: float = 1e-3, steps: int = STEPS) -> Trainer:
    encoder = create_encoder(BACKBONES[method], in_channels=1, size=32, mean=[0.4], std=[0.2], seed=0)
    facts = DataFacts(count=60, channels=1, spatial_dims=2, size=32, mean=(0.4,), std=(0.2,), labels=())
    built = create_method(method, encoder, facts=facts, seed=0)
    plan = PretrainPlan(steps, 16, OptimizerPlan("adamw", lr), seed=5, checkpoint_seconds=0)
    return Trainer(built, store, np.arange(60), plan, base_recipe("CR", 32))


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.method.state_dict().items()}


@pytest.mark.parametrize("method", ["simclr", "mae"])
def test_a_stopped_run_ends_as_one_that_was_not(store: ResidentStore, method: str, tmp_path: Path) -> None:
    whole = make_trainer(store, method)
    pretrain(whole, Run.open(tmp_path / "whole", {}), title=method)
    for patience in (1, 3):
        asked = iter([False] * patience + [True] * 9)
        with pytest.raises(Interrupted):
            pretrain(
                make_trainer(store, method),
                Run.open(tmp_path / "parts", {}),
                title=method,
                stop=lambda a=asked: next(a),
            )
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
