import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NTXentLoss

from medprior.objectives.contrastive import nt_xent


def embeddings(seed: int, count: int = 7, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, count, width, generator=generator, dtype=torch.float64) * 3
    return first.requires_grad_(), second.requires_grad_()


def written_out(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    """Equation 1 of the paper, term by term."""
    z = [row / math.sqrt(float(row @ row)) for row in torch.cat([first, second]).detach()]
    count, total = len(first), 0.0
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        others = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * count) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[j]) / temperature) / others)
    return total / (2 * count)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0])
def test_the_loss_is_the_formula(temperature: float) -> None:
    first, second = embeddings(0)
    assert nt_xent(first, second, temperature).item() == pytest.approx(
        written_out(first, second, temperature), abs=1e-12
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_values_and_gradients_equal_lightlys(temperature: float) -> None:
    ours, theirs = embeddings(1), embeddings(1)
    mine, peer = nt_xent(*ours, temperature), NTXentLoss(temperature=temperature)(*theirs)
    mine.backward()
    peer.backward()
    torch.testing.assert_close(mine, peer, rtol=1e-10, atol=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 9), st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_length_order_and_naming_of_the_views_do_not_matter(seed: int, count: int, length: float) -> None:
    first, second = (e.detach() for e in embeddings(seed, count))
    loss = nt_xent(first, second, 0.2)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(nt_xent(length * first, second, 0.2), loss)
    torch.testing.assert_close(nt_xent(second, first, 0.2), loss)
    torch.testing.assert_close(nt_xent(first[order], second[order], 0.2), loss)


def test_agreeing_views_cost_less_and_chance_costs_the_logarithm() -> None:
    apart = torch.eye(6, dtype=torch.float64)
    assert float(nt_xent(apart, apart, 0.1)) < 1e-3
    alike = torch.ones(6, 4, dtype=torch.float64)
    assert float(nt_xent(alike, alike, 0.1)) == pytest.approx(math.log(11))


def test_half_precision_goes_in_and_full_precision_is_computed() -> None:
    first, second = (e.detach().bfloat16() for e in embeddings(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(first, second, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), nt_xent(first.double(), second.double(), 0.1), rtol=1e-5, atol=1e-5)
