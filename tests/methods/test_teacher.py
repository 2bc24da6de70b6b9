"""The teacher is the moving average of its student, exactly, and nothing else."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from medprior.methods.teacher import Teacher


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 5))


def train(student: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    student(torch.rand(4, 1, 8, 8)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_it_is_the_moving_average_in_every_parameter() -> None:
    student = network()
    teacher = Teacher(student)
    wanted = [p.detach().double().clone() for p in student.parameters()]
    optimizer = torch.optim.SGD(student.parameters(), 0.5)
    for momentum in (0.5, 0.9, 0.99, 0.996, 0.3):
        train(student, optimizer)
        teacher.move(student, momentum)
        wanted = [
            momentum * w + (1 - momentum) * p.detach().double()
            for w, p in zip(wanted, student.parameters(), strict=True)
        ]
    for own, expected, learnt in zip(teacher.parameters(), wanted, student.parameters(), strict=True):
        torch.testing.assert_close(own.double(), expected, rtol=1e-6, atol=1e-7)
        assert not torch.equal(own, learnt)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_the_ends_are_exact(momentum: float) -> None:
    student, before = network(1), network(0)
    teacher = Teacher(before)
    teacher.move(student, momentum)
    expected = before if momentum else student
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), expected.parameters(), strict=True))


def test_buffers_are_the_students() -> None:
    student = network()
    teacher = Teacher(student)
    train(student, torch.optim.SGD(student.parameters(), 0.1))
    assert teacher.module[1].num_batches_tracked == 0
    teacher.move(student, 0.99)
    assert teacher.module[1].num_batches_tracked == 1
    assert torch.equal(teacher.module[1].running_mean, student[1].running_mean)
    train(student, torch.optim.SGD(student.parameters(), 0.1))
    assert not torch.equal(teacher.module[1].running_var, student[1].running_var), "copied, not shared"


def test_no_gradient_reaches_it_or_runs_through_it() -> None:
    student = network()
    teacher = Teacher(student)
    x = torch.rand(2, 1, 8, 8, requires_grad=True)
    seen = teacher(x)
    assert not seen.requires_grad
    (student(x) - seen).square().mean().backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())
    teacher.move(student, 0.9)
    assert all(p.requires_grad for p in student.parameters())
    assert all(not p.requires_grad and p.is_leaf for p in teacher.parameters())


def test_it_trains_and_evaluates_with_its_owner() -> None:
    owner = nn.ModuleDict({"student": network()})
    owner["teacher"] = Teacher(owner["student"])
    assert all(not module.training for module in owner.eval()["teacher"].modules())
    assert all(module.training for module in owner.train()["teacher"].modules())


def test_it_comes_back_and_is_copied(tmp_path: Path) -> None:
    student = network()
    teacher = Teacher(student)
    train(student, torch.optim.SGD(student.parameters(), 0.5))
    teacher.move(student, 0.7)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    other = Teacher(network(1))
    other.load_state_dict(torch.load(tmp_path / "teacher.pt", weights_only=True))
    copied = copy.deepcopy(teacher)
    x = torch.rand(2, 1, 8, 8)
    for same in (other.eval(), copied.eval()):
        assert torch.equal(same(x), teacher.eval()(x))
    copied.move(network(2), 0.0)
    assert not torch.equal(copied(x), teacher(x)), "a copy moves alone"


def test_parameters_of_several_formats_move_together() -> None:
    student = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2).double()])
    teacher = Teacher(student)
    before = [p.detach().clone() for p in teacher.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1)
    teacher.move(student, 0.75)
    for own, old in zip(teacher.parameters(), before, strict=True):
        torch.testing.assert_close(own, old + 0.25)


def test_another_network_is_no_student() -> None:
    with pytest.raises((RuntimeError, ValueError)):
        Teacher(network()).move(nn.Linear(3, 2), 0.9)
