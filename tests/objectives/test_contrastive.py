import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NTXentLoss

from medprior.objectives.contrastive import info_nce, nt_xent, shuffled
from two_processes import TwoProcesses

PROGRAM = """
import sys, torch
from test_contrastive import NETWORKS, scans
from medprior.objectives.contrastive import shuffled

me, folder = int(sys.argv[1]), sys.argv[2]
rows, draws = (part.chunk(2)[me] for part in scans())
torch.save({name: shuffled(network, rows, draws) for name, network in NETWORKS.items()}, f"{folder}/{me}.pt")
"""


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


def remembered(count: int = 11, width: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.nn.functional.normalize(torch.randn(count, width, generator=generator, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_finding_a_key_among_a_queue_costs_what_the_formula_says(temperature: float) -> None:
    queries, keys = embeddings(3)
    q, k = (
        rows.detach().numpy() / np.linalg.norm(rows.detach().numpy(), axis=1, keepdims=True) for rows in (queries, keys)
    )
    found, others = np.exp((q * k).sum(1) / temperature), np.exp(q @ remembered().numpy().T / temperature).sum(1)
    loss = info_nce(queries, keys, remembered(), temperature)
    assert loss.item() == pytest.approx(-np.log(found / (found + others)).mean(), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_the_cost_of_a_queue_and_its_gradients_equal_lightlys(temperature: float) -> None:
    ours, theirs = embeddings(4), embeddings(4)
    peer = NTXentLoss(temperature=temperature, memory_bank_size=(11, 5))
    peer.memory_bank.bank = remembered()
    mine, other = info_nce(*ours, remembered(), temperature), peer(*theirs)
    mine.backward()
    other.backward()
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-12)


def test_a_key_like_all_others_is_found_by_chance() -> None:
    alike = torch.ones(6, 4, dtype=torch.float64)
    assert float(info_nce(alike, alike, alike[:5] / 2, 0.1)) == pytest.approx(math.log(6))


def test_queries_of_half_precision_meet_a_queue_in_full() -> None:
    queries, keys = (e.detach().bfloat16() for e in embeddings(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(queries, keys, remembered().float(), 0.07)
    assert loss.dtype == torch.float32
    wanted = info_nce(queries.double(), keys.double(), remembered(), 0.07)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-5)


def each_alone(rows: torch.Tensor) -> torch.Tensor:
    return rows.square() + 1


def with_its_company(rows: torch.Tensor) -> torch.Tensor:
    """Blind to order, as a batch norm is: what it makes of a row tells which rows came along."""
    return rows - rows.mean(0)


NETWORKS = {"alone": each_alone, "company": with_its_company}


def scans() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(12, 3, generator=generator, dtype=torch.float64), torch.rand(12, generator=generator)


def test_processes_mix_their_scans_and_get_their_own_back(two_processes: TwoProcesses, tmp_path: Path) -> None:
    two_processes(PROGRAM, tmp_path, __file__)
    parts = [torch.load(tmp_path / f"{r}.pt") for r in (0, 1)]
    found = {name: torch.cat([part[name] for part in parts]) for name in NETWORKS}
    rows, draws = scans()
    assert torch.equal(found["alone"], each_alone(rows))
    mixed = torch.empty_like(rows)
    for half in draws.argsort().chunk(2):
        assert 0 < (half < 6).sum() < 6, "scans of both processes"
        mixed[half] = with_its_company(rows[half])
    torch.testing.assert_close(found["company"], mixed, rtol=0, atol=1e-12)


def test_one_process_has_nothing_to_mix_and_gives_no_gradient() -> None:
    rows, draws = scans()
    seen = shuffled(with_its_company, rows.requires_grad_(), draws)
    assert torch.equal(seen, with_its_company(rows)) and not seen.requires_grad
