"""SimMIM: what is hidden reaches the transformer as a token alone, and is all that is restored."""

import pytest
import torch
from torch import Tensor

from medprior.backbones.factory import create_encoder
from medprior.errors import SettingsError
from medprior.methods.factory import create_method, presets
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.methods.simmim import SimMIM, block_size
from medprior.objectives.reconstruction import patchify, unpatchify
from medprior.views.recipe import base_recipe
from medprior.views.view import View


def make(dims: int = 2, size: int = 32, channels: int = 1, **settings: object) -> SimMIM:
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels]
    encoder = create_encoder("vit_micro_patch8", channels, dims, size, mean=mean, std=std, seed=0)
    method = create_method("simmim", encoder, overrides=settings, facts=DataFacts(9, channels, dims, size, mean, std))
    assert isinstance(method, SimMIM)
    return method.train()


def test_patches_of_thick_slices_are_restored() -> None:
    encoder = create_encoder("vit_micro_patch8", 1, 3, 32, seed=0, spacing=(5.0, 1.0, 1.0))
    facts = DataFacts(9, 1, 3, 32, (0.5,), (0.25,))
    method = create_method("simmim", encoder, overrides={"block": 8}, facts=facts)
    assert isinstance(method, SimMIM) and encoder.axis_strides == ((2, 8, 8),)
    view, batch = view_of(torch.rand(2, 1, 6, 32, 24)), batch_of([0, 1])
    method([view], batch)["loss"].backward()
    assert all(weight.grad is not None for weight in method.parameters())
    image, masked, _ = method.reconstruct([view], batch)
    hidden = method.mask(batch, (3, 4, 3))
    assert hidden.sum() * 2 * 8 * 8 == (masked == 0.5).sum() and not torch.equal(image, masked)


def images(count: int = 2, dims: int = 2, size: int = 32, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, *[size] * dims, generator=torch.Generator().manual_seed(seed))


def view_of(pixels: Tensor, valid: Tensor | None = None) -> View:
    dims = pixels.ndim - 2
    valid = torch.ones_like(pixels[:, :1], dtype=torch.bool) if valid is None else valid
    return View(pixels, valid, torch.eye(dims, dims + 1).expand(len(pixels), -1, -1))


def batch_of(rows: list[int], step: int = 0, seed: int = 0) -> Batch:
    return Batch(torch.tensor(rows), seed, Clock(step, 10))


def pixels_hidden(hidden: Tensor, patch: int = 8) -> Tensor:
    """(B, 1, *S) from (B, 1, *grid), by patches."""
    flat = hidden.flatten(1).unsqueeze(-1).expand(-1, -1, patch ** (hidden.ndim - 2))
    return unpatchify(flat, patch, tuple(hidden.shape[2:]))


