"""The teacher is the student's moving average and sees large crops alone; centre and temperature follow the paper."""

import copy
import math
from pathlib import Path

import pytest
import torch
from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from torch._dynamo.testing import CompileCounter

from medprior.backbones.factory import create_encoder
from medprior.methods.dino import DINO, DinoHead
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.methods.schedules import half_cosine
from medprior.training.optim import OptimizerPlan, decay_groups, make_optimizer
from medprior.views.recipe import base_recipe
from medprior.views.view import View
from two_processes import TwoProcesses

PROGRAM = """
import sys, torch
from test_dino import outcome

me, folder = int(sys.argv[1]), sys.argv[2]
torch.save(outcome(slice(2 * me, 2 * me + 2)), f"{folder}/{me}.pt")
"""

SMALL = {"outputs": 32, "hidden": 24, "bottleneck": 16, "local_count": 2, "frozen": 0.0}


def make(backbone: str = "vit_micro_patch8", size: int = 64, **settings: object) -> DINO:
    encoder = create_encoder(backbone, 1, 2, size, seed=0)
    facts = DataFacts(100, 1, 2, size, (0.5,), (0.25,))
    method = create_method("dino", encoder, "small", SMALL | settings, facts=facts)
    assert isinstance(method, DINO)
    return method.train()


def views_of(method: DINO, seed: int = 0, rows: slice = slice(0, 4)) -> list[View]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for spec in method.views(base_recipe(None, 64)).specs:
        pixels = torch.rand(4, 1, spec.recipe.size, spec.recipe.size, generator=generator)[rows]
        made.append(View(pixels, pixels > -1, torch.eye(2, 3).expand(len(pixels), -1, -1)))
    return made


def batch_of(step: int = 0) -> Batch:
    return Batch(torch.arange(4), 0, Clock(step, 10))


def optimizer_of(method: DINO, name: str = "adamw") -> torch.optim.Optimizer:
    plan = OptimizerPlan(name, lr=0.01, weight_decay=0.1)
    return make_optimizer(plan, decay_groups(method.named_parameters(), plan.weight_decay))


def learn(method: DINO, optimizer: torch.optim.Optimizer, step: int) -> dict[str, torch.Tensor]:
    batch = batch_of(step)
    method.before_update(batch.clock)
    losses = method(views_of(method, step), batch)
    optimizer.zero_grad()
    losses["loss"].backward()
    optimizer.step()
    method.after_update(batch.clock)
    return losses


