"""Codes come from large crops and the queue; the prototypes have length 1 and stay when they are held."""

import copy
import math

import pytest
import torch
from lightly.loss import SwaVLoss
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F

from medprior.backbones.factory import create_encoder
from medprior.errors import SettingsError
from medprior.methods.factory import create_method, make_config
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.methods.swav import SwAV
from medprior.training.optim import OptimizerPlan, decay_groups, make_optimizer
from medprior.views.multicrop import part_side
from medprior.views.recipe import base_recipe
from medprior.views.view import View

SMALL = {"prototypes": 12, "projection": (24, 16), "local_count": 2, "queue": 0, "frozen_steps": 0}


def make(
    backbone: str = "test_resnet", size: int = 64, dims: int = 2, preset: str = "small", **settings: object
) -> SwAV:
    encoder = create_encoder(backbone, 1, dims, size, seed=0)
    facts = DataFacts(100, 1, dims, size, (0.5,), (0.25,))
    method = create_method("swav", encoder, preset, SMALL | settings, facts=facts)
    assert isinstance(method, SwAV)
    return method.train()


def views_of(method: SwAV, seed: int = 0, count: int = 4, size: int = 64) -> list[View]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for spec in method.views(base_recipe(None, size)).specs:
        pixels = torch.rand(count, 1, spec.recipe.size, spec.recipe.size, generator=generator)
        made.append(View(pixels, pixels > -1, torch.eye(2, 3).expand(count, -1, -1)))
    return made


def batch_of(step: int = 0, steps: int = 10) -> Batch:
    return Batch(torch.arange(4), 0, Clock(step, steps))


def optimizer_of(method: SwAV, name: str = "adamw") -> torch.optim.Optimizer:
    plan = OptimizerPlan(name, lr=0.01, weight_decay=0.1)
    return make_optimizer(plan, decay_groups(method.named_parameters(), plan.weight_decay))


def learn(method: SwAV, optimizer: torch.optim.Optimizer, step: int, steps: int = 10) -> torch.Tensor:
    batch = batch_of(step, steps)
    method.before_update(batch.clock)
    loss = method(views_of(method, step), batch)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    method.after_update(batch.clock)
    return loss.detach()


def large_embeddings(method: SwAV, views: list[View]) -> torch.Tensor:
    """(2, B, D), as `forward` sees them: all crops pass the projector together."""
    twin = copy.deepcopy(method)
    pooled = [twin.embed(torch.cat([v.pixels for v in part])) for part in (views[:2], views[2:])]
    z = F.normalize(twin.projector(torch.cat(pooled)), dim=1)
    return z.reshape(len(views), -1, z.shape[1])[:2].detach()


@pytest.mark.parametrize(
    ("backbone", "dims", "size", "side"),
    [
        ("resnet18", 2, 224, 96),
        ("resnet18", 2, 64, 32),
        ("vit_tiny", 2, 224, 96),
        ("vit_tiny", 2, 32, 32),
        ("vit_small_patch14_reg4_dinov2", 2, 224, 98),
        ("vit_tiny_patch8", 3, 16, 16),
        ("vit_tiny_patch8", 3, 96, 40),
        ("swin_tiny", 2, 224, 224),
    ],
)
def test_small_crops_have_a_size_that_the_encoder_takes(backbone: str, dims: int, size: int, side: int) -> None:
    assert part_side(create_encoder(backbone, 1, dims, size), size) == side


def test_two_large_crops_come_before_the_small_ones() -> None:
    specs = make(global_scale=(0.5, 1.0), local_scale=(0.1, 0.3), local_count=3).views(base_recipe(None, 64)).specs
    assert [(s.recipe.size, s.recipe.scale) for s in specs] == [(64, (0.5, 1.0))] * 2 + [(32, (0.1, 0.3))] * 3
    assert len(make(local_count=0).views(base_recipe(None, 64)).specs) == 2
    assert make(local_size=48).views(base_recipe(None, 64)).specs[2].recipe.size == 48


@pytest.mark.parametrize(("backbone", "side"), [("vit_tiny", 40), ("resnet18", 16)])
def test_small_crops_that_do_not_fit_are_refused(backbone: str, side: int) -> None:
    with pytest.raises(SettingsError, match=f"small crops of {side} pixels do not fit(.|\n)*use 32"):
        make(backbone, local_size=side).views(base_recipe(None, 64))


def test_each_size_takes_one_pass_and_the_projector_sees_all() -> None:
    method, seen = make(), []
    method.encoder.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    method.projector.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    method(views_of(method), batch_of())
    assert seen == [(8, 1, 64, 64), (8, 1, 32, 32), (16, method.encoder.embed_dim)]