@pytest.mark.parametrize(("dims", "size"), [(2, 32), (3, 16)])
def test_every_token_enters_and_hidden_ones_are_the_token_at_their_place(dims: int, size: int) -> None:
    method, given = make(dims, size), []
    method.encoder.network.norm_pre.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    batch, pixels, grid = batch_of([3, 8]), images(2, dims, size), (size // 8,) * dims
    method([view_of(pixels)], batch)
    hidden, seen = method.mask(batch, grid).flatten(1), given[0][:, 1:]
    places, whole = method.encoder.positions[0, 1:], method.encoder.stem(pixels)
    assert seen.shape == (2, (size // 8) ** dims, 128)
    for b in range(2):
        torch.testing.assert_close(seen[b, hidden[b]], method.head.token + places[hidden[b]])
        torch.testing.assert_close(seen[b, ~hidden[b]], whole[b, ~hidden[b]])


@pytest.mark.parametrize(("dims", "size", "channels"), [(2, 32, 1), (2, 32, 3), (3, 16, 2)])
def test_hidden_pixels_reach_nothing_and_visible_ones_stay(dims: int, size: int, channels: int) -> None:
    method, batch = make(dims, size, channels).eval(), batch_of([5, 6])
    pixels, other = (images(2, dims, size, channels, seed) for seed in (0, 1))
    hidden = pixels_hidden(method.mask(batch, (size // 8,) * dims))
    original, masked, restored = method.reconstruct([view_of(pixels)], batch)
    _, same, again = method.reconstruct([view_of(torch.where(hidden, other, pixels))], batch)
    assert torch.equal(original, pixels) and torch.equal(masked, same) and torch.equal(restored, again)
    where = hidden.expand_as(pixels)
    assert torch.equal(restored[~where], pixels[~where]) and (masked[where] == 0.5).all()
    assert not torch.allclose(restored[where], pixels[where])


@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (2, 3), (3, 2)])
def test_the_loss_is_the_mean_distance_of_standardised_hidden_pixels(dims: int, channels: int) -> None:
    """Written out in float64, patch by patch."""
    method, batch, size = make(dims, 16, channels).double().eval(), batch_of([1, 2]), 16
    pixels = images(2, dims, size, channels).double()
    hidden = method.mask(batch, (2,) * dims).flatten(1)
    with torch.no_grad():
        z = method.encoder.stem(pixels)
        errors = []
        for b in range(2):
            mine = z[b].clone()
            mine[hidden[b]] = method.head.token + method.encoder.positions[0, 1:][hidden[b]]
            tokens = method.encoder.tokens(mine[None])[0, 1:]
            target = patchify((pixels[b : b + 1] - method.encoder.mean) / method.encoder.std, 8)[0]
            made = tokens @ method.head.weight.T + method.head.bias
            errors += [(made[hidden[b]] - target[hidden[b]]).abs().flatten()]
        loss = method([view_of(pixels)], batch)["loss"]
    torch.testing.assert_close(loss, torch.cat(errors).mean(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dims", [2, 3])
def test_whole_blocks_are_hidden_the_share_rounded_up(dims: int) -> None:
    method = make(dims, 32, block=16)
    hidden = method.mask(batch_of([0, 1, 2]), (4,) * dims)
    blocks = hidden
    for axis in range(2, 2 + dims):
        assert torch.equal(blocks.unflatten(axis, (-1, 2)).all(axis + 1), blocks.unflatten(axis, (-1, 2)).any(axis + 1))
        blocks = blocks.unflatten(axis, (-1, 2)).all(axis + 1)
    assert blocks.flatten(1).sum(1).tolist() == [{2: 3, 3: 5}[dims]] * 3, "0.6 of 4 and of 8"


def test_masks_belong_to_the_scan_and_the_step() -> None:
    method, grid = make(size=64), (8, 8)
    first = method.mask(batch_of([5, 6, 7]), grid)
    assert len({tuple(row.flatten().tolist()) for row in first}) == 3
    assert torch.equal(method.mask(batch_of([7, 5]), grid), first[[2, 0]])
    assert not torch.equal(method.mask(batch_of([5, 6, 7], step=1), grid), first)
    assert not torch.equal(method.mask(batch_of([5, 6, 7], seed=1), grid), first)


@pytest.mark.parametrize(
    ("patch", "size", "found"), [(16, 224, 32), (16, 64, 16), (8, 64, 16), (8, 96, 24), (8, 16, 8), (64, 128, 64)]
)
def test_blocks_are_32_pixels_or_what_leaves_four_of_them(patch: int, size: int, found: int) -> None:
    assert block_size(None, patch, size) == found
    assert block_size(2 * patch, patch, size) == 2 * patch


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"block": 12}, r"blocks of 12 pixels are no whole patches of 8 \[setting simmim.block\]"),
        ({"block": 32}, r"of 1 blocks of 32 pixels a share of 0.6 is all"),
        ({"block": 16, "mask_ratio": 0.9}, r"of 4 blocks of 16 pixels a share of 0.9 is all"),
        ({"mask_ratio": 1.0}, r"wrong value 1.0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make(**settings)


def constant(method: SimMIM) -> SimMIM:
    """One whose prediction is the same everywhere, so that only targets can differ."""
    torch.nn.init.zeros_(method.head.weight)
    torch.nn.init.zeros_(method.head.bias)
    return method


def test_visible_pixels_and_padding_are_no_target() -> None:
    method, batch, pixels = constant(make()), batch_of([0, 1]), images()
    valid = torch.ones_like(pixels, dtype=torch.bool)
    valid[:, :, :13] = False
    free = ~(valid & pixels_hidden(method.mask(batch, (4, 4))))
    one, two = (method([view_of(pixels.masked_fill(free, grey), valid)], batch)["loss"] for grey in (0.0, 0.9))
    torch.testing.assert_close(one, two)
    assert method([view_of(pixels, torch.zeros_like(valid))], batch)["loss"].item() == 0


@pytest.mark.parametrize("extents", [(16, 32, 24), (24, 16)])
def test_images_need_not_be_square_and_every_weight_learns(extents: tuple[int, ...]) -> None:
    method, batch = make(len(extents), 16), batch_of([1, 2])
    pixels = torch.rand(2, 1, *extents)
    method([view_of(pixels)], batch)["loss"].backward()
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    assert method.head.token.grad is not None and method.head.token.grad.abs().min() > 0
    hidden = pixels_hidden(method.mask(batch, tuple(extent // 8 for extent in extents)))
    _, masked, _ = method.eval().reconstruct([view_of(pixels)], batch)
    assert torch.equal(masked, pixels.masked_fill(hidden, 0.5))


def test_what_is_kept_beside_the_encoder_restores_as_before() -> None:
    method, batch = make().eval(), batch_of([4])
    other = create_method("simmim", method.encoder, facts=DataFacts(9, 1, 2, 32, (0.4,), (0.2,)), seed=5).eval()
    views = [view_of(images(1))]
    before = method.reconstruct(views, batch)[2]
    assert not torch.equal(other.reconstruct(views, batch)[2], before)  # type: ignore[operator]
    for name, part in other.parts().items():
        part.load_state_dict(method.parts()[name].state_dict())
    assert torch.equal(other.reconstruct(views, batch)[2], before)  # type: ignore[operator]


def test_a_trained_one_continues_stripes() -> None:
    method = make(block=8)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for step in range(40):
        phase = torch.rand(16, 1, 1, 1, generator=generator) * 6.28
        wave = torch.sin(torch.arange(32).reshape(1, 1, 1, 32) * 0.785 + phase)
        stripes = (0.4 + 0.28 * wave).expand(-1, -1, 32, -1).contiguous()
        loss = method([view_of(stripes)], batch_of(list(range(16)), step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) / 3 < 0.5, "guessing the mean costs 0.9"


@pytest.mark.parametrize("dims", [2, 3])
def test_it_is_compiled_once_and_gives_what_it_gave(dims: int) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    method, views = make(dims, 16), [view_of(images(2, dims, 16))]
    compiled = torch.compile(method, backend=count, fullgraph=True, dynamic=False)
    losses = [compiled(views, batch_of([0, 1], step))["loss"] for step in range(3)]
    assert len(graphs) == 1 and len({loss.item() for loss in losses}) == 3
    for step, loss in enumerate(losses):
        torch.testing.assert_close(method(views, batch_of([0, 1], step))["loss"], loss)


def test_views_and_the_paper_preset_are_the_papers() -> None:
    (spec,) = make().views(base_recipe("CT", 32)).specs
    assert (spec.recipe.scale, spec.recipe.aspect) == ((0.67, 1.0), (3 / 4, 4 / 3))
    paper = presets("simmim")["paper"]
    assert paper["config"] == {"mask_ratio": 0.6, "block": 32}
    training = paper["training"]
    assert training["warmup"] * training["epochs"] == pytest.approx(10)
    assert training["lr"] * training["batch_size"] / training["lr_per"] == pytest.approx(4e-4)
