import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import BarlowTwinsLoss, VICRegLoss
from torch.utils.flop_counter import FlopCounterMode

from medprior.objectives.redundancy import barlow_twins, vicreg

# (samples, values): more samples than values, fewer, as many
SHAPES = [(12, 5), (5, 12), (6, 6), (2, 9)]


def views(seed: int, count: int = 12, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views that share most of what they hold, with values of different mean and spread."""
    generator = torch.Generator().manual_seed(seed)
    shared, *noises = torch.randn(3, count, width, generator=generator, dtype=torch.float64)
    spread = torch.linspace(0.2, 3, width, dtype=torch.float64)
    first, second = (spread * (shared + 0.5 * noise) + spread for noise in noises)
    return first.requires_grad_(), second.requires_grad_()


def barlow_loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    terms = barlow_twins(first, second)
    return terms.invariance + 0.0051 * terms.redundancy


def vicreg_loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    terms = vicreg(first, second)
    return 25 * terms.invariance + 25 * terms.variance + terms.covariance


@pytest.mark.parametrize("shape", SHAPES)
def test_barlow_twins_is_the_formula(shape: tuple[int, int]) -> None:
    first, second = views(0, *shape)
    z, other = (view.detach().numpy() - view.detach().numpy().mean(0) for view in (first, second))
    count, width = shape
    invariance = redundancy = 0.0
    for i in range(width):
        for j in range(width):
            lengths = [np.sqrt((column**2).sum() + count * 1e-5) for column in (z[:, i], other[:, j])]
            correlation = (z[:, i] * other[:, j]).sum() / np.prod(lengths)
            if i == j:
                invariance += (1 - correlation) ** 2
            else:
                redundancy += correlation**2
    found = barlow_twins(first, second)
    assert found.invariance.item() == pytest.approx(invariance, abs=1e-10)
    assert found.redundancy.item() == pytest.approx(redundancy, abs=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_vicreg_is_the_formula(shape: tuple[int, int]) -> None:
    first, second = views(1, *shape)
    arrays = [view.detach().numpy() for view in (first, second)]
    width = shape[1]
    variance = covariance = 0.0
    for z in arrays:
        matrix = np.cov(z, rowvar=False)
        variance += sum(max(0.0, 1 - np.sqrt(matrix[j, j] + 1e-4)) for j in range(width)) / width / 2
        covariance += sum(matrix[i, j] ** 2 for i in range(width) for j in range(width) if i != j) / width
    found = vicreg(first, second)
    assert found.invariance.item() == pytest.approx(((arrays[0] - arrays[1]) ** 2).mean(), abs=1e-10)
    assert found.variance.item() == pytest.approx(variance, abs=1e-10)
    assert variance > 0, "some value must fall short"
    assert found.covariance.item() == pytest.approx(covariance, rel=1e-12, abs=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("loss", "peer"), [(barlow_loss, BarlowTwinsLoss(0.0051)), (vicreg_loss, VICRegLoss())], ids=["barlow", "vicreg"]
)
def test_values_and_gradients_equal_lightlys(loss, peer, shape: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    """On one process. lightly's own λ of Barlow Twins is 0.005 (paper: 0.0051).

    On several, lightly centres and scales for Barlow Twins by the statistics of each process and averages the
    correlations that follow, which are not those of the batch; the paper's are of the batch, and so are ours.
    """
    ours, theirs = views(2, *shape), views(2, *shape)
    mine, other = loss(*ours), peer(*theirs)
    mine.backward()
    other.backward()
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("loss", [barlow_loss, vicreg_loss])
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9))
@settings(max_examples=20, deadline=None)
def test_the_naming_of_views_the_order_of_samples_and_a_shift_do_not_matter(  # type: ignore[no-untyped-def]
    loss, seed: int, count: int, width: int
) -> None:
    first, second = (view.detach() for view in views(seed, count, width))
    value = loss(first, second)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(loss(second, first), value)
    torch.testing.assert_close(loss(first[order], second[order]), value)
    torch.testing.assert_close(loss(first + 7, second + 7), value)


def test_what_varies_alike_in_both_views_and_independently_of_the_rest_costs_nothing() -> None:
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    assert barlow_loss(signs, signs).item() == pytest.approx(0, abs=1e-8)
    assert vicreg_loss(signs, signs).item() == pytest.approx(0, abs=1e-12)
    alike = signs[:, :1].expand(-1, 2)
    assert barlow_twins(alike, alike).redundancy.item() == pytest.approx(2, abs=1e-4)
    assert vicreg(alike, alike).covariance.item() == pytest.approx(2 * (4 / 3) ** 2)


@pytest.mark.parametrize("loss", [barlow_loss, vicreg_loss])
def test_a_collapsed_batch_has_a_finite_gradient(loss) -> None:  # type: ignore[no-untyped-def]
    first, second = (torch.full((4, 3), 0.7, requires_grad=True) for _ in range(2))
    value = loss(first, second)
    value.backward()
    assert value.item() > 1, "and costs"
    assert all(view.grad is not None and torch.isfinite(view.grad).all() for view in (first, second))


@pytest.mark.parametrize("loss", [barlow_loss, vicreg_loss])
def test_half_precision_goes_in_and_full_precision_is_computed(loss) -> None:  # type: ignore[no-untyped-def]
    first, second = (view.detach().bfloat16() for view in views(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(first, second)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), loss(first.double(), second.double()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("loss", "matrices"), [(barlow_loss, 1), (vicreg_loss, 2)])
def test_no_matrix_is_larger_than_it_must_be(loss, matrices: int) -> None:  # type: ignore[no-untyped-def]
    """Multiplications counted: D x D among many samples; among few, one B x B for each view."""
    for count, width, products in [(64, 16, matrices * 64 * 16 * 16), (16, 64, 2 * 16 * 16 * 64)]:
        first, second = (view.detach() for view in views(4, count, width))
        with FlopCounterMode(display=False) as counter:
            loss(first, second)
        assert counter.get_total_flops() == 2 * products
