"""The student learns from both views, the teacher from neither: it follows."""

import math

import numpy as np
import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.methods.byol import BYOL
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.views.view import View


def make(**overrides: object) -> BYOL:
    encoder = create_encoder("resnet18", 1, 2, 32, seed=0)
    facts = DataFacts(10, 1, 2, 32, (0.5,), (0.25,))
    settings = {"projection": (24, 16), "prediction": 20, **overrides}
    method = create_method("byol", encoder, overrides=settings, facts=facts)
    assert isinstance(method, BYOL)
    return method


def views_of(count: int = 6, dtype: torch.dtype = torch.float32) -> list[View]:
    generator = torch.Generator().manual_seed(3)
    valid, affine = torch.ones(count, 1, 32, 32, dtype=torch.bool), torch.eye(2, 3).expand(count, -1, -1)
    return [View(torch.rand(count, 1, 32, 32, generator=generator, dtype=dtype), valid, affine) for _ in range(2)]


def batch_of(count: int = 6, step: int = 0) -> Batch:
    return Batch(torch.arange(count), 0, Clock(step, 8))


def apart(method: BYOL) -> BYOL:
    """With a teacher that differs from its student, as after some steps."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in method.teacher.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return method


def unit(rows: torch.Tensor) -> np.ndarray:
    array = rows.detach().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_the_loss_is_the_papers_both_ways() -> None:
    """Equation 2, in evaluation mode so that views may be taken one by one."""
    method, views = apart(make()).double().eval(), views_of(dtype=torch.float64)
    q = [unit(method.predictor(method.projector(method.embed(view.pixels)))) for view in views]
    teacher = method.teacher.module
    z = [unit(teacher.projector(teacher.encoder.pool(teacher.encoder(view.pixels)))) for view in views]
    expected = ((q[0] - z[1]) ** 2).sum(1).mean() + ((q[1] - z[0]) ** 2).sum(1).mean()
    assert method(views, batch_of())["loss"].item() == pytest.approx(expected, abs=1e-10)


def test_no_gradient_runs_through_the_teacher() -> None:
    """The student learns what it would learn from targets that are mere numbers, and the teacher nothing."""
    method, views = apart(make()).train(), views_of()
    both = torch.cat([view.pixels for view in views])
    targets = method.teacher(both).clone()
    assert not targets.requires_grad
    method(views, batch_of())["loss"].backward()
    found = {name: weight.grad.clone() for name, weight in method.named_parameters() if weight.grad is not None}
    assert not [name for name in found if name.startswith("teacher")]
    assert {name.split(".")[0] for name in found} == {"encoder", "projector", "predictor"}

    method.zero_grad()
    first, second = torch.nn.functional.normalize(method.predictor(method.projector(method.embed(both)))).chunk(2)
    other, one = torch.nn.functional.normalize(torch.tensor(targets.tolist())).chunk(2)
    ((first - one).square().sum(1).mean() + (second - other).square().sum(1).mean()).backward()
    for name, weight in method.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(found[name], weight.grad, rtol=1e-3, atol=1e-6)


def test_the_teacher_is_a_moving_average_of_encoder_and_projector_that_comes_to_rest() -> None:
    method = make(momentum=0.9).train()
    student = {f"encoder.{n}": p for n, p in method.encoder.named_parameters()}
    student |= {f"projector.{n}": p for n, p in method.projector.named_parameters()}
    wanted = {name: weight.detach().double().clone() for name, weight in student.items()}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.1)
    for step in range(8):
        method(views_of(), batch_of(step=step))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_update(Clock(step, 8))
        momentum = 1 - (1 - 0.9) * (math.cos(math.pi * step / 8) + 1) / 2
        for name, weight in student.items():
            wanted[name] = momentum * wanted[name] + (1 - momentum) * weight.detach().double()
    own = dict(method.teacher.module.named_parameters())
    assert own.keys() == wanted.keys(), "encoder and projector, and no predictor"
    for name, weight in own.items():
        torch.testing.assert_close(weight.double(), wanted[name], rtol=1e-5, atol=1e-6)
    assert not torch.equal(own["encoder.network.conv1.weight"], student["encoder.network.conv1.weight"])
    before = [weight.clone() for weight in own.values()]
    method.after_update(Clock(8, 8))
    assert all(torch.equal(a, b) for a, b in zip(before, own.values(), strict=True)), "momentum 1 at the end"


def test_the_statistics_of_its_norms_are_the_students() -> None:
    method = make().train()
    method(views_of(), batch_of())
    for _ in range(2):
        method.embed(views_of()[0].pixels + 0.5)  # the student alone goes on
    method.after_update(Clock(0, 8))
    pairs = {
        **{f"encoder.{name}": value for name, value in method.encoder.named_buffers()},
        **{f"projector.{name}": value for name, value in method.projector.named_buffers()},
    }
    own = dict(method.teacher.module.named_buffers())
    assert own.keys() == pairs.keys() and any("running_var" in name for name in own)
    assert all(torch.equal(own[name], value) for name, value in pairs.items())
    assert own["encoder.network.bn1.num_batches_tracked"] == 3


def test_only_the_student_is_trained_and_the_encoder_is_kept_once() -> None:
    method = make()
    assert all(not weight.requires_grad for weight in method.teacher.parameters())
    kept = [name for name in method.state_dict() if name.endswith("conv1.weight") and "layer" not in name]
    assert kept == ["encoder.network.conv1.weight", "teacher.module.encoder.network.conv1.weight"]
    method.after_update(Clock(0, 8))
    assert [name for name, _ in method.named_children()] == ["encoder", "projector", "predictor", "teacher"]
