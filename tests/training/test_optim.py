"""Schedules against their formulas; groups decay what should decay."""

import math

import pytest
import torch
from torch import nn

from medprior.training.optim import (
    OptimizerPlan,
    cosine,
    decay_groups,
    layered_groups,
    make_optimizer,
    scaled_lr,
    set_rate,
)


def test_cosine_rises_and_falls() -> None:
    steps, warmup = 100, 0.1
    values = [cosine(s, steps, warmup) for s in range(steps)]
    assert values[:10] == [(s + 1) / 10 for s in range(10)]
    assert values[10] == 1.0
    for s in range(10, 100):
        assert values[s] == pytest.approx(0.5 * (1 + math.cos(math.pi * (s - 10) / 90)), abs=1e-15)
    assert values[-1] < 1e-3


def test_linear_scaling() -> None:
    assert scaled_lr(0.3, 512, 256) == 0.6
    assert scaled_lr(1e-3, 512, None) == 1e-3


def test_biases_norms_and_tokens_do_not_decay() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    named = [*net.named_parameters(), ("cls_token", nn.Parameter(torch.zeros(1, 1, 4)))]
    decayed, free = decay_groups(named, 0.1)
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3)]
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert len(free["params"]) == 4


def test_earlier_layers_learn_slower() -> None:
    layers = [[(f"{i}.weight", nn.Parameter(torch.ones(2, 2)))] for i in range(4)]
    optimizer = make_optimizer(OptimizerPlan("sgd", momentum=0.0), layered_groups(layers, 0.0, 0.5))
    set_rate(optimizer, 1.0)
    assert [g["lr"] for g in optimizer.param_groups] == [0.125, 0.25, 0.5, 1.0]
    for layer in layers:
        layer[0][1].grad = torch.ones(2, 2)
    optimizer.step()
    assert [float(1 - layer[0][1].detach().mean()) for layer in layers] == [0.125, 0.25, 0.5, 1.0]


@pytest.mark.parametrize(("name", "lr"), [("adamw", 0.05), ("sgd", 0.05), ("lars", 5.0), ("lamb", 0.05)])
def test_every_optimiser_lowers_a_parabola(name: str, lr: float) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 8, dtype=torch.float64))
    optimizer = make_optimizer(OptimizerPlan(name, lr=lr, momentum=0.5, clip=5.0), decay_groups([("w", weight)], 1e-4))
    first = None
    for _ in range(50):
        loss = weight.square().mean()
        first = first if first is not None else loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.9 * first