@pytest.mark.parametrize(("small", "queue"), [(0, 0), (2, 0), (2, 8)])
def test_the_loss_is_lightlys(small: int, queue: int) -> None:
    method = make("vit_tiny", local_count=small, queue=queue).double().eval()
    views = views_of(method)
    for view in views:
        view.pixels = view.pixels.double()
    parts = [views[:2], views[2:]] if small else [views]
    pooled = torch.cat([method.embed(torch.cat([v.pixels for v in part])) for part in parts])
    directions = method.prototypes.weight.T
    scores = list((F.normalize(method.projector(pooled), dim=1) @ directions).unflatten(0, (2 + small, 4)))
    method.queue.copy_(F.normalize(torch.randn(2, queue, 16, generator=torch.Generator().manual_seed(1)), dim=-1))
    earlier = list(method.queue.double() @ directions) if queue else None
    method.before_update(Clock(5, 10))
    found = method(views, batch_of())["loss"]
    torch.testing.assert_close(found, SwaVLoss()(scores[:2], scores[2:], earlier)[0], rtol=1e-8, atol=0)


def test_codes_come_from_the_large_crops_alone() -> None:
    method = make("vit_tiny").eval()  # no batch norm through which crops see each other
    codes = []
    kept = method._codes
    method._codes = lambda z, p: codes.append(kept(z, p)) or codes[-1]  # type: ignore[method-assign,func-returns-value]
    views, others = views_of(method), views_of(method, seed=1)
    for seen in (views, views[:2] + others[2:], others[:2] + views[2:]):
        method(seen, batch_of())
    assert torch.equal(codes[0], codes[1]) and not torch.equal(codes[0], codes[2])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("settings", [{"frozen_steps": 3}, {"frozen_share": 0.3}])
def test_prototypes_stay_for_exactly_so_many_steps_and_keep_their_length(
    optimizer: str, settings: dict[str, object]
) -> None:
    method = make(**settings)
    moves = optimizer_of(method, optimizer)
    before = method.prototypes.weight.detach().clone()
    for step in range(5):
        learn(method, moves, step)
        assert torch.equal(method.prototypes.weight, before) == (step < 3), step
        lengths = method.prototypes.weight.norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_held_prototypes_have_a_gradient_of_0() -> None:
    method = make(frozen_steps=1)
    for step, held in ((0, True), (1, False)):
        method.before_update(Clock(step, 10))
        method.zero_grad()
        method(views_of(method), batch_of())["loss"].backward()
        gradient = method.prototypes.weight.grad
        assert gradient is not None and (not gradient.any()) == held


def test_the_queue_holds_the_newest_large_crops() -> None:
    method = make(queue=10)
    z = []
    for step in range(3):
        views = views_of(method, step)
        z.append(large_embeddings(method, views))
        method(views, batch_of(step))
    torch.testing.assert_close(method.queue, torch.cat(z[::-1], dim=1)[:, :10])
    kept = method.queue.clone()
    method.eval()(views_of(method, 9), batch_of(9))
    assert torch.equal(method.queue, kept), "what is only looked at leaves no trace"


def test_a_queue_shorter_than_the_batch_holds_what_fits() -> None:
    method = make(queue=3)
    views = views_of(method)
    wanted = large_embeddings(method, views)[:, :3]
    method(views, batch_of())
    torch.testing.assert_close(method.queue, wanted)


def test_the_queue_counts_when_it_is_full_and_its_time_has_come() -> None:
    method, without = make(queue=8, queue_from=0.5), make()
    moves, others = optimizer_of(method), optimizer_of(without)
    same = []
    for step in range(7):
        without.load_state_dict(method.state_dict() | {"queue": without.queue})
        same.append(torch.equal(learn(method, moves, step), learn(without, others, step)))
    assert same == [True] * 5 + [False] * 2
    early = make(queue=12, queue_from=0.0)
    moves, same = optimizer_of(early), []
    for step in range(5):
        without.load_state_dict(early.state_dict() | {"queue": without.queue})
        same.append(torch.equal(learn(early, moves, step), learn(without, others, step)))
    assert same == [True] * 3 + [False] * 2


def test_it_is_compiled_once_while_prototypes_thaw_and_the_queue_opens() -> None:
    method = make(queue=8, queue_from=0.2, frozen_steps=1)
    counter = CompileCounter()
    compiled = torch.compile(method, fullgraph=True, backend=counter)
    for step in range(4):
        batch = batch_of(step)
        method.before_update(batch.clock)
        loss = compiled(views_of(method, step), batch)["loss"]
        loss.backward()
        method.after_update(batch.clock)
        assert math.isfinite(loss.item())
    assert counter.frame_count == 1


def test_a_copy_goes_on_alone_and_a_run_taken_up_goes_on_the_same() -> None:
    method = make(queue=8, frozen_steps=2)
    moves = optimizer_of(method)
    learn(method, moves, 0)
    copied, other = copy.deepcopy(method), make(queue=8, frozen_steps=2)
    other.load_state_dict(method.state_dict())
    again = optimizer_of(other)
    again.load_state_dict(copy.deepcopy(moves.state_dict()))
    kept = copied.queue.clone()
    for step in (1, 2):
        assert torch.equal(learn(method, moves, step), learn(other, again, step))
    assert torch.equal(copied.queue, kept)


def test_wolfs_prototypes_stay_for_313_of_800_epochs() -> None:
    config = make_config("swav", "wolf")
    assert isinstance(config, SwAV.Config)
    assert round(config.frozen_share * 800) == 313 and config.frozen_steps == 0 and config.prototypes == 500
