"""Optimisers against their papers' formulas, written out; groups decay what should decay."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from medprior.backbones.factory import create_encoder
from medprior.errors import SettingsError
from medprior.methods.method import TrainingPreset
from medprior.study.pretraining import optimizer_plan
from medprior.training.lars import TRUST, Lars
from medprior.training.optim import (
    OptimizerPlan,
    decay_at,
    decay_groups,
    layered_groups,
    make_optimizer,
    rate_at,
    scaled_lr,
    set_rate,
    set_schedule,
)

STEPS, BETAS, MOMENTUM = 7, (0.9, 0.95), 0.9
BARE = {"lr": 1.0, "batch_size": 4, "weight_decay": 0.0, "epochs": 1}
OPTIMISERS = ["adamw", "sgd", "lars", "lamb"]


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


def test_layer_decay_is_beits() -> None:
    """Scale decay^(depth + 1 - l): l = 0 for patches and positions, i + 1 for block i, depth + 1 for the head."""
    encoder = create_encoder("vit_tiny", seed=0)
    parameters = dict(encoder.named_parameters())
    layers = [[(name, parameters[name]) for name in names] for names in encoder.layer_groups()]
    head = nn.Linear(192, 2)
    groups = layered_groups([*layers, list(head.named_parameters())], 0.05, 0.65)
    found = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    for name, parameter in parameters.items():
        if ".blocks." in name:
            assert found[id(parameter)] == pytest.approx(0.65 ** (12 - int(name.split(".")[2])))
        elif "norm" not in name and parameter.requires_grad:
            assert found[id(parameter)] == pytest.approx(0.65**13)
    assert found[id(head.weight)] == found[id(head.bias)] == 1


def tensors() -> dict[str, nn.Parameter]:
    """A plain weight, one that is all 0, one that is given no force, and a bias."""
    torch.manual_seed(0)
    shapes = {"plain.weight": (4, 3), "zero.weight": (2, 2), "idle.weight": (3, 2), "plain.bias": (4,)}
    made = {name: nn.Parameter(torch.randn(shape, dtype=torch.float64)) for name, shape in shapes.items()}
    made["zero.weight"].data.zero_()
    return made


def gradients(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    drawn = {name: 5 * torch.randn(p.shape, dtype=torch.float64, generator=generator) for name, p in tensors().items()}
    drawn["idle.weight"].zero_()
    if step == 0:
        drawn["zero.weight"].zero_()
    return drawn


def plan_of(name: str, nesterov: bool = False) -> OptimizerPlan:
    """Rate and decay change with every step; a clip as small as this one would show."""
    return OptimizerPlan(
        name, 0.3, 0.1, BETAS, MOMENTUM, warmup=0.3, clip=1e-3, min_lr=0.1, weight_decay_end=0.4, nesterov=nesterov
    )


Rule = Callable[[Tensor, Tensor, dict[str, Tensor], int, float, float, bool], Tensor]


def adamw(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int, lr: float, decay: float, adapts: bool) -> Tensor:
    state["m"] = BETAS[0] * state.get("m", 0) + (1 - BETAS[0]) * g
    state["v"] = BETAS[1] * state.get("v", 0) + (1 - BETAS[1]) * g**2
    m, v = state["m"] / (1 - BETAS[0] ** t), state["v"] / (1 - BETAS[1] ** t)
    return w - lr * m / (v.sqrt() + 1e-8) - lr * decay * w


def sgd(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int, lr: float, decay: float, adapts: bool) -> Tensor:
    state["m"] = MOMENTUM * state.get("m", 0) + g + decay * w
    return w - lr * state["m"]


def sgd_nesterov(
    w: Tensor, g: Tensor, state: dict[str, Tensor], t: int, lr: float, decay: float, adapts: bool
) -> Tensor:
    state["m"] = MOMENTUM * state.get("m", 0) + g + decay * w
    return w - lr * (g + decay * w + MOMENTUM * state["m"])


def lars(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int, lr: float, decay: float, adapts: bool) -> Tensor:
    d = g + decay * w
    ratio = 0.001 * w.norm() / d.norm() if adapts and w.norm() > 0 and d.norm() > 0 else 1.0
    state["v"] = MOMENTUM * state.get("v", 0) + lr * ratio * d
    return w - state["v"]


def lars_nesterov(
    w: Tensor, g: Tensor, state: dict[str, Tensor], t: int, lr: float, decay: float, adapts: bool
) -> Tensor:
    d = g + decay * w
    ratio = 0.001 * w.norm() / d.norm() if adapts and w.norm() > 0 and d.norm() > 0 else 1.0
    state["v"] = MOMENTUM * state.get("v", 0) + lr * ratio * d
    return w - MOMENTUM * state["v"] - lr * ratio * d


def lamb(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int, lr: float, decay: float, adapts: bool) -> Tensor:
    state["m"] = BETAS[0] * state.get("m", 0) + (1 - BETAS[0]) * g
    state["v"] = BETAS[1] * state.get("v", 0) + (1 - BETAS[1]) * g**2
    m, v = state["m"] / (1 - BETAS[0] ** t), state["v"] / (1 - BETAS[1] ** t)
    update = m / (v.sqrt() + 1e-6) + decay * w
    ratio = w.norm() / update.norm() if adapts and w.norm() > 0 and update.norm() > 0 else 1.0
    return w - lr * ratio * update


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("rule", [adamw, sgd, sgd_nesterov, lars, lars_nesterov, lamb])
def test_every_step_is_the_papers(rule: Rule, foreach: bool) -> None:
    name, _, nesterov = rule.__name__.partition("_")
    plan = plan_of(name, bool(nesterov))
    weights = tensors()
    wanted = {n: p.detach().clone() for n, p in weights.items()}
    states: dict[str, dict[str, Tensor]] = {n: {} for n in weights}
    optimizer = make_optimizer(plan, decay_groups(weights.items(), plan.weight_decay))
    if name == "lamb":  # timm takes the one way on a GPU, the other on a CPU
        for group in optimizer.param_groups:
            group["foreach"] = foreach
    for step in range(STEPS):
        for n, g in gradients(step).items():
            weights[n].grad = g
            free = n.endswith("bias")
            lr, decay = rate_at(plan, step, STEPS), 0.0 if free else decay_at(plan, step, STEPS)
            wanted[n] = rule(wanted[n], g, states[n], step + 1, lr, decay, not free)
        set_schedule(optimizer, plan, step, STEPS)
        optimizer.step()
        for n, weight in weights.items():
            torch.testing.assert_close(weight.detach(), wanted[n], rtol=1e-10, atol=1e-12, msg=f"{n} at step {step}")
    assert all(torch.equal(weights[n].grad, g) for n, g in gradients(STEPS - 1).items()), "gradients are left alone"


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_weights_are_adapted_without_a_decay_too(name: str) -> None:
    """Weights of any length turn by the same angle; a bias moves by the same distance."""
    turned = {}
    for length in (1.0, 100.0):
        weights = {n: nn.Parameter(length * p.detach()) for n, p in tensors().items()}
        optimizer = make_optimizer(OptimizerPlan(name, 0.1), decay_groups(weights.items(), 0.0))
        for n, g in gradients(1).items():
            weights[n].grad = g
        optimizer.step()
        moved = {n: (p.detach() - length * tensors()[n].detach()).norm() for n, p in weights.items()}
        turned[length] = [moved["plain.weight"].item() / length, moved["plain.bias"].item()]
    assert turned[1.0] == pytest.approx(turned[100.0])


def test_lars_has_the_published_coefficient() -> None:
    assert TRUST == 0.001


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    def go_on(weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
        for step in range(first, last):
            for n, g in gradients(step).items():
                weights[n].grad = g
            set_schedule(optimizer, plan, step, STEPS)
            optimizer.step()

    plan = plan_of(name)
    whole, halves = tensors(), tensors()
    go_on(whole, make_optimizer(plan, decay_groups(whole.items(), 0.1)), 0, STEPS)
    first = make_optimizer(plan, decay_groups(halves.items(), 0.1))
    go_on(halves, first, 0, 3)
    torch.save(first.state_dict(), tmp_path / "optimizer.pt")
    second = make_optimizer(plan, decay_groups(halves.items(), 0.1))
    second.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    go_on(halves, second, 3, STEPS)
    assert all(torch.equal(whole[n], halves[n]) for n in whole)


def test_weight_decay_moves_and_what_does_not_decay_stays_at_0() -> None:
    plan = OptimizerPlan("adamw", lr=2.0, weight_decay=0.0, weight_decay_end=0.4, warmup=0.0, min_lr=0.5)
    optimizer = make_optimizer(plan, decay_groups(tensors().items(), plan.weight_decay))
    decays, rates = [], []
    for step in (0, 5, 10):
        set_schedule(optimizer, plan, step, 10)
        decays.append([group["weight_decay"] for group in optimizer.param_groups])
        rates += [group["lr"] for group in optimizer.param_groups]
    assert decays == [[0.0, 0.0], [pytest.approx(0.2), 0.0], [pytest.approx(0.4), 0.0]]
    assert rates == pytest.approx([2.0, 2.0, 1.5, 1.5, 1.0, 1.0])


def test_a_constant_decay_and_a_layers_scale_stay() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    plan = OptimizerPlan("sgd", lr=2.0, weight_decay=0.3, warmup=0.0)
    groups = layered_groups([[("a", weight)], [("b", nn.Parameter(torch.ones(2, 2)))]], 0.3, 0.5)
    optimizer = make_optimizer(plan, groups)
    set_schedule(optimizer, plan, 5, 10)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.5, 1.0])
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.3, 0.3]


@pytest.mark.parametrize("kind", [torch.optim.AdamW, Lars])
def test_a_compiled_step_takes_every_rate(kind: type[torch.optim.Optimizer]) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    weights, same = tensors(), tensors()
    rate = torch.tensor(0.0, dtype=torch.float64)
    compiled = kind(decay_groups([("plain.weight", weights["plain.weight"])], 0.1), lr=rate)
    plain = kind(decay_groups([("plain.weight", same["plain.weight"])], 0.1), lr=0.0)
    step = torch.compile(compiled.step, backend=count)
    for number in range(4):
        for optimizer, owned in ((compiled, weights), (plain, same)):
            owned["plain.weight"].grad = gradients(number)["plain.weight"]
            set_rate(optimizer, 0.1 / (number + 1))
        step()
        plain.step()
        if number == 1:  # the first step made the state
            made = len(graphs)
        torch.testing.assert_close(weights["plain.weight"], same["plain.weight"], rtol=1e-4, atol=1e-5)
    assert made and len(graphs) == made
    assert compiled.param_groups[0]["lr"] is rate


def test_an_unknown_optimiser_is_answered_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match='unknown optimiser "adam"\nNearest: "adamw"'):
        make_optimizer(OptimizerPlan("adam"), decay_groups(tensors().items(), 0.1))


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


def test_a_presets_settings_reach_the_optimiser() -> None:
    settings = {"lr": 2e-4, "min_lr": 0.05, "weight_decay": 0.04, "weight_decay_end": 0.2, "clip": 5.0, "warmup": 0.05}
    preset = TrainingPreset(optimizer="lamb", lr_per=256, batch_size=512, betas=(0.9, 0.95), epochs=1600, **settings)
    plan = optimizer_plan(preset, 512)
    assert plan == OptimizerPlan("lamb", **{**settings, "lr": 4e-4}, betas=(0.9, 0.95))
    assert optimizer_plan(TrainingPreset(optimizer="sgd", nesterov=True, momentum=0.8, **BARE), 4) == OptimizerPlan(
        "sgd", 1.0, 0.0, momentum=0.8, nesterov=True
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"nesterov": True},
        {"optimizer": "sgd", "nesterov": True, "momentum": 0.0},
        {"min_lr": 1.5},
        {"weight_decay_end": -0.1},
        {"betas": (0.9, 1.0)},
        {"optimizer": "adam"},
    ],
)
def test_a_preset_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="|".join(wrong)):
        TrainingPreset.model_validate({**BARE, **wrong})
