"""Dice and cross-entropy against MONAI in float64, and what ignored voxels may not do."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceCELoss, DiceLoss

from medprior.objectives.segmentation import IGNORED, dice_cross_entropy, supervised_at_every_scale
from two_processes import TwoProcesses

PROGRAM = """
import sys, torch
from medprior.objectives.segmentation import dice_cross_entropy
me, folder = int(sys.argv[1]), sys.argv[2]
logits, target = (part.chunk(2)[me] for part in torch.load(f"{folder}/batch.pt"))
logits = logits.clone().requires_grad_()
loss = dice_cross_entropy(logits, target)
loss.backward()
torch.save((loss.detach(), logits.grad / 2), f"{folder}/{me}.pt")  # training averages gradients over processes
"""


def batch(seed: int, classes: int, axes: int, side: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, *[side] * axes, generator=generator, dtype=torch.float64)
    target = torch.randint(0, classes, (2, *[side] * axes), generator=generator)
    return logits.requires_grad_(), target


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(2, 3))
@settings(max_examples=25)
def test_it_is_monais_loss_in_float64_with_its_gradient(seed: int, classes: int, axes: int) -> None:
    logits, target = batch(seed, classes, axes)
    monai = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    ours, theirs = dice_cross_entropy(logits, target), monai(logits, target.unsqueeze(1))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-14)


@given(st.integers(0, 10**6), st.floats(0.1, 0.9))
@settings(max_examples=25)
def test_ignored_voxels_count_nowhere(seed: int, share: float) -> None:
    """The loss of what is judged alone, laid out in a row; what the network says elsewhere has no gradient."""
    logits, target = batch(seed, 3, 3)
    judged = torch.rand(target.shape, generator=torch.Generator().manual_seed(seed)) >= share
    judged[0, 0, 0, 0] = True
    loss = dice_cross_entropy(logits, target.where(judged, IGNORED))
    row = logits.movedim(1, -1)[judged].T.reshape(1, 3, -1, 1)
    torch.testing.assert_close(loss, dice_cross_entropy(row, target[judged].reshape(1, -1, 1)), rtol=1e-10, atol=0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(gradient.movedim(1, -1)[~judged].abs().sum()) == 0


def test_ignored_voxels_are_those_of_monais_dice() -> None:
    logits, target = batch(1, 3, 3)
    target[:, :2] = IGNORED
    monai = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True, ignore_index=IGNORED)
    entropy = torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORED)
    torch.testing.assert_close(dice_cross_entropy(logits, target), monai(logits, target.unsqueeze(1)) + entropy)


def test_nothing_judged_is_no_loss_and_no_gradient() -> None:
    logits, target = batch(1, 3, 2)
    loss = dice_cross_entropy(logits, torch.full_like(target, IGNORED))
    assert loss == 0
    assert torch.autograd.grad(loss, logits)[0].abs().max() == 0


def test_a_sure_answer_is_nearly_no_loss_and_the_opposite_is_much() -> None:
    _, target = batch(2, 3, 3)
    sure = 20.0 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    assert dice_cross_entropy(sure, target) < 1e-6
    assert dice_cross_entropy(sure.roll(1, 1), target) > 20


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_full(dtype: torch.dtype) -> None:
    logits, target = batch(3, 3, 3, side=24)
    low = logits.detach().to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = dice_cross_entropy(low, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, dice_cross_entropy(low.double(), target).float())


def test_it_compiles_to_one_graph() -> None:
    logits, target = batch(4, 3, 2)
    compiled = torch.compile(dice_cross_entropy, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), dice_cross_entropy(logits, target))


def test_scales_weigh_half_of_the_next_finer_in_any_order() -> None:
    logits, target = batch(5, 3, 3, side=8)
    outputs = [logits, logits[..., ::2, ::2, ::2], logits[..., ::2, ::4, ::4]]
    picked = [target, target[:, 1::2, 1::2, 1::2], target[:, 1::2, 2::4, 2::4]]
    each = [dice_cross_entropy(one, truth) for one, truth in zip(outputs, picked, strict=True)]
    expected = (4 * each[0] + 2 * each[1] + each[2]) / 7
    torch.testing.assert_close(supervised_at_every_scale(outputs, target), expected)
    torch.testing.assert_close(supervised_at_every_scale(outputs[::-1], target), expected)
    torch.testing.assert_close(supervised_at_every_scale([logits], target), each[0])


def test_two_processes_learn_as_one_with_the_joined_batch(two_processes: TwoProcesses, tmp_path: Path) -> None:
    """A class that only one of them holds, and most of the voxels judged in the other."""
    logits, target = batch(6, 3, 3)
    target[0], target[1, :2] = target[0].clamp(max=1), IGNORED
    torch.save((logits.detach(), target), tmp_path / "batch.pt")
    two_processes(PROGRAM, tmp_path, __file__)
    losses, gradients = zip(*(torch.load(tmp_path / f"{me}.pt") for me in (0, 1)), strict=True)
    alone = dice_cross_entropy(logits, target)
    torch.testing.assert_close(sum(losses) / 2, alone.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(torch.cat(gradients), torch.autograd.grad(alone, logits)[0], rtol=1e-9, atol=1e-14)
