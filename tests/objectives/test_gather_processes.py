"""Two real processes against one with the joined batch: the losses and the gradients that training would use."""

import pytest
import torch
from torch import nn

from medprior.objectives.agreement import negative_cosine
from medprior.objectives.contrastive import nt_xent
from medprior.objectives.gather import average, gather, rank, world_size
from medprior.objectives.reconstruction import patch_loss
from medprior.objectives.redundancy import barlow_twins, vicreg
from two_processes import TwoProcesses

PROGRAM = """
import sys, torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from test_gather_processes import LOSSES, batch, network

me, folder = int(sys.argv[1]), sys.argv[2]
found = {}
for name, loss in LOSSES.items():
    model = DistributedDataParallel(network())
    half = [part.chunk(2)[me] for part in batch()]
    value = loss(model, half)
    value.backward()
    mean = value.detach().clone()
    dist.all_reduce(mean)
    found[name] = (mean / 2, [p.grad for p in model.parameters()])
torch.save(found, f"{folder}/{me}.pt")
"""


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def batch() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 10, 6, generator=generator, dtype=torch.float64)
    valid = torch.rand(10, 4, generator=generator) < torch.linspace(0.1, 0.9, 10).unsqueeze(1)
    return [first, second, valid]


def contrast(model: nn.Module, parts: list[torch.Tensor]) -> torch.Tensor:
    first, second = model(torch.cat(parts[:2])).chunk(2)
    return nt_xent(first, second, 0.3)


def restore(model: nn.Module, parts: list[torch.Tensor]) -> torch.Tensor:
    """The halves of the batch hold very different numbers of valid pixels."""
    first, second, valid = parts
    return patch_loss(model(first).unsqueeze(1), second[:, :4].unsqueeze(1), valid.unsqueeze(1))


def agree(model: nn.Module, parts: list[torch.Tensor]) -> torch.Tensor:
    return negative_cosine(model(parts[0]), model(parts[1]).detach())


def decorrelate(model: nn.Module, parts: list[torch.Tensor]) -> torch.Tensor:
    terms = barlow_twins(*model(torch.cat(parts[:2])).chunk(2))
    return terms.invariance + 0.0051 * terms.redundancy


def decorrelate_wide(model: nn.Module, parts: list[torch.Tensor]) -> torch.Tensor:
    """More values than samples, as behind a real projector."""
    z, other = (torch.cat([found**power for power in range(1, 7)], dim=1) for found in map(model, parts[:2]))
    terms = barlow_twins(z, other)
    return terms.invariance + 0.0051 * terms.redundancy


def regularise(model: nn.Module, parts: list[torch.Tensor]) -> torch.Tensor:
    terms = vicreg(*model(torch.cat(parts[:2])).chunk(2))
    return 25 * terms.invariance + 25 * terms.variance + terms.covariance


LOSSES = {
    "contrast": contrast,
    "restore": restore,
    "agree": agree,
    "decorrelate": decorrelate,
    "decorrelate wide": decorrelate_wide,
    "regularise": regularise,
}


@pytest.fixture(scope="module")
def processes(
    two_processes: TwoProcesses, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, tuple[torch.Tensor, list[torch.Tensor]]]]:
    folder = tmp_path_factory.mktemp("ranks")
    two_processes(PROGRAM, folder, __file__)
    return [torch.load(folder / f"{r}.pt") for r in (0, 1)]


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_train_as_one_with_the_joined_batch(processes, name: str) -> None:  # type: ignore[no-untyped-def]
    model = network()
    alone = LOSSES[name](model, batch())
    alone.backward()
    for found in processes:
        mean, gradients = found[name]
        torch.testing.assert_close(mean, alone.detach(), rtol=1e-10, atol=1e-12)
        for theirs, mine in zip(gradients, model.parameters(), strict=True):
            torch.testing.assert_close(theirs, mine.grad, rtol=1e-9, atol=1e-12)


def test_one_process_is_untouched() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather(rows) is rows
    assert not average(rows).requires_grad
    assert (world_size(), rank()) == (1, 0)
