"""The covariance is the exact moving average of all batches, the teacher follows, and several processes are one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from medprior.backbones.factory import create_encoder
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.methods.schedules import half_cosine
from medprior.methods.tico import TiCo
from medprior.views.recipe import base_recipe
from medprior.views.view import View
from two_processes import TwoProcesses

PROGRAM = """
import sys, torch
from test_tico import outcome

me, folder = int(sys.argv[1]), sys.argv[2]
torch.save(outcome(slice(4 * me, 4 * me + 4)), f"{folder}/{me}.pt")
"""


def make(backbone: str = "test_resnet", size: int = 32, **settings: object) -> TiCo:
    encoder = create_encoder(backbone, 1, 2, size, seed=0)
    facts = DataFacts(100, 1, 2, size, (0.5,), (0.25,))
    method = create_method("tico", encoder, overrides={"projection": (24, 16)} | settings, facts=facts)
    assert isinstance(method, TiCo)
    return method.train()


def views_of(step: int, count: int = 4, size: int = 32, dtype: torch.dtype = torch.float32) -> list[View]:
    generator = torch.Generator().manual_seed(step)
    valid, affine = torch.ones(count, 1, size, size, dtype=torch.bool), torch.eye(2, 3).expand(count, -1, -1)
    pixels = torch.rand(2, count, 1, size, size, generator=generator, dtype=dtype)
    return [View(part, valid, affine) for part in pixels]


def batch_of(step: int = 0) -> Batch:
    return Batch(torch.arange(4), 0, Clock(step, 10))


def optimizer_of(method: TiCo) -> torch.optim.Optimizer:
    return torch.optim.SGD([weight for weight in method.parameters() if weight.requires_grad], 0.05)


def learn(method: TiCo, optimizer: torch.optim.Optimizer, step: int, views: list[View] | None = None) -> torch.Tensor:
    batch = batch_of(step)
    method.before_update(batch.clock)
    loss = method(views or views_of(step), batch)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    method.after_update(batch.clock)
    return loss.detach()


def unit(rows: torch.Tensor) -> np.ndarray:
    array = rows.detach().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_the_loss_is_the_papers_over_several_steps() -> None:
    """Written out: the first view to the student, the second to the teacher; the covariance remembers every batch.

    The encoder's norms are in evaluation, so that a view can be embedded again.
    """
    method = make(covariance=3.0, memory=0.7, momentum=0.5).double()
    method.encoder.eval(), method.projector.eval(), method.teacher.eval()
    optimizer, moments = optimizer_of(method), []
    for step in range(4):
        views, teacher = views_of(step, dtype=torch.float64), method.teacher.module
        z = unit(method.projector(method.embed(views[0].pixels)))
        other = unit(teacher.projector(teacher.encoder.pool(teacher.encoder(views[1].pixels))))
        moments.append(z.T @ z / 4)
        average = sum(0.3 * 0.7 ** (step - past) * moment for past, moment in enumerate(moments))
        expected = 1 - (z * other).sum(1).mean() + 3 * np.einsum("bi,ij,bj->b", z, average, z).mean()
        assert learn(method, optimizer, step, views).item() == pytest.approx(expected, abs=1e-10)
        remembered = torch.lerp(method.remembered, method.seen, 0.3)
        torch.testing.assert_close(remembered, torch.from_numpy(average), rtol=1e-10, atol=1e-12)
    assert abs(average).max() > 1e-2


def test_a_loss_taken_twice_in_a_step_is_the_same_and_a_look_leaves_no_trace() -> None:
    method = make()
    optimizer = optimizer_of(method)
    for step in range(2):
        learn(method, optimizer, step)
    method.before_update(Clock(2, 10))
    first, again = (method(views_of(2), batch_of(2)) for _ in range(2))
    assert torch.equal(first["loss"], again["loss"]) and first["covariance"] > 0
    kept = {name: value.clone() for name, value in method.state_dict().items()}
    method.eval()(views_of(9), batch_of(2))
    assert all(torch.equal(value, kept[name]) for name, value in method.state_dict().items())


def test_nothing_is_learnt_through_the_teacher() -> None:
    """The student learns what it would learn from targets that are mere numbers, and the teacher nothing."""
    method, views = make().double(), views_of(0, dtype=torch.float64)
    with torch.no_grad():
        for weight in method.teacher.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(5), dtype=weight.dtype)
    method(views, batch_of())["loss"].backward()
    found = {name: weight.grad.clone() for name, weight in method.named_parameters() if weight.grad is not None}
    assert {name.split(".")[0] for name in found} == {"encoder", "projector"}

    method.zero_grad()
    z = torch.nn.functional.normalize(method.projector(method.embed(views[0].pixels)))
    target = torch.tensor(unit(method.teacher(views[1].pixels)).tolist(), dtype=torch.float64)
    (1 - (z * target).sum(1).mean() + 8 * 0.1 * (z @ z.T).square().mean()).backward()
    for name, weight in method.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(found[name], weight.grad, rtol=1e-7, atol=1e-10)


def test_the_teacher_is_the_moving_average_of_encoder_and_projector_that_comes_to_rest() -> None:
    method = make(momentum=0.7)
    optimizer = optimizer_of(method)
    wanted = [p.detach().clone() for p in (*method.encoder.parameters(), *method.projector.parameters())]
    for step in range(3):
        learn(method, optimizer, step)
        m = half_cosine(step, 10, 0.7, 1.0)
        students = (*method.encoder.parameters(), *method.projector.parameters())
        wanted = [m * w + (1 - m) * p.detach() for w, p in zip(wanted, students, strict=True)]
    for own, expected in zip(method.teacher.parameters(), wanted, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)
    method.after_update(Clock(10, 10))
    for own, expected in zip(method.teacher.parameters(), wanted, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)


def test_it_goes_on_from_a_file_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    method = make()
    optimizer = optimizer_of(method)
    for step in range(3):
        learn(method, optimizer, step)
    torch.save(method.state_dict(), tmp_path / "method.pt")
    other = make()
    other.load_state_dict(torch.load(tmp_path / "method.pt", weights_only=True))
    assert other.remembered.abs().max() > 0 and not torch.equal(other.seen, other.remembered)
    peer = optimizer_of(other)
    for step in range(3, 6):
        assert torch.equal(learn(method, optimizer, step), learn(other, peer, step))
    for (name, mine), theirs in zip(method.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


def test_it_is_compiled_once_and_gives_what_it_gave() -> None:
    torch._dynamo.reset()
    counter, found = CompileCounter(), []
    for compiles in (False, True):
        method = make()
        forward = torch.compile(method, backend=counter, fullgraph=True) if compiles else method
        optimizer = optimizer_of(method)
        for step in range(3):
            batch = batch_of(step)
            method.before_update(batch.clock)
            loss = forward(views_of(step), batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_update(batch.clock)
            found.append([loss.detach(), method.remembered.clone(), method.seen.clone()])
    assert counter.frame_count == 1
    torch.testing.assert_close(found[:3], found[3:], rtol=1e-3, atol=1e-4)


def outcome(rows: slice) -> list[torch.Tensor]:
    """Losses of three steps on these rows of each batch, then the covariance and all weights; processes train together.

    Without the batch norm of a projector with hidden layers, which sees half the batch in each process.
    """
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    method = make("vit_tiny_patch8", 16, projection=(12,)).double()
    model = DistributedDataParallel(method) if dist.is_initialized() else method
    optimizer, losses = optimizer_of(method), []
    for step in range(3):
        views = [View(v.pixels[rows], v.valid[rows], v.affine[rows]) for v in views_of(step, 8, 16, torch.float64)]
        method.before_update(Clock(step, 10))
        loss = model(views, batch_of(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_update(Clock(step, 10))
        losses.append(loss.detach())
    return [torch.stack(losses), method.remembered, method.seen, *(weight.detach() for weight in method.parameters())]


def test_two_processes_train_as_one_with_the_joined_batch(two_processes: TwoProcesses, tmp_path: Path) -> None:
    two_processes(PROGRAM, tmp_path, __file__)
    alone = outcome(slice(0, 8))
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, alone[0], rtol=1e-9, atol=1e-12)
    assert alone[1].abs().max() > 1e-3
    for found in parts:
        for theirs, mine in zip(found[1:], alone[1:], strict=True):
            torch.testing.assert_close(theirs, mine, rtol=1e-7, atol=1e-10)


def test_two_views_of_one_size_are_drawn_alike() -> None:
    base = base_recipe("CT", 32)
    plan = make().views(base)
    assert [spec.recipe for spec in plan.specs] == [base.contrastive()] * 2
    assert len(plan.groups) == 1, "one pass makes both"
