import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NegativeCosineSimilarity

from medprior.objectives.agreement import negative_cosine


def pair(seed: int, count: int = 7, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction, target = torch.randn(2, count, width, generator=generator, dtype=torch.float64) * 3
    return prediction.requires_grad_(), target.requires_grad_()


def test_the_loss_is_the_formula() -> None:
    prediction, target = pair(0)
    p, z = prediction.detach().numpy(), target.detach().numpy()
    p, z = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (p, z))
    assert negative_cosine(prediction, target).item() == pytest.approx(-(p * z).sum(1).mean(), abs=1e-12)
    distance = ((p - z) ** 2).sum(1).mean()
    assert 2 + 2 * negative_cosine(prediction, target).item() == pytest.approx(distance, abs=1e-12), "BYOL's"


def test_values_and_gradients_equal_lightlys() -> None:
    ours, theirs = pair(1), pair(1)
    mine, peer = negative_cosine(*ours), NegativeCosineSimilarity()(*theirs)
    mine.backward()
    peer.backward()
    torch.testing.assert_close(mine, peer, rtol=1e-10, atol=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-12)


@given(st.integers(0, 10_000), st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_only_directions_count(seed: int, length: float) -> None:
    prediction, target = (x.detach() for x in pair(seed))
    loss = negative_cosine(prediction, target)
    torch.testing.assert_close(negative_cosine(length * prediction, target / length), loss)
    torch.testing.assert_close(negative_cosine(-prediction, target), -loss)
    assert float(negative_cosine(prediction, length * prediction)) == pytest.approx(-1)


def test_a_prediction_of_nothing_has_a_finite_gradient() -> None:
    prediction = torch.zeros(2, 3, requires_grad=True)
    loss = negative_cosine(prediction, torch.ones(2, 3))
    loss.backward()
    assert loss.item() == 0 and prediction.grad is not None and torch.isfinite(prediction.grad).all()


def test_half_precision_goes_in_and_full_precision_is_computed() -> None:
    prediction, target = (x.detach().bfloat16() for x in pair(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = negative_cosine(prediction, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), negative_cosine(prediction.double(), target.double()), rtol=1e-6, atol=0)
