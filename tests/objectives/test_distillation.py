import math
from pathlib import Path

import pytest
import torch
from lightly.loss import DINOLoss

from medprior.objectives.distillation import across_views, centred, entropy, mean_output
from two_processes import TwoProcesses

PROGRAM = """
import sys, torch
from test_distillation import outputs_of
from medprior.objectives.distillation import mean_output

me, folder = int(sys.argv[1]), sys.argv[2]
torch.save(mean_output(outputs_of(0, 2).chunk(2, dim=1)[me]), f"{folder}/{me}.pt")
"""


def outputs_of(seed: int, views: int, count: int = 4, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(views, count, width, generator=generator, dtype=torch.float64)


def softmax(values: torch.Tensor, temperature: float) -> list[float]:
    raised = [math.exp(float(v) / temperature) for v in values]
    return [r / sum(raised) for r in raised]


def test_the_loss_is_the_formula() -> None:
    teacher, student, centre = outputs_of(0, 2), outputs_of(1, 5), outputs_of(2, 1)[0, 0]
    total = 0.0
    for g in range(2):
        for v in set(range(5)) - {g}:
            for b in range(4):
                target, seen = softmax(teacher[g, b] - centre, 0.04), softmax(student[v, b], 0.1)
                total -= sum(t * math.log(p) for t, p in zip(target, seen, strict=True))
    found = across_views(centred(teacher, centre, 0.04), student, 0.1)
    assert found.item() == pytest.approx(total / (2 * 4 * 4), abs=1e-11)


@pytest.mark.parametrize("small", [0, 3])
def test_values_gradients_and_centre_equal_lightlys(small: int) -> None:
    """Two steps, so that a moved centre counts. lightly rounds the temperature to float32, which holds 1/16 exactly."""
    peer = DINOLoss(6, student_temp=0.1, center_momentum=0.9).double()
    centre = torch.zeros(6, dtype=torch.float64)
    for step in range(2):
        teacher = outputs_of(step, 2) + 1
        mine, theirs = (outputs_of(9 + step, 2 + small).requires_grad_() for _ in range(2))
        ours = across_views(centred(teacher, centre, 1 / 16), mine, 0.1)
        other = peer(list(teacher), list(theirs), teacher_temp=1 / 16)
        centre.lerp_(mean_output(teacher), 1 - 0.9)
        ours.backward()
        other.backward()
        torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(centre, peer.center.flatten(), rtol=1e-12, atol=0)


def test_nothing_is_learnt_through_the_targets() -> None:
    teacher, student = outputs_of(0, 2).requires_grad_(), outputs_of(1, 2).requires_grad_()
    targets = centred(teacher, torch.zeros(6), 0.04)
    across_views(targets, student, 0.1).backward()
    assert not targets.requires_grad and teacher.grad is None and student.grad is not None


def test_sharp_targets_are_certain_and_entropy_runs_from_nought_to_the_logarithm() -> None:
    teacher = outputs_of(0, 2)
    entropies = [float(entropy(centred(teacher, torch.zeros(6), t))) for t in (1e-4, 0.04, 0.5, 1e6)]
    assert entropies == sorted(entropies)
    assert entropies[0] == pytest.approx(0, abs=1e-9) and entropies[-1] == pytest.approx(math.log(6))
    assert float(entropy(torch.tensor([[0.5, 0.5, 0.0]]))) == pytest.approx(math.log(2))


def test_what_all_samples_share_is_centred_away() -> None:
    teacher, shared = outputs_of(0, 2), 5 * outputs_of(3, 1)[0, 0]
    torch.testing.assert_close(
        centred(teacher + shared, mean_output(teacher + shared), 0.1), centred(teacher, mean_output(teacher), 0.1)
    )


def test_half_precision_goes_in_and_full_precision_is_computed() -> None:
    teacher, student = outputs_of(0, 2).bfloat16(), outputs_of(1, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        targets = centred(teacher, torch.zeros(6), 0.04)
        loss = across_views(targets, student, 0.1)
    wanted = across_views(centred(teacher.double(), torch.zeros(6), 0.04), student.double(), 0.1)
    assert targets.dtype == loss.dtype == mean_output(teacher).dtype == torch.float32
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-5)


def test_the_centre_of_two_processes_is_that_of_the_joined_batch(two_processes: TwoProcesses, tmp_path: Path) -> None:
    two_processes(PROGRAM, tmp_path, __file__)
    wanted = outputs_of(0, 2).mean((0, 1))
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), wanted, rtol=1e-12, atol=1e-14)
