"""What the methods of two views have in common."""

import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.views.recipe import base_recipe
from medprior.views.view import View

NAMES = ["barlow", "byol", "simsiam", "vicreg"]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_compiled_once_and_gives_what_it_gave(name: str) -> None:
    """Three steps, between which weights and teacher move."""
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    facts = DataFacts(10, 1, 2, 32, (0.5,), (0.25,))
    valid, affine = torch.ones(4, 1, 32, 32, dtype=torch.bool), torch.eye(2, 3).expand(4, -1, -1)
    views = [View(torch.rand(4, 1, 32, 32), valid, affine) for _ in range(2)]
    losses = []
    for compiles in (False, True):
        method = create_method(name, create_encoder("test_resnet", 1, 2, 32, seed=0), facts=facts).train()
        forward = torch.compile(method, backend=count, fullgraph=True) if compiles else method
        optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 1e-3)
        for step in range(3):
            batch = Batch(torch.arange(4), 0, Clock(step, 3))
            loss = forward(views, batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_update(batch.clock)
            losses.append(loss.detach())
    assert len(graphs) == 1
    torch.testing.assert_close(losses[:3], losses[3:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_two_views_of_one_size_are_drawn_alike(name: str) -> None:
    facts = DataFacts(10, 1, 2, 32, (0.5,), (0.25,))
    method = create_method(name, create_encoder("test_resnet", 1, 2, 32), facts=facts)
    base = base_recipe("CT", 32)
    plan = method.views(base)
    assert [spec.recipe for spec in plan.specs] == [base.contrastive()] * 2
    assert len(plan.groups) == 1, "one pass makes both"
