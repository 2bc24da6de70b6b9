"""What the methods that restore a deformed image with a U-shaped decoder have in common."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medprior.backbones.unet import UNetDecoder
from medprior.errors import SettingsError
from medprior.methods.method import Batch, Method
from medprior.views.recipe import base_recipe
from medprior.views.view import View
from small_methods import batch_of, images, method_of, view_of
from two_processes import TwoProcesses

NAMES = ["genesis", "dae"]
make = partial(method_of, Method)


def views_of(method: Method) -> list[View]:
    return [view_of(images()) for _ in method.views(base_recipe("CT", 16, 3)).specs]


def learn(method: Method, optimizer: torch.optim.Optimizer, step: int, draw: int | None = None) -> float:
    """One step on images of their own, deformed as step `draw` would."""
    loss = method(views_of(method), batch_of(step=step if draw is None else draw))["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def adam(method: Method) -> torch.optim.Optimizer:
    return torch.optim.Adam(method.parameters(), lr=3e-3)


@pytest.mark.parametrize(("name", "share"), [("genesis", 0.3), ("dae", 0.5)])
def test_a_fixed_batch_is_learnt(name: str, share: float) -> None:
    method = make(name)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    losses = [learn(method, optimizer, step, draw=0) for step in range(15)]
    assert losses[-1] < share * losses[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dims", [2, 3])
def test_what_it_is_given_stays_as_it_is(name: str, dims: int) -> None:
    method, pixels = make(name, dims), images(dims=dims)
    before = pixels.clone()
    view = view_of(pixels)
    method([view] * len(method.views(base_recipe(None, 16, dims)).specs), batch_of())
    assert torch.equal(pixels, before) and view.pixels is pixels


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_no_target(name: str) -> None:
    """A decoder that gives the same everywhere, so that only targets can differ."""
    method, valid = make(name), torch.ones(4, 1, 16, 16, 16, dtype=torch.bool)
    for head in method.decoder.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    valid[:, :, :5] = False
    one, other = (
        method([view_of(images().masked_fill(~valid, grey), valid)] * (2 if name == "genesis" else 1), batch_of())
        for grey in (0.0, 0.9)
    )
    torch.testing.assert_close(one["loss"], other["loss"])


@pytest.mark.parametrize("name", NAMES)
def test_the_eye_sees_what_the_encoder_saw(name: str) -> None:
    method = make(name, backbone="test_resnet", dims=2, size=32)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    views = [view_of(images(2, 2, 32))] * len(method.views(base_recipe(None, 32)).specs)
    target, seen, restored = method.reconstruct(views, batch_of(2))  # type: ignore[operator]
    assert target.shape == seen.shape == restored.shape == (2, 1, 32, 32)
    assert all(shown.min() >= 0 and shown.max() <= 1 for shown in (target, seen, restored))
    assert not torch.equal(target, seen)
    assert method.training and all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_its_decoder_starts_one_of_segmentation(name: str) -> None:
    method = make(name)
    kept = method.parts()["decoder"]
    fresh = UNetDecoder(method.encoder, 5, sees_image=name == "dae")
    missing = fresh.load_state_dict({k: v for k, v in kept.state_dict().items() if not k.startswith("heads.")}, False)
    assert {key.split(".")[0] for key in missing.missing_keys} == {"heads"} and missing.unexpected_keys == []


@pytest.mark.parametrize("name", NAMES)
def test_sizes_that_the_encoder_does_not_divide_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"total stride of unet_2, 8, does not divide 20 pixels"):
        make(name, size=20)


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_from_a_file_as_if_it_had_never_stopped(name: str, tmp_path: Path) -> None:
    method = make(name)
    optimizer = adam(method)
    learn(method, optimizer, 0)
    torch.save({"method": method.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "method.pt")
    other = make(name)
    peer, saved = adam(other), torch.load(tmp_path / "method.pt", weights_only=True)
    other.load_state_dict(saved["method"])
    peer.load_state_dict(saved["optimizer"])
    assert [learn(method, optimizer, step) for step in (1, 2)] == [learn(other, peer, step) for step in (1, 2)]
    for mine, theirs in zip(method.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("name", "backbone"), [("genesis", "unet_2"), ("dae", "vit_micro_patch8")])
def test_it_is_compiled_once_and_gives_what_it_gave(name: str, backbone: str) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    method = make(name, backbone=backbone)
    compiled, views = torch.compile(method, backend=count, fullgraph=True), views_of(method)
    losses = [compiled(views, batch_of(step=step))["loss"] for step in range(3)]
    assert len(graphs) == 1
    assert len({loss.item() for loss in losses}) == 3, "every step draws its own"
    for step, loss in enumerate(losses):
        torch.testing.assert_close(method(views, batch_of(step=step))["loss"], loss)
    losses[-1].backward()
    assert all(weight.grad is not None for weight in method.parameters() if weight.requires_grad)


PROGRAM = """
import sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from test_restoring import NAMES, halves, make

me, folder = int(sys.argv[1]), sys.argv[2]
for name in NAMES:
    model = DistributedDataParallel(make(name).double())
    loss = model(*halves(name)[me])["loss"]
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    torch.save((mean / 2, [p.grad for p in model.parameters()]), f"{folder}/{name}{me}.pt")
"""


def halves(name: str, parts: int = 2) -> list[tuple[list[View], Batch]]:
    """Batches whose halves hold very different numbers of valid pixels."""
    pixels, valid = images().double(), torch.ones(4, 1, 16, 16, 16, dtype=torch.bool)
    valid[2:, :, :11] = False
    rows = torch.arange(4).chunk(parts)
    count = 2 if name == "genesis" else 1
    return [([view_of(pixels[r], valid[r])] * count, batch_of(len(r), first=int(r[0]))) for r in rows]


def test_two_processes_train_as_one_with_the_joined_batch(two_processes: TwoProcesses, tmp_path: Path) -> None:
    two_processes(PROGRAM, tmp_path, __file__)
    for name in NAMES:
        alone = make(name).double()
        ((views, batch),) = halves(name, 1)
        loss = alone(views, batch)["loss"]
        loss.backward()
        for r in (0, 1):
            mean, gradients = torch.load(tmp_path / f"{name}{r}.pt")
            torch.testing.assert_close(mean, loss.detach(), rtol=1e-10, atol=1e-12)
            for theirs, mine in zip(gradients, alone.parameters(), strict=True):
                torch.testing.assert_close(theirs, mine.grad, rtol=1e-8, atol=1e-11)
