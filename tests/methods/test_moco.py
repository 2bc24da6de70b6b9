"""The queue remembers the newest keys, the key network follows, and several processes are one."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from lightly.loss import NTXentLoss

from medprior.backbones.factory import create_encoder
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.methods.moco import MoCo, Queue
from medprior.objectives.contrastive import info_nce
from medprior.views.recipe import base_recipe
from medprior.views.view import View
from two_processes import TwoProcesses

PROGRAM = """
import sys, torch
from test_moco import make, outcome

me, folder = int(sys.argv[1]), sys.argv[2]
torch.save(outcome(slice(4 * me, 4 * me + 4)), f"{folder}/{me}.pt")
"""


def make(
    backbone: str = "test_resnet", size: int = 32, preset: str = "small", count: int = 100, **settings: object
) -> MoCo:
    encoder = create_encoder(backbone, 1, 2, size, seed=0)
    facts = DataFacts(count, 1, 2, size, (0.5,), (0.25,))
    method = create_method("moco", encoder, preset, {"projection": (24, 16), **settings}, facts=facts)
    assert isinstance(method, MoCo)
    return method


def views_of(step: int = 0, count: int = 4, size: int = 32, dtype: torch.dtype = torch.float32) -> list[View]:
    generator = torch.Generator().manual_seed(step)
    valid, affine = torch.ones(count, 1, size, size, dtype=torch.bool), torch.eye(2, 3).expand(count, -1, -1)
    pixels = torch.rand(2, count, 1, size, size, generator=generator, dtype=dtype)
    return [View(part, valid, affine) for part in pixels]


def batch_of(step: int = 0, rows: slice = slice(0, 4)) -> Batch:
    return Batch(torch.arange(8)[rows], 0, Clock(step, 10))


def optimizer_of(method: MoCo) -> torch.optim.Optimizer:
    return torch.optim.SGD([weight for weight in method.parameters() if weight.requires_grad], 0.05)


def learn(method: MoCo, optimizer: torch.optim.Optimizer, step: int) -> torch.Tensor:
    batch = batch_of(step)
    method.before_update(batch.clock)
    loss = method(views_of(step), batch)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    method.after_update(batch.clock)
    return loss.detach()


def numbered(first: int, count: int) -> torch.Tensor:
    """Keys that say who they are."""
    return torch.arange(first, first + count).float().unsqueeze(1).expand(-1, 2).contiguous()


def fed(count: int, *batches: int) -> tuple[list[int], int]:
    """Who is in a queue of `count` keys, -1 where still what was there at first, and where the next one goes."""
    queue, first = Queue(count, 2), 0
    queue.keys.fill_(-1)
    for batch in batches:
        queue.waiting = numbered(first, batch)
        queue.advance()
        first += batch
    return [int(key) for key in queue.keys[:, 0]], int(queue.cursor)


def test_the_oldest_keys_leave_first() -> None:
    assert fed(6, 2) == ([0, 1, -1, -1, -1, -1], 2)
    assert fed(6, 2, 2, 2) == ([0, 1, 2, 3, 4, 5], 0)
    assert fed(6, 2, 2, 2, 2) == ([6, 7, 2, 3, 4, 5], 2)


def test_keys_run_across_the_end_of_the_ring() -> None:
    assert fed(5, 3, 3) == ([5, 1, 2, 3, 4], 1)
    assert fed(5, 3, 3, 3, 3) == ([10, 11, 7, 8, 9], 2)


def test_of_more_keys_than_fit_the_last_are_kept() -> None:
    assert fed(3, 2, 7) == ([6, 7, 8], 0)
    assert fed(3, 7) == ([6, 4, 5], 1)


def test_keys_wait_for_the_next_step_and_enter_once() -> None:
    queue = Queue(4, 2)
    before = queue.keys.clone()
    queue.waiting = numbered(0, 2)
    assert torch.equal(queue.keys, before)
    queue.advance()
    after, memory = queue.keys.clone(), queue.keys.data_ptr()
    queue.advance()
    assert torch.equal(queue.keys, after) and queue.keys.data_ptr() == memory and int(queue.cursor) == 2


def test_the_queue_begins_with_seeded_keys_of_unit_length_and_holds_a_tenth_of_the_data() -> None:
    first, again = make(count=300).queue.keys, make(count=300).queue.keys
    assert first.shape == (30, 16) and torch.equal(first, again)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(30))
    assert len(make(count=5).queue.keys) == 1
    assert len(make(count=1_000_000).queue.keys) == 2048
    assert len(make(preset="wolf", count=300).queue.keys) == 300
    assert len(make(preset="paper", count=1_281_167).queue.keys) == 65536


def test_the_presets_have_the_heads_that_were_used() -> None:
    kinds = {
        preset: [type(layer).__name__ for layer in make(preset=preset, projection=widths).projector]
        for preset, widths in {"paper": (2048, 128), "wolf": (128,)}.items()
    }
    assert kinds == {"paper": ["Linear", "ReLU", "Linear"], "wolf": ["Linear"]}
    config = create_method(
        "moco", create_encoder("resnet18"), "wolf", facts=DataFacts(10, 1, 2, 64, (0.5,), (0.2,))
    ).config
    assert (config.temperature, config.projection) == (0.07, (128,))


def unit(rows: torch.Tensor) -> np.ndarray:
    array = rows.detach().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_the_loss_is_the_papers_over_several_steps() -> None:
    """Written out with a list for a queue: keys of the first step are negatives of the second, by the moved teacher."""
    method = make(momentum=0.7, temperature=0.3).double().eval()
    optimizer, remembered = optimizer_of(method), [*method.queue.keys.numpy()]
    for step in range(4):
        batch, views = batch_of(step), views_of(step, dtype=torch.float64)
        method.before_update(batch.clock)
        loss = method(views, batch)["loss"]
        teacher = method.teacher.module
        q = unit(method.projector(method.embed(views[0].pixels)))
        k = unit(teacher.projector(teacher.encoder.pool(teacher.encoder(views[1].pixels))))
        found, others = np.exp((q * k).sum(1) / 0.3), np.exp(q @ np.array(remembered).T / 0.3).sum(1)
        assert loss.item() == pytest.approx(-np.log(found / (found + others)).mean(), abs=1e-9)
        remembered = [*remembered[4:], *k]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_update(batch.clock)


def test_a_queue_and_its_loss_equal_lightlys_over_several_steps() -> None:
    """Its bank is not exact where a batch runs across the end, so that here batches fit in."""
    queue, peer = Queue(12, 5).double(), NTXentLoss(temperature=0.2, memory_bank_size=(12, 5))
    peer.memory_bank.bank = queue.keys.clone()
    generator = torch.Generator().manual_seed(2)
    for _ in range(7):
        queries, keys = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
        ours, theirs = queries.clone().requires_grad_(), queries.clone().requires_grad_()
        queue.advance()
        mine, other = info_nce(ours, keys, queue.keys, 0.2), peer(theirs, keys)
        queue.waiting = torch.nn.functional.normalize(keys, dim=1)
        mine.backward()
        other.backward()
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-12)


def test_queries_learn_and_keys_do_not() -> None:
    method = make().train()
    method(views_of(), batch_of())["loss"].backward()
    assert all(weight.grad is None and not weight.requires_grad for weight in method.teacher.parameters())
    for weight in [*method.encoder.parameters(), *method.projector.parameters()]:
        assert weight.grad is not None and weight.grad.isfinite().all()
    assert not method.queue.waiting.requires_grad and not list(method.queue.parameters())


def test_the_key_network_follows_encoder_and_projector_with_their_norms() -> None:
    method = make(momentum=0.75).train()
    optimizer = optimizer_of(method)
    start = copy.deepcopy(method.teacher.module)
    learn(method, optimizer, 0)
    teacher = method.teacher.module
    for part, kept, old in (
        (method.encoder, teacher.encoder, start.encoder),
        (method.projector, teacher.projector, start.projector),
    ):
        for now, own, before in zip(part.parameters(), kept.parameters(), old.parameters(), strict=True):
            torch.testing.assert_close(own, 0.75 * before + 0.25 * now.detach())
    assert not torch.equal(teacher.projector[0].weight, start.projector[0].weight)
    pairs = list(zip(method.encoder.named_buffers(), teacher.encoder.buffers(), strict=True))
    assert any(name.endswith("running_var") for (name, _), _ in pairs)
    assert all(torch.equal(buffer, own) for (_, buffer), own in pairs)


def test_it_goes_on_from_a_file_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    method = make(count=100).train()
    optimizer = optimizer_of(method)
    for step in range(4):  # 16 keys through a ring of 10
        learn(method, optimizer, step)
    torch.save(method.state_dict(), tmp_path / "method.pt")
    other = make(count=100, momentum=0.99).train()
    other.load_state_dict(torch.load(tmp_path / "method.pt", weights_only=True))
    peer = optimizer_of(other)
    for step in range(4, 8):
        assert torch.equal(learn(method, optimizer, step), learn(other, peer, step))
    for (name, mine), theirs in zip(method.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


def test_it_is_compiled_once_and_gives_what_it_gave() -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    found = []
    for compiles in (False, True):
        method = make().train()
        forward = torch.compile(method, backend=count, fullgraph=True) if compiles else method
        optimizer = optimizer_of(method)
        for step in range(4):
            batch = batch_of(step)
            method.before_update(batch.clock)
            loss = forward(views_of(step), batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_update(batch.clock)
            found.append([loss.detach(), method.queue.keys.clone(), method.queue.waiting])
    assert len(graphs) == 1
    torch.testing.assert_close(found[:4], found[4:], rtol=1e-3, atol=1e-4)


def outcome(rows: slice) -> list[torch.Tensor]:
    """Mean losses of some steps on these rows of each batch, then the queue and the gradients of the last step."""
    distributed = torch.distributed.is_initialized()
    method = make("vit_tiny_patch8", 16, count=120).double().train()
    optimizer, losses = optimizer_of(method), []
    for step in range(3):
        views = [View(v.pixels[rows], v.valid[rows], v.affine[rows]) for v in views_of(step, 8, 16, torch.float64)]
        batch = batch_of(step, rows)
        method.before_update(batch.clock)
        loss = method(views, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        means = [loss.detach().clone(), *[w.grad for w in method.parameters() if w.grad is not None]]
        for mean in means if distributed else []:
            torch.distributed.all_reduce(mean)
            mean /= 2
        losses.append(means[0])
        optimizer.step()
        method.after_update(batch.clock)
    return [*losses, method.queue.keys, method.queue.waiting, *means]


def test_two_processes_train_as_one_with_the_joined_batch(two_processes: TwoProcesses, tmp_path: Path) -> None:
    """With an encoder whose norms know one image only; a batch norm sees half the batch in each process."""
    two_processes(PROGRAM, tmp_path, __file__)
    alone = outcome(slice(0, 8))
    assert len(alone[3]) == 12 and len(alone[4]) == 8
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        for theirs, mine in zip(found, alone, strict=True):
            torch.testing.assert_close(theirs, mine, rtol=1e-7, atol=1e-10)


def test_query_and_key_are_drawn_alike() -> None:
    base = base_recipe("CT", 32)
    plan = make().views(base)
    assert [spec.recipe for spec in plan.specs] == [base.contrastive()] * 2
