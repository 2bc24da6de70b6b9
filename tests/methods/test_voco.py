"""VoCo: crops lie where their overlaps say, and both published losses are what they are written as."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medprior.errors import SettingsError
from medprior.methods.factory import presets
from medprior.methods.method import Clock
from medprior.methods.voco import VoCo, overlaps, prediction, separation
from medprior.views.recipe import base_recipe
from medprior.views.view import View
from small_methods import batch_at, method_of, smooth, view_of
from two_processes import TwoProcesses

FORMS = ("paper", "code")
PROGRAM = """
import sys, torch
from test_voco import outcome

me, folder = int(sys.argv[1]), sys.argv[2]
torch.save(outcome(slice(2 * me, 2 * me + 2)), f"{folder}/{me}.pt")
"""


def make(dims: int = 2, size: int = 8, backbone: str = "vit_micro_patch8", **settings: object) -> VoCo:
    chosen = {"projection": (24, 16), "grid": 3, "momentum": None, "form": "paper", **settings}
    return method_of(VoCo, "voco", dims, backbone, size, **chosen)


def numbered(count: int = 4, dims: int = 2, side: int = 24) -> View:
    """Every pixel of a scan says where it is."""
    pixels = torch.arange(side**dims).double().div(side**dims).view(1, 1, *[side] * dims).repeat(count, 1, *[1] * dims)
    return view_of(pixels)


def images(count: int = 4, dims: int = 2, side: int = 24) -> Tensor:
    return smooth(count, dims, side, grid=6)


@pytest.mark.parametrize(("dims", "depth"), [(2, 1), (3, 1), (3, 2), (3, 4)])
def test_overlaps_are_the_pixels_that_crops_share(dims: int, depth: int) -> None:
    """Counted pixel by pixel, by the numbers that the pixels of the crops hold."""
    method, rows = make(dims, grid=3, depth=depth, crops=3), [2, 7]
    largest = max(3, depth) if dims == 3 else 3
    cuts = method.cut(numbered(2, dims, 8 * largest), batch_at(rows))
    bases = 9 * (depth if dims == 3 else 1)
    crops = cuts.pixels.view(bases + 3, 2, 8**dims)
    assert cuts.overlap.shape == (2, 3, bases)
    numbers = [[set(crop.tolist()) for crop in row] for row in crops]
    for b, k, n in product(range(2), range(3), range(bases)):
        shared = len(numbers[bases + k][b] & numbers[n][b])
        assert cuts.overlap[b, k, n].item() == pytest.approx(shared / 8**dims, abs=1e-7)
    assert cuts.overlap.sum(2).flatten().tolist() == pytest.approx([1] * 6, abs=1e-6), "no crop leaves the grid"


@pytest.mark.parametrize(("dims", "depth"), [(2, 1), (3, 1), (3, 2), (3, 3)])
def test_the_grid_is_laid_in_the_middle_of_the_view_without_gaps(dims: int, depth: int) -> None:
    method, view = make(dims, grid=3, depth=depth), numbered(1, dims)
    crops = method.cut(view, batch_at([0])).pixels.view(-1, 8**dims)
    tiled = crops[: 9 * (depth if dims == 3 else 1)]
    first = (24 - 8 * depth) // 2
    wanted = view.pixels[:, :, first : first + 8 * depth] if dims == 3 else view.pixels
    assert sorted(tiled.flatten().tolist()) == sorted(wanted.flatten().tolist())


def test_overlaps_by_hand() -> None:
    bases = torch.tensor([[0, 0], [0, 4], [4, 0], [4, 4]])
    found = overlaps(torch.tensor([[[1, 2], [4, 4]]]), bases, 4)
    assert found.tolist() == [[[6 / 16, 6 / 16, 2 / 16, 2 / 16], [0, 0, 0, 1]]]


def test_random_crops_belong_to_the_scan_and_the_step_and_reach_everywhere() -> None:
    method, rows = make(crops=1), list(range(2000))
    _, first = method._corners(batch_at(rows), 8)
    assert sorted(set(first.flatten().tolist())) == list(range(17))
    assert abs(first.double().mean().item() - 8) < 5 * math.sqrt((17**2 - 1) / 12 / first.numel())
    _, again = method._corners(batch_at(rows[::-1]), 8)
    _, later = method._corners(batch_at(rows, step=1), 8)
    assert torch.equal(again.flip(0), first) and not torch.equal(later, first)


def test_views_of_another_size_give_the_same_places() -> None:
    """As crops of 96 pixels become 64: what overlaps is told before they are resized."""
    method = make(crops=2, backbone="test_resnet", size=32)
    cuts = method.cut(numbered(2), batch_at([0, 1]))
    assert cuts.pixels.shape == (11 * 2, 1, 32, 32) and cuts.overlap.sum(2).tolist() == [[1, 1], [1, 1]]


def random_unit(*shape: int) -> Tensor:
    found = torch.randn(*shape, generator=torch.Generator().manual_seed(shape[1]), dtype=torch.float64)
    return torch.nn.functional.normalize(found, dim=-1)


def test_both_predictions_are_as_written() -> None:
    bases, crops = random_unit(2, 5, 3), random_unit(2, 4, 3)
    s = np.maximum(np.einsum("bkd,bnd->bkn", crops.numpy(), bases.numpy()), 0)
    y = np.random.default_rng(0).random((2, 4, 5)) * (np.random.default_rng(1).random((2, 4, 5)) < 0.5)
    counted = np.random.default_rng(2).random((2, 4, 5)) < 0.8
    given = torch.from_numpy(s), torch.from_numpy(y), torch.from_numpy(counted)
    surprise = -np.log(1 - np.abs(y - s) + 1e-6)
    assert prediction(*given, "paper").item() == pytest.approx(surprise[counted].mean(), rel=1e-12)
    weights, far = y * counted, (y == 0) & counted
    wanted = (surprise * weights).sum() / weights.sum() + (s[far] ** 2).mean()
    assert prediction(*given, "code").item() == pytest.approx(wanted, rel=1e-12)
    for form in FORMS:
        assert abs(prediction(given[1], given[1], given[2], form).item()) < 2e-6, "nothing is left to learn"
        assert prediction(given[0], given[1], torch.zeros_like(given[2]), form).item() == 0


def test_both_separations_are_as_written() -> None:
    bases, known = random_unit(3, 5, 4), torch.rand(3, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    cosines = [
        float(bases[b, i] @ bases[b, j])
        for b in range(3)
        for j in range(5)
        for i in range(j)
        if known[b, i] & known[b, j]
    ]
    assert len(cosines) > 8
    assert separation(bases, known, "paper").item() == pytest.approx(np.abs(cosines).mean(), rel=1e-12)
    assert separation(bases, known, "code").item() == pytest.approx((np.maximum(cosines, 0) ** 2).mean(), rel=1e-12)
    assert separation(torch.eye(5)[None], torch.ones(1, 5, dtype=torch.bool), "paper").item() == 0
    assert separation(bases, torch.zeros_like(known), "code").item() == 0


def test_cosines_are_not_rounded_where_networks_are() -> None:
    bases, known = random_unit(2, 5, 3).float(), torch.ones(2, 5, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = separation(bases, known, "paper")
    assert torch.equal(rounded, separation(bases, known, "paper"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("momentum", [None, 0.5])
def test_the_loss_is_the_sum_over_the_crops_of_one_pass(form: str, momentum: float | None) -> None:
    method = make(form=form, momentum=momentum).double().eval()
    batch, view = batch_at([0, 1, 2]), view_of(images(3).double())
    if method.teacher is not None:
        for weight in method.teacher.parameters():
            weight.mul_(1.2)
    with torch.no_grad():
        losses = method([view], batch)
        cuts = method.cut(view, batch)
        networks = [lambda x: method.projector(method.embed(x)), method.teacher or (lambda x: z)]
        z = unit = networks[0](cuts.pixels)
        unit, steady = ((e / e.norm(dim=1, keepdim=True)).view(11, 3, -1) for e in (z, networks[1](cuts.pixels)))
        mine = torch.einsum("kbd,nbd->bkn", unit[9:], steady[:9]).relu()
        s = mine if momentum is None else (mine + torch.einsum("kbd,nbd->bkn", steady[9:], unit[:9]).relu()) / 2
    everything = torch.ones(3, 9, dtype=torch.bool)
    wanted = prediction(s, cuts.overlap.double(), everything[:, None].expand(-1, 2, -1), form)  # type: ignore[arg-type]
    apart = separation(unit[:9].transpose(0, 1), everything, form)  # type: ignore[arg-type]
    torch.testing.assert_close(losses["prediction"], wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(losses["loss"], wanted + apart, rtol=1e-9, atol=1e-12)


def test_without_a_teacher_the_grid_does_not_learn_from_what_is_predicted() -> None:
    method, batch, view = make().eval(), batch_at([0, 1]), view_of(images(2))
    given: list[Tensor] = []
    method.projector.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].retain_grad() or inputs[0]))
    found = method([view], batch)
    cuts = method.cut(view, batch)
    bases, crops = method._apart(method.projector(method.embed(cuts.pixels)), cuts)
    everything = torch.ones(2, 2, 9, dtype=torch.bool)
    prediction((crops @ bases.detach().transpose(1, 2)).relu(), cuts.overlap, everything, "paper").backward()
    of_grid, of_crops = given[1].grad[: 9 * 2], given[1].grad[9 * 2 :]  # type: ignore[index]
    assert not of_grid.any() and of_crops.any()
    found["loss"].backward()
    assert given[0].grad is not None and given[0].grad[: 9 * 2].any(), "but from what separates it"


def test_the_teacher_learns_nothing_and_follows() -> None:
    method = make(momentum=0.75)
    assert method.teacher is not None
    start = [weight.clone() for weight in method.teacher.parameters()]
    method([view_of(images())], batch_at([0, 1, 2, 3]))["loss"].backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    learning = [*method.encoder.parameters(), *method.projector.parameters()]
    torch.optim.SGD(learning, 0.1).step()
    method.after_update(Clock(0, 10))
    for own, old, now in zip(method.teacher.parameters(), start, learning, strict=True):
        torch.testing.assert_close(own, 0.75 * old + 0.25 * now.detach())
    assert set(method.parts()) == {"projector", "teacher"} and set(make().parts()) == {"projector"}


@pytest.mark.parametrize("form", FORMS)
def test_crops_of_padding_alone_count_nowhere(form: str) -> None:
    """Of a scan whose random crops all lie below a third that is padding."""
    method = make(form=form).eval()
    below = next(row for row in range(100) if (method._corners(batch_at([row]), 8)[1][..., 0] >= 8).all())
    batch, valid = batch_at([below, 1]), torch.ones(2, 1, 24, 24, dtype=torch.bool)
    valid[0, :, :8] = False
    assert method.cut(view_of(images(2), valid), batch).known.tolist() == [[False] * 3 + [True] * 8, [True] * 11]
    seen = [images(2).masked_fill(~valid, grey) for grey in (0.0, 0.9)]
    one, other = (method([view_of(pixels, valid)], batch)["loss"] for pixels in seen)
    torch.testing.assert_close(one, other)
    one, other = (method([view_of(pixels)], batch)["loss"] for pixels in seen)
    assert one != other
    assert method([view_of(seen[0], torch.zeros_like(valid))], batch)["loss"].item() == 0


def outcome(rows: slice) -> list[Tensor]:
    """Mean loss on these rows of a batch whose halves hold different numbers of known crops, and its gradients."""
    found = []
    for form in FORMS:
        method = make(form=form, momentum=0.9).double().eval()  # as its batch norms see the batch of one process
        pixels, valid = images().double(), torch.ones(4, 1, 24, 24, dtype=torch.bool)
        valid[2:, :, :16] = False
        loss = method([view_of(pixels[rows], valid[rows])], batch_at(list(range(4))[rows]))["loss"]
        loss.backward()
        means = [loss.detach().clone(), *[w.grad for w in method.parameters() if w.grad is not None]]
        for mean in means if torch.distributed.is_initialized() else []:
            torch.distributed.all_reduce(mean)
            mean /= 2
        found += means
    return found


def test_two_processes_train_as_one_with_the_joined_batch(two_processes: TwoProcesses, tmp_path: Path) -> None:
    two_processes(PROGRAM, tmp_path, __file__)
    alone = outcome(slice(0, 4))
    assert len(alone) > 50
    for rank in (0, 1):
        for theirs, mine in zip(torch.load(tmp_path / f"{rank}.pt"), alone, strict=True):
            torch.testing.assert_close(theirs, mine, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("dims", "momentum", "form"), [(2, None, "paper"), (3, 0.9, "code")])
def test_it_is_compiled_once_and_gives_what_it_gave(dims: int, momentum: float | None, form: str) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    method, views = make(dims, momentum=momentum, form=form), [view_of(images(2, dims))]
    compiled = torch.compile(method, backend=count, fullgraph=True, dynamic=False)
    losses = [compiled(views, batch_at([0, 1], step))["loss"] for step in range(3)]
    assert len(graphs) == 1 and len({loss.item() for loss in losses}) == 3
    for step, loss in enumerate(losses):
        torch.testing.assert_close(method(views, batch_at([0, 1], step))["loss"], loss, rtol=1e-4, atol=1e-5)


def test_where_crops_lie_is_learnt() -> None:
    method = make(backbone="unet_8", size=16, momentum=0.9, form="code", projection=(64, 32))
    optimizer = torch.optim.AdamW([w for w in method.parameters() if w.requires_grad], lr=3e-3)
    losses = []
    for step in range(30):
        found = method([view_of(images(8, side=48))], batch_at(list(range(8)), step))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        method.after_update(Clock(step, 30))
        losses.append(found["prediction"].item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize(("dims", "depth", "side"), [(2, 4, 96), (3, 1, 96), (3, 4, 128)])
def test_one_large_view_holds_the_grid(dims: int, depth: int, side: int) -> None:
    (spec,) = make(dims, depth=depth).views(base_recipe("CT", 32, dims)).specs
    assert (spec.recipe.size, spec.recipe.aspect, spec.recipe.spatial_dims) == (side, (1.0, 1.0), dims)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"wrong value 1: .*greater than or equal to 2 \[setting voco.grid\]"):
        make(grid=1)


def test_the_presets_tell_paper_and_code_apart() -> None:
    found = presets("voco")
    assert (found["paper"]["config"]["momentum"], found["paper"]["config"]["form"]) == (None, "paper")
    assert (found["code"]["config"]["momentum"], found["code"]["config"]["form"]) == (0.9, "code")
    assert all((found[name]["config"]["grid"], found[name]["config"]["depth"]) == (4, 1) for name in ("paper", "code"))
