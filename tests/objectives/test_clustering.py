import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn as lightlys
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from medprior.objectives.clustering import assign, similarity, sinkhorn, swapped_prediction
from two_processes import TwoProcesses

PROGRAM = """
import sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from test_clustering import Clustering, batch

me, folder = int(sys.argv[1]), sys.argv[2]
model = DistributedDataParallel(Clustering())
value = model(batch().chunk(2, dim=1)[me])
value.backward()
mean = value.detach().clone()
dist.all_reduce(mean)
torch.save((mean / 2, model.module.everyone, [p.grad for p in model.parameters()]), f"{folder}/{me}.pt")
"""


def scores_of(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


def all_of(scores: torch.Tensor) -> torch.Tensor:
    return torch.ones(scores.shape[:-1], dtype=torch.bool)


def published(scores: NDArray[np.float64], epsilon: float, iterations: int) -> NDArray[np.float64]:
    """Algorithm 1 of the paper's appendix, prototypes down and samples across."""
    q = np.exp(scores.T / epsilon)
    q /= q.sum()
    prototypes, samples = q.shape
    for _ in range(iterations):
        for k in range(prototypes):
            q[k] /= q[k].sum() * prototypes
        for b in range(samples):
            q[:, b] /= q[:, b].sum() * samples
    return (q * samples).T


@pytest.mark.parametrize(("samples", "prototypes", "iterations"), [(12, 5, 3), (5, 12, 3), (8, 8, 1)])
def test_codes_are_the_published_ones(samples: int, prototypes: int, iterations: int) -> None:
    scores = scores_of(0, 2, samples, prototypes)
    wanted = [published(part.numpy(), 0.05, iterations) for part in scores]
    found = sinkhorn(scores, all_of(scores), 0.05, iterations)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10)
    single = sinkhorn(scores.float(), all_of(scores), 0.05, iterations)
    np.testing.assert_allclose(single.numpy(), wanted, rtol=2e-4, atol=1e-7)
    torch.testing.assert_close(found[0], lightlys(scores[0], iterations, 0.05), rtol=1e-10, atol=0)


@given(st.integers(0, 10_000), st.integers(2, 20), st.integers(2, 20))
@settings(max_examples=25, deadline=None)
def test_every_sample_adds_up_and_in_the_end_every_prototype_has_its_share(
    seed: int, samples: int, prototypes: int
) -> None:
    scores = scores_of(seed, samples, prototypes)
    soon = sinkhorn(scores, all_of(scores), 0.05, 3)
    torch.testing.assert_close(soon.sum(1), torch.ones(samples, dtype=torch.float64), rtol=0, atol=1e-12)
    late = sinkhorn(scores, all_of(scores), 0.5, 300)
    shares = torch.full((prototypes,), samples / prototypes, dtype=torch.float64)
    torch.testing.assert_close(late.sum(0), shares, rtol=0, atol=1e-10)
    torch.testing.assert_close(late.sum(1), torch.ones(samples, dtype=torch.float64), rtol=0, atol=1e-12)


def test_great_scores_overflow_nothing_and_only_differences_count() -> None:
    scores = scores_of(1, 6, 4).float()
    found = sinkhorn(scores, all_of(scores), 0.05, 3)
    torch.testing.assert_close(sinkhorn(scores + 64, all_of(scores), 0.05, 3), found, rtol=1e-2, atol=1e-6)
    hard = sinkhorn(1000 * scores, all_of(scores), 0.05, 3)
    assert hard.isfinite().all() and not lightlys(1000 * scores).isfinite().all()


def test_samples_that_do_not_count_are_as_if_not_there() -> None:
    scores = scores_of(2, 10, 4)
    scores[7:] *= 3
    counts = torch.arange(10) < 7
    found = sinkhorn(scores, counts, 0.05, 3)
    torch.testing.assert_close(found[:7], sinkhorn(scores[:7], all_of(scores[:7]), 0.05, 3))
    assert torch.equal(found[7:], torch.zeros_like(found[7:]))


def test_the_loss_is_the_formula() -> None:
    scores, codes = scores_of(3, 4, 3, 5), scores_of(4, 2, 3, 5).softmax(-1)
    total = 0.0
    for g in range(2):
        for v in {0, 1, 2, 3} - {g}:
            for b in range(3):
                raised = [math.exp(float(s) / 0.1) for s in scores[v, b]]
                total -= sum(float(codes[g, b, k]) * math.log(raised[k] / sum(raised)) for k in range(5))
    assert swapped_prediction(scores, codes, 0.1).item() == pytest.approx(total / (2 * 3 * 3), abs=1e-12)


