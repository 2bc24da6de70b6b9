"""The pretext of Swin UNETR: turns and their names, what is cut, and three losses that are the sum of their parts."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medprior.errors import SettingsError
from medprior.methods.factory import presets
from medprior.methods.swin_pretext import SwinPretext, others, turned
from medprior.views.draws import Key
from medprior.views.recipe import base_recipe
from small_methods import batch_at, method_of, smooth, view_of
from two_processes import TwoProcesses

PROGRAM = """
import sys, torch
from test_swin_pretext import outcome

me, folder = int(sys.argv[1]), sys.argv[2]
torch.save(outcome(slice(2 * me, 2 * me + 2)), f"{folder}/{me}.pt")
"""
make = partial(method_of, SwinPretext, "swin_pretext", projection=16)


def images(count: int = 4, dims: int = 3, size: int = 16) -> Tensor:
    """Smooth ones, brighter towards the end of the last axis, so that there is an upright."""
    return 0.5 * smooth(count, dims, size) + torch.linspace(0, 0.5, size)


@pytest.mark.parametrize("dims", [2, 3])
def test_copies_are_turned_in_the_plane_of_the_last_axes_by_what_they_are_called(dims: int) -> None:
    method, pixels = make(dims), images(24, dims)
    valid = torch.rand(24, 1, *[16] * dims) < 0.9
    copies = method.corrupt(view_of(pixels, valid), batch_at(list(range(24))))
    assert set(copies.turns.tolist()) == {0, 1, 2, 3}
    for number, turns in enumerate(copies.turns.tolist()):
        assert torch.equal(copies.target[number], torch.rot90(pixels[number % 24], turns, (-2, -1)))
        assert torch.equal(copies.valid[number], torch.rot90(valid[number % 24], turns, (-2, -1)))
    first, second = copies.turns.chunk(2)
    assert not torch.equal(first, second), "each copy has a turn of its own"


def test_every_turn_is_as_likely_and_belongs_to_the_scan_and_the_step() -> None:
    method, rows, dot = make(2), list(range(4000)), torch.zeros(4000, 1, 1, 1)
    turns = method.corrupt(view_of(dot), batch_at(rows)).turns
    share = torch.bincount(turns, minlength=4) / 8000
    assert (share - 0.25).abs().max() < 5 * (0.25 * 0.75 / 8000) ** 0.5
    again = method.corrupt(view_of(dot), batch_at(rows[::-1])).turns
    assert torch.equal(torch.cat([half.flip(0) for half in again.chunk(2)]), turns)
    assert not torch.equal(method.corrupt(view_of(dot), batch_at(rows, step=1)).turns, turns)


def test_four_quarter_turns_are_none() -> None:
    pixels = images(1)
    for turns in range(4):
        there = turned(pixels, torch.tensor([turns]))
        assert torch.equal(turned(there, torch.tensor([(4 - turns) % 4])), pixels)


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_hide_some_of_what_is_seen_and_nothing_of_the_target(dims: int) -> None:
    method, pixels = make(dims, cut=0.3), images(64, dims)
    before = pixels.clone()
    copies = method.corrupt(view_of(pixels), batch_at(list(range(64))))
    assert torch.equal(pixels, before)
    gone = (copies.seen != copies.target).flatten(1).double().mean(1)
    assert 0.08 < gone.mean() < 0.2, "0 to 0.3, less what boxes share"
    assert gone.max() < 0.3 + 0.25**dims, "the last box may go beyond"


def test_parts_of_another_image_come_after_the_noise() -> None:
    method, plain, rows = make(swapped=0.3), make(), [4, 9, 2, 7]
    pixels = torch.tensor([0.1, 0.3, 0.5, 0.7]).view(4, 1, 1, 1, 1).expand(-1, -1, 16, 16, 16).contiguous()
    copies, before = (one.corrupt(view_of(pixels), batch_at(rows)) for one in (method, plain))
    assert torch.equal(copies.target, before.target)
    swapped = copies.seen != before.seen
    strangers = pixels.flatten(1)[:, 0].repeat(2)
    for number in range(8):
        brought = copies.seen[number][swapped[number]].unique()
        assert len(brought) <= 1 and not torch.isin(brought, strangers[number])
    assert 0.05 < swapped.double().mean() < 0.25


def test_each_image_has_another_one_whatever_the_order() -> None:
    rows = torch.tensor([4, 9, 2, 7, 11])
    found = others(Key(0, 0, rows, 0))
    assert sorted(found.tolist()) == list(range(5)) and all(found != torch.arange(5))
    order = torch.tensor([3, 0, 4, 2, 1])
    assert torch.equal(rows[order][others(Key(0, 0, rows[order], 0))], rows[found][order])
    assert others(Key(0, 0, rows[:1], 0)).tolist() == [0]


@pytest.mark.parametrize("swapped", [0.0, 0.3])
def test_the_order_of_the_batch_is_only_an_order(swapped: float) -> None:
    method, pixels, rows = make(swapped=swapped), images(), [4, 9, 2, 7]
    there = method.corrupt(view_of(pixels), batch_at(rows))
    back = method.corrupt(view_of(pixels.flip(0)), batch_at(rows[::-1]))
    for one, other in zip(there, back, strict=True):
        assert torch.equal(torch.cat([half.flip(0) for half in other.chunk(2)]), one)
    method = method.double().eval()
    one, other = (
        method([view_of(p.double())], batch_at(r))["loss"] for p, r in ((pixels, rows), (pixels.flip(0), rows[::-1]))
    )
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("dims", "backbone"), [(2, "vit_micro_patch8"), (3, "unet_2")])
def test_the_loss_is_the_sum_of_the_three_as_published(dims: int, backbone: str) -> None:
    """Written out in float64: cross-entropy of the turns, NT-Xent, mean distance to the uncut copies."""
    method, batch, view = make(dims, backbone).double().eval(), batch_at([0, 1, 2]), view_of(images(3, dims).double())
    copies = method.corrupt(view, batch)
    with torch.no_grad():
        found, maps = method([view], batch), method.encoder(copies.seen)
        pooled = method.encoder.pool(maps)
        odds = (pooled @ method.turner.weight.T + method.turner.bias).softmax(1)
        turn = torch.stack([-odds[i, turns].log() for i, turns in enumerate(copies.turns.tolist())]).mean()
        z = pooled @ method.projector.weight.T + method.projector.bias
        alike = ((z / z.norm(dim=1, keepdim=True)) @ (z / z.norm(dim=1, keepdim=True)).T / 0.5).exp()
        pairs = [(i, (i + 3) % 6) for i in range(6)]
        contrast = torch.stack([-(alike[i, j] / (alike[i].sum() - alike[i, i])).log() for i, j in pairs]).mean()
        inside = (method.decoder(maps) - copies.target).abs().mean()
    for name, wanted in (("turn", turn), ("contrast", contrast), ("restoration", inside)):
        torch.testing.assert_close(found[name], wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found["loss"], turn + contrast + inside, rtol=1e-9, atol=1e-12)


def test_the_decoder_sees_the_coarsest_map_alone() -> None:
    method, pixels = make(), images()
    maps = method.encoder(pixels)
    whole = method.decoder(maps)
    spoilt = [torch.full_like(found, torch.nan) for found in maps[:-1]]
    assert torch.equal(method.decoder([*spoilt, maps[-1]]), whole) and whole.shape == pixels.shape


def test_padding_is_no_target() -> None:
    method, valid = make(), torch.ones(4, 1, 16, 16, 16, dtype=torch.bool)
    torch.nn.init.zeros_(method.decoder.head.weight)
    valid[:, :, :5] = False
    batch = batch_at([0, 1, 2, 3])
    views = [view_of(images().masked_fill(~valid, grey), valid) for grey in (0.0, 0.9)]
    one, other = (method([view], batch)["restoration"] for view in views)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("dims", "backbone", "size"),
    [(2, "swin_unetr_12", 32), (3, "swin_unetr_12", 32), (3, "segresnet_8", 16), (2, "resnet18", 32)],
)
def test_every_weight_learns(dims: int, backbone: str, size: int) -> None:
    method = make(dims, backbone, size)
    found = method([view_of(images(2, dims, size))], batch_at([0, 1]))
    found["loss"].backward()
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    assert set(found) == {"loss", "turn", "contrast", "restoration"}


def test_what_is_asked_is_learnt() -> None:
    method, view, rows = make(2, "resnet18", 32), view_of(images(8, 2, 32)), list(range(8))
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    kept: list[dict[str, Tensor]] = []
    for step in range(30):
        losses = method([view], batch_at(rows, step))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        kept.append({name: value.detach() for name, value in losses.items()})
    for name, share in (("turn", 0.6), ("contrast", 0.97), ("restoration", 0.6)):
        first, last = (torch.stack([k[name] for k in part]).mean() for part in (kept[:5], kept[-5:]))
        assert last < share * first, name


def outcome(rows: slice) -> list[Tensor]:
    """Mean loss on these rows of a batch whose halves hold different numbers of valid pixels, and its gradients."""
    method = make(2, "vit_micro_patch8").double()
    pixels, valid = images(dims=2).double(), torch.ones(4, 1, 16, 16, dtype=torch.bool)
    valid[2:, :, :11] = False
    loss = method([view_of(pixels[rows], valid[rows])], batch_at(list(range(4))[rows]))["loss"]
    loss.backward()
    means = [loss.detach().clone(), *[w.grad for w in method.parameters() if w.grad is not None]]
    for mean in means if torch.distributed.is_initialized() else []:
        torch.distributed.all_reduce(mean)
        mean /= 2
    return means


def test_two_processes_train_as_one_with_the_joined_batch(two_processes: TwoProcesses, tmp_path: Path) -> None:
    two_processes(PROGRAM, tmp_path, __file__)
    alone = outcome(slice(0, 4))
    assert len(alone) > 50
    for rank in (0, 1):
        for theirs, mine in zip(torch.load(tmp_path / f"{rank}.pt"), alone, strict=True):
            torch.testing.assert_close(theirs, mine, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("dims", "swapped"), [(2, 0.0), (3, 0.3)])
def test_it_is_compiled_once_and_gives_what_it_gave(dims: int, swapped: float) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    method, views, rows = make(dims, swapped=swapped), [view_of(images(dims=dims))], [0, 1, 2, 3]
    compiled = torch.compile(method, backend=count, fullgraph=True, dynamic=False)
    losses = [compiled(views, batch_at(rows, step))["loss"] for step in range(3)]
    assert len(graphs) == 1 and len({loss.item() for loss in losses}) == 3
    for step, loss in enumerate(losses):
        torch.testing.assert_close(method(views, batch_at(rows, step))["loss"], loss, rtol=1e-4, atol=1e-5)


def test_the_eye_sees_what_the_encoder_saw() -> None:
    method = make(2, "resnet18", 32)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    target, seen, restored = method.reconstruct([view_of(images(2, 2, 32))], batch_at([0, 1]))
    assert target.shape == seen.shape == restored.shape == (2, 1, 32, 32) and not torch.equal(target, seen)
    assert all(shown.min() >= 0 and shown.max() <= 1 for shown in (target, seen, restored))
    assert method.training and all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


def test_views_are_upright_and_undistorted() -> None:
    (spec,) = make(2).views(base_recipe("SM", 32)).specs
    assert spec.recipe.flips == () and spec.recipe.aspect == (1.0, 1.0) and base_recipe("SM", 32).flips


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"total stride of unet_2, 8, does not divide 20 pixels"):
        make(size=20)
    with pytest.raises(SettingsError, match=r"wrong value 0: .*greater than 0 \[setting swin_pretext.cut\]"):
        make(cut=0)


def test_the_presets_tell_paper_and_code_apart() -> None:
    found = presets("swin_pretext")
    assert (found["paper"]["config"]["swapped"], found["code"]["config"]["swapped"]) == (0.0, 0.3)
    training = found["paper"]["training"]
    steps = training["epochs"] * 5050 / training["batch_size"]
    assert steps == pytest.approx(100_000, rel=0.01) and steps * training["warmup"] == pytest.approx(500, rel=0.01)
