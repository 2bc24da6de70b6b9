"""Barlow Twins' loss is the two terms of its projections, and its scale makes the published rates one."""

import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.errors import SettingsError
from medprior.methods.barlow import BarlowTwins
from medprior.methods.factory import create_method, make_config, presets
from medprior.methods.heads import mlp
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.objectives.redundancy import barlow_twins
from medprior.training.lars import Lars
from medprior.training.optim import decay_groups
from medprior.views.view import View


def test_the_loss_is_invariance_plus_redundancy_scaled() -> None:
    facts = DataFacts(10, 1, 2, 32, (0.5,), (0.25,))
    overrides = {"projection": (24, 16), "redundancy": 0.3, "scale": 0.5}
    method = create_method("barlow", create_encoder("test_resnet", 1, 2, 32), overrides=overrides, facts=facts).eval()
    assert isinstance(method, BarlowTwins)
    valid, affine = torch.ones(6, 1, 32, 32, dtype=torch.bool), torch.eye(2, 3).expand(6, -1, -1)
    views = [View(torch.rand(6, 1, 32, 32), valid, affine) for _ in range(2)]
    found = method(views, Batch(torch.arange(6), 0, Clock(0, 8)))
    first, second = (method.projector(method.embed(view.pixels)) for view in views)
    invariance, redundancy = barlow_twins(first, second)
    torch.testing.assert_close(found["loss"], 0.5 * (invariance + 0.3 * redundancy))
    torch.testing.assert_close(found["invariance"], invariance)
    torch.testing.assert_close(found["redundancy"], redundancy)
    assert found["loss"].requires_grad and not found["invariance"].requires_grad


def trained(rates: tuple[float, float], decay: float, scale: float, steps: int = 3) -> list[torch.Tensor]:
    """Weights of a projector after some steps of LARS, which moves weights and biases at rates of their own."""
    torch.manual_seed(0)
    network = mlp(6, 12, 8, bias=False).double()
    groups = decay_groups(network.named_parameters(), decay)
    assert [group["decays"] for group in groups] == [True, False]
    optimizer = Lars([{**group, "lr": rate} for group, rate in zip(groups, rates, strict=True)], lr=rates[0])
    for first, second in torch.randn(steps, 2, 10, 6, dtype=torch.float64):
        terms = barlow_twins(network(first), network(second))
        optimizer.zero_grad()
        (scale * (terms.invariance + 0.0051 * terms.redundancy)).backward()
        optimizer.step()
    return [weight.detach() for weight in network.parameters()]


def test_the_preset_moves_weights_and_biases_at_their_published_rates() -> None:
    """Published: 0.2 and decay 1e-6 for weights, 0.0048 and none for biases and norms, the loss as it is."""
    preset = presets("barlow")["paper"]
    rate, decay = preset["training"]["lr"], preset["training"]["weight_decay"]
    ours, start = (trained((rate, rate), decay, preset["config"]["scale"], steps) for steps in (3, 0))
    published = trained((0.2, 0.0048), 1e-6, 1.0)
    for mine, theirs, before in zip(ours, published, start, strict=True):
        torch.testing.assert_close(mine - before, theirs - before, rtol=1e-7, atol=1e-14)
        assert (mine - before).norm() > 1e-5, "all of them move"


@pytest.mark.parametrize("wrong", [{"redundancy": -0.1}, {"scale": 0}, {"projection": ()}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        make_config("barlow", overrides=wrong)