@pytest.mark.parametrize(("small", "queue"), [(0, 0), (3, 0), (3, 16)])
def test_values_and_gradients_equal_lightlys(small: int, queue: int) -> None:
    """lightly's has one value of shape (1,), and its prototypes a bias, which those of the paper have not."""
    prototypes = F.normalize(scores_of(5, 6, 8), dim=1)
    earlier = F.normalize(scores_of(6, 2, queue, 8), dim=-1)
    ours, theirs = (scores_of(7, 2 + small, 4, 8).requires_grad_() for _ in range(2))
    z, other = F.normalize(ours, dim=-1), F.normalize(theirs, dim=-1)
    use = torch.tensor(queue > 0)
    codes = assign(z[:2].detach(), prototypes, earlier, use, epsilon=0.05, iterations=3).codes
    mine = swapped_prediction(similarity(z, prototypes), codes, 0.1)
    seen = list(other @ prototypes.T)
    peer = SwaVLoss()(seen[:2], seen[2:], list(earlier @ prototypes.T) if queue else None)
    mine.backward()
    peer.backward()
    torch.testing.assert_close(mine, peer[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-12)


def test_a_queue_that_is_not_used_changes_nothing() -> None:
    z, prototypes = F.normalize(scores_of(8, 2, 4, 6), dim=-1), F.normalize(scores_of(9, 5, 6), dim=1)
    earlier = F.normalize(scores_of(10, 2, 7, 6), dim=-1)
    arguments = {"epsilon": 0.05, "iterations": 3}
    alone = assign(z, prototypes, earlier[:, :0], torch.tensor(False), **arguments)  # type: ignore[arg-type]
    unused = assign(z, prototypes, earlier, torch.tensor(False), **arguments)  # type: ignore[arg-type]
    used = assign(z, prototypes, earlier, torch.tensor(True), **arguments)  # type: ignore[arg-type]
    torch.testing.assert_close(unused.codes, alone.codes)
    assert (used.codes - alone.codes).abs().max() > 1e-3
    assert torch.equal(used.everyone, z)


def test_half_precision_goes_in_and_full_precision_is_computed() -> None:
    z, prototypes = (F.normalize(scores_of(seed, 6, 8), dim=1).bfloat16() for seed in (11, 12))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = similarity(z, prototypes)
        codes = sinkhorn(scores, all_of(scores), 0.05, 3)
    assert scores.dtype == codes.dtype == torch.float32
    torch.testing.assert_close(scores.double(), z.double() @ prototypes.double().T, rtol=0, atol=1e-6)


class Clustering(nn.Module):
    """Embeddings, prototypes and a used queue, without anything that sees the batch but the codes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
        self.prototypes = nn.Parameter(F.normalize(scores_of(13, 5, 4), dim=1))
        self.register_buffer("queue", F.normalize(scores_of(14, 2, 6, 4), dim=-1))

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        z = F.normalize(self.encoder(views), dim=-1)
        codes, self.everyone = assign(
            z[:2].detach(), self.prototypes.detach(), self.queue, torch.tensor(True), epsilon=0.05, iterations=3
        )
        return swapped_prediction(similarity(z, self.prototypes), codes, 0.1)


def batch() -> torch.Tensor:
    """The halves look quite different."""
    return scores_of(15, 3, 8, 6) * torch.linspace(0.2, 3, 8, dtype=torch.float64)[:, None] + 0.5


def test_two_processes_train_as_one_with_the_joined_batch(two_processes: TwoProcesses, tmp_path: Path) -> None:
    two_processes(PROGRAM, tmp_path, __file__)
    alone = Clustering()
    value = alone(batch())
    value.backward()
    apart = [Clustering()(half).detach() for half in batch().chunk(2, dim=1)]
    assert abs(sum(apart) / 2 - value) > 1e-3, "halves that know nothing of each other give other codes"
    for rank in (0, 1):
        mean, everyone, gradients = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(mean, value.detach(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(everyone, alone.everyone, rtol=1e-10, atol=1e-12)
        for theirs, mine in zip(gradients, alone.parameters(), strict=True):
            torch.testing.assert_close(theirs, mine.grad, rtol=1e-9, atol=1e-12)