def outcome(rows: slice) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Losses of three steps on some rows of the batch, then the centre and the last layer; processes train together."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    method = make().double()
    model = DistributedDataParallel(method) if dist.is_initialized() else method
    optimizer, losses = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.05), []
    for step in range(3):
        batch, views = batch_of(step), views_of(method, step, rows)
        for view in views:
            view.pixels = view.pixels.double()
        method.before_update(batch.clock)
        loss = model(views, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_update(batch.clock)
        losses.append(loss.detach())
    return losses, method.centre, method.head.last.weight.detach()


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_the_head_is_lightlys() -> None:
    """With lightly's weights, whose lengths its weight norm keeps apart."""
    torch.manual_seed(0)
    theirs, mine = DINOProjectionHead(12, 10, 6, 20).double(), DinoHead(12, 10, 6, 20).double()
    for own, other in zip(mine.layers[::2], theirs.layers[::2], strict=True):
        own.load_state_dict(other.state_dict())
    mine.last.weight.data.copy_(theirs.last_layer.weight_v)
    x = torch.randn(5, 12, dtype=torch.float64)
    found, wanted = mine(x), theirs(x)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    found.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(mine.last.weight.grad, theirs.last_layer.weight_v.grad, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(mine.layers[0].weight.grad, theirs.layers[0].weight.grad, rtol=1e-8, atol=1e-12)
    assert found.abs().max() <= 1


@pytest.mark.parametrize("small", [0, 3])
def test_the_loss_is_lightlys(small: int) -> None:
    method = make(local_count=small, teacher_start=1 / 16).eval()
    views = views_of(method)
    method.centre.normal_(generator=torch.Generator().manual_seed(0))
    peer = DINOLoss(32, student_temp=0.1)
    peer.center.copy_(method.centre)
    with torch.no_grad():
        student = [method.head(method.embed(v.pixels)) for v in views]
        teacher = [method.teacher(v.pixels) for v in views[:2]]
        wanted = peer(teacher, student, teacher_temp=1 / 16)
    torch.testing.assert_close(method(views, batch_of())["loss"].detach(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", ["resnet18", "vit_micro_patch8"])
def test_the_student_sees_all_crops_and_the_teacher_the_large_ones(backbone: str) -> None:
    method, seen = make(backbone), []
    for name, encoder in (("student", method.encoder), ("teacher", method.teacher.module.encoder)):
        encoder.register_forward_pre_hook(lambda _, given, name=name: seen.append((name, tuple(given[0].shape))))
    method(views_of(method), batch_of())["loss"].backward()
    assert seen == [("student", (8, 1, 64, 64)), ("student", (8, 1, 32, 32)), ("teacher", (8, 1, 64, 64))]
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.encoder.parameters())


def test_the_teacher_is_the_moving_average_of_encoder_and_head() -> None:
    method = make(momentum=0.7)
    moves = optimizer_of(method)
    wanted = [p.detach().clone() for p in (*method.encoder.parameters(), *method.head.parameters())]
    for step in range(3):
        learn(method, moves, step)
        m = half_cosine(step, 10, 0.7, 1.0)
        students = (*method.encoder.parameters(), *method.head.parameters())
        wanted = [m * w + (1 - m) * p.detach() for w, p in zip(wanted, students, strict=True)]
    for own, expected in zip(method.teacher.parameters(), wanted, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)


def test_a_loss_is_centred_by_the_batches_before_it() -> None:
    method = make(centre_momentum=0.8)
    moves, wanted = optimizer_of(method), torch.zeros(32)
    for step in range(3):
        pixels = torch.cat([view.pixels for view in views_of(method, step)[:2]])
        outputs = method.teacher(pixels)
        learn(method, moves, step)
        torch.testing.assert_close(method.centre, wanted, rtol=1e-5, atol=1e-7)
        wanted = 0.8 * wanted + 0.2 * outputs.mean(0)
    assert wanted.abs().max() > 1e-2
    seen = method.seen.clone()
    method.eval()(views_of(method, 9), batch_of(9))
    assert torch.equal(method.seen, seen), "what is only looked at leaves no trace"


def test_the_teachers_temperature_rises_and_stays() -> None:
    method, found = make(teacher_start=0.04, teacher_end=0.08, teacher_rise=0.4), []
    for step in range(7):
        method.before_update(Clock(step, 10))
        found.append(method.teacher_temperature.item())
    assert found == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.08, 0.08, 0.08])
    views = views_of(method)
    warm = method(views, batch_of())["teacher_entropy"]
    method.before_update(Clock(0, 10))
    cold = method(views, batch_of())["teacher_entropy"]
    assert 0 < cold < warm < math.log(32) and not warm.requires_grad


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_the_last_layer_stays_for_exactly_its_share_of_the_steps(optimizer: str) -> None:
    method = make(frozen=0.2)
    moves = optimizer_of(method, optimizer)
    before = method.head.last.weight.detach().clone()
    for step in range(4):
        learn(method, moves, step)
        assert torch.equal(method.head.last.weight, before) == (step < 2), step
        assert torch.equal(method.teacher.module.projector.last.weight, before) == (step < 2), step


@pytest.mark.parametrize("backbone", ["test_resnet", "vit_micro_patch8"])
def test_it_is_compiled_once_while_the_last_layer_thaws_and_the_temperature_rises(backbone: str) -> None:
    method = make(backbone, frozen=0.1, teacher_rise=0.3)
    counter = CompileCounter()
    compiled = torch.compile(method, fullgraph=True, backend=counter)
    for step in range(3):
        batch = batch_of(step)
        method.before_update(batch.clock)
        loss = compiled(views_of(method, step), batch)["loss"]
        loss.backward()
        method.after_update(batch.clock)
        assert math.isfinite(loss.item())
    assert counter.frame_count == 1


def test_a_run_taken_up_goes_on_the_same() -> None:
    method, other = make(frozen=0.2), make(frozen=0.2)
    moves = optimizer_of(method)
    learn(method, moves, 0)
    other.load_state_dict(method.state_dict())
    again = optimizer_of(other)
    again.load_state_dict(copy.deepcopy(moves.state_dict()))
    for step in (1, 2, 3):
        assert torch.equal(learn(method, moves, step)["loss"], learn(other, again, step)["loss"])
    assert torch.equal(method.centre, other.centre)


def test_two_processes_train_as_one_with_the_joined_batch(two_processes: TwoProcesses, tmp_path: Path) -> None:
    two_processes(PROGRAM, tmp_path, __file__)
    losses, centre, weight = outcome(slice(0, 4))
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for step, loss in enumerate(losses):
        torch.testing.assert_close((halves[0][0][step] + halves[1][0][step]) / 2, loss, rtol=1e-8, atol=0)
    for half in halves:
        torch.testing.assert_close(half[1], centre, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(half[2], weight, rtol=1e-8, atol=1e-10)
