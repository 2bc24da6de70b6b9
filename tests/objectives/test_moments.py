import numpy as np
import pytest
import torch
from lightly.loss.tico_loss import TiCoLoss

from medprior.objectives.moments import tico

BETA, RHO = 0.8, 5.0


def views(seed: int, count: int = 7, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views that share most of what they hold, of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    shared, *noises = torch.randn(3, count, width, generator=generator, dtype=torch.float64)
    first, second = (3 * (shared + 0.5 * noise) + 1 for noise in noises)
    return first.requires_grad_(), second


def earlier(seed: int, width: int = 5) -> torch.Tensor:
    z = torch.nn.functional.normalize(views(seed, 9, width)[0].detach(), dim=1)
    return z.T @ z / 9


def loss(first: torch.Tensor, second: torch.Tensor, remembered: torch.Tensor) -> torch.Tensor:
    terms = tico(first, second, remembered, BETA)
    return terms.invariance + RHO * terms.covariance


@pytest.mark.parametrize("shape", [(7, 5), (3, 11), (6, 6)])
def test_it_is_the_formula(shape: tuple[int, int]) -> None:
    (first, second), before = views(0, *shape), earlier(1, shape[1])
    z, other = (
        view.detach().numpy() / np.linalg.norm(view.detach().numpy(), axis=1)[:, None] for view in (first, second)
    )
    moment = sum(np.outer(row, row) for row in z) / len(z)
    average = BETA * before.numpy() + (1 - BETA) * moment
    found = tico(first, second, before, BETA)
    assert found.invariance.item() == pytest.approx(
        1 - np.mean([a @ b for a, b in zip(z, other, strict=True)]), abs=1e-12
    )
    assert found.covariance.item() == pytest.approx(np.mean([row @ average @ row for row in z]), abs=1e-12)
    torch.testing.assert_close(found.moment, torch.from_numpy(moment), rtol=1e-12, atol=1e-14)


def test_gradients_are_those_of_the_formula() -> None:
    """By differences: through the embeddings and through the batch's own moment."""
    (first, second), before = views(2), earlier(3)
    assert torch.autograd.gradcheck(lambda z: loss(z, second, before), first)


def test_values_over_several_steps_equal_lightlys() -> None:
    peer, remembered = TiCoLoss(BETA, RHO), torch.zeros(5, 5, dtype=torch.float64)
    for step in range(4):
        first, second = views(step)
        torch.testing.assert_close(
            loss(first, second, remembered), peer(first.detach(), second), rtol=1e-12, atol=1e-12
        )
        remembered = torch.lerp(remembered, tico(first, second, remembered, BETA).moment, 1 - BETA)
        torch.testing.assert_close(remembered, peer.C, rtol=1e-12, atol=1e-14)


def test_gradients_equal_lightlys_where_the_batch_counts_twice() -> None:
    """lightly lets no gradient through B. That of mean zᵀ B z is twice that of the same B without gradient, so

    ρ (β C + 2 (1 - β) B) = ρ' (β' C + (1 - β') B)  with  ρ' = ρ (2 - β)  and  β' = β / (2 - β).
    """
    peer = TiCoLoss(BETA / (2 - BETA), RHO * (2 - BETA))
    for step in range(3):
        (mine, second), (theirs, _), before = views(step), views(step), earlier(9 + step)
        peer.C = before
        loss(mine, second, before).backward()
        peer(theirs, second).backward()
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-10, atol=1e-12)


def test_embeddings_that_are_all_one_cost_most_and_those_that_spread_least() -> None:
    zero, alike = torch.zeros(4, 4), torch.ones(8, 4)
    assert tico(alike, alike, zero, 0.0).covariance.item() == pytest.approx(1)
    spread = torch.eye(4).repeat(2, 1)
    assert tico(spread, spread, zero, 0.0).covariance.item() == pytest.approx(1 / 4)
    assert tico(spread, 3 * spread, zero, 0.0).invariance.item() == pytest.approx(0)
    assert tico(spread, -spread, zero, 0.0).invariance.item() == pytest.approx(2)


def test_a_batch_shuns_what_earlier_ones_were_like() -> None:
    first = torch.tensor([[1.0, 1.0]], requires_grad=True)
    tico(first, first.detach(), torch.diag(torch.tensor([1.0, 0.0])), 1.0).covariance.backward()
    assert first.grad is not None and first.grad[0, 0] > 0 > first.grad[0, 1]


def test_an_embedding_of_length_0_has_a_finite_gradient() -> None:
    first = torch.zeros(3, 4, requires_grad=True)
    loss(first, torch.ones(3, 4), torch.eye(4)).backward()
    assert first.grad is not None and torch.isfinite(first.grad).all()


def test_half_precision_goes_in_and_full_precision_is_computed() -> None:
    first, second = (view.detach().bfloat16() for view in views(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = tico(first, second, earlier(5).float(), BETA)
    wanted = tico(first.double(), second.double(), earlier(5), BETA)
    for found, expected in zip(terms, wanted, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
