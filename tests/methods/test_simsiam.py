"""One network sees both views, and the side that is predicted gets no gradient."""

import numpy as np
import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.methods.simsiam import SimSiam
from medprior.views.view import View


def make() -> SimSiam:
    encoder = create_encoder("resnet18", 1, 2, 32, seed=0)
    facts = DataFacts(10, 1, 2, 32, (0.5,), (0.25,))
    method = create_method("simsiam", encoder, overrides={"projection": (24, 20, 16), "prediction": 8}, facts=facts)
    assert isinstance(method, SimSiam)
    return method.double()


def views_of(count: int = 6) -> list[View]:
    generator = torch.Generator().manual_seed(3)
    valid, affine = torch.ones(count, 1, 32, 32, dtype=torch.bool), torch.eye(2, 3).expand(count, -1, -1)
    return [
        View(torch.rand(count, 1, 32, 32, generator=generator, dtype=torch.float64), valid, affine) for _ in range(2)
    ]


BATCH = Batch(torch.arange(6), 0, Clock(0, 8))


def test_the_loss_is_the_papers_both_ways() -> None:
    """Equation 2, in evaluation mode so that views may be taken one by one."""
    method, views = make().eval(), views_of()
    z = [method.projector(method.embed(view.pixels)) for view in views]
    p, z = ([x.detach().numpy() for x in side] for side in ([method.predictor(x) for x in z], z))
    cosines = [
        (p[a] * z[b]).sum(1) / np.linalg.norm(p[a], axis=1) / np.linalg.norm(z[b], axis=1) for a, b in ((0, 1), (1, 0))
    ]
    expected = -np.mean(cosines[0]) / 2 - np.mean(cosines[1]) / 2
    assert method(views, BATCH)["loss"].item() == pytest.approx(expected, abs=1e-10)


def loss_with(method: SimSiam, views: list[View], target: str) -> torch.Tensor:
    z = method.projector(method.embed(torch.cat([view.pixels for view in views])))
    first, second = torch.nn.functional.normalize(method.predictor(z)).chunk(2)
    held = torch.tensor(z.tolist(), dtype=z.dtype) if target == "numbers" else z
    one, other = torch.nn.functional.normalize(held).chunk(2)
    return -((first * other).sum(1).mean() + (second * one).sum(1).mean()) / 2


def gradients(method: SimSiam, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    method.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in method.named_parameters() if weight.grad is not None}


def test_no_gradient_runs_through_what_is_predicted() -> None:
    """The network learns what it would learn from targets that are mere numbers, and not what it would with a leak."""
    method, views = make().train(), views_of()
    found = gradients(method, method(views, BATCH)["loss"])
    stopped = gradients(method, loss_with(method, views, "numbers"))
    leaking = gradients(method, loss_with(method, views, "tensors"))
    assert found.keys() == stopped.keys() == dict(method.named_parameters()).keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, stopped[name], rtol=1e-7, atol=1e-10)
    name = "encoder.network.conv1.weight"
    assert (found[name] - leaking[name]).norm() > 0.1 * found[name].norm()


def test_the_projection_is_standardised_and_the_prediction_is_not() -> None:
    method = make().train()
    z = method.projector(method.embed(torch.cat([view.pixels for view in views_of()])))
    torch.testing.assert_close(z.mean(0), torch.zeros_like(z[0]), rtol=0, atol=1e-10)
    variances = z.detach().var(0, correction=0)
    assert 0 < variances.min() <= variances.max() < 1, "1 but for what the norm adds to variances"
    assert method.projector[-1].weight is None and method.projector[-2].bias is None
    assert isinstance(method.predictor[-1], torch.nn.Linear)
