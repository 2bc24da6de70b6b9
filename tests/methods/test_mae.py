import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from medprior.backbones.factory import create_encoder
from medprior.errors import SettingsError
from medprior.methods.factory import create_method
from medprior.methods.mae import MAE
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.objectives.reconstruction import patchify, unpatchify
from medprior.views.view import View


def make(dims: int = 2, size: int = 32, channels: int = 1, **overrides: object) -> MAE:
    encoder = create_encoder("vit_tiny_patch8", channels, dims, size, seed=0)
    facts = DataFacts(10, channels, dims, size, (0.5,) * channels, (0.25,) * channels)
    method = create_method("mae", encoder, overrides=overrides, facts=facts)
    assert isinstance(method, MAE)
    return method


def view_of(pixels: torch.Tensor, valid: torch.Tensor | None = None) -> View:
    dims = pixels.ndim - 2
    valid = torch.ones_like(pixels[:, :1], dtype=torch.bool) if valid is None else valid
    return View(pixels, valid, torch.eye(dims, dims + 1).expand(len(pixels), -1, -1))


def batch_of(rows: list[int], step: int = 0, seed: int = 0) -> Batch:
    return Batch(torch.tensor(rows), seed, Clock(step, 10))


@pytest.mark.parametrize(("dims", "size", "ratio", "kept"), [(2, 64, 0.75, 16), (2, 32, 0.6, 6), (3, 16, 0.75, 2)])
def test_the_encoder_sees_the_kept_patches_alone(dims: int, size: int, ratio: float, kept: int) -> None:
    method = make(dims, size, mask_ratio=ratio)
    counts: list[int] = []
    for block in method.encoder.network.blocks:
        block.register_forward_pre_hook(lambda _, inputs: counts.append(inputs[0].shape[1]))
    method([view_of(torch.rand(2, 1, *[size] * dims))], batch_of([0, 1]))
    assert counts == [1 + kept] * 12, "class token and kept patches, in every block"


@pytest.mark.parametrize(("dims", "size", "channels"), [(2, 64, 1), (2, 32, 3), (3, 16, 2)])
def test_no_product_is_wasted(dims: int, size: int, channels: int) -> None:
    """Multiplications counted: kept patches through the encoder, all tokens through the decoder, hidden ones out."""
    method, count = make(dims, size, channels, decoder_width=48, decoder_depth=3, decoder_heads=4), 2
    cells, pixels = (size // 8) ** dims, channels * 8**dims
    kept = max(1, cells // 4)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        method([view_of(torch.rand(count, channels, *[size] * dims))], batch_of([0, 1]))
    made = counter.get_flop_counts()["Global"]
    block = 12  # products with square matrices: three of attention, one out of it, eight of the perceptron
    encoder = kept * pixels * 192 + (1 + kept) * 192**2 * block * 12
    decoder = (1 + kept) * 192 * 48 + (1 + cells) * 48**2 * block * 3 + (cells - kept) * 48 * pixels
    assert made[torch.ops.aten.addmm] == 2 * count * (encoder + decoder)
    assert not {torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.convolution} & set(made)


def test_attention_never_writes_its_matrix_out() -> None:
    class Watch(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.names.append(str(func))
            return func(*args, **(kwargs or {}))

    method = make(size=64, decoder_depth=3)
    with Watch() as watch:
        method([view_of(torch.rand(2, 1, 64, 64))], batch_of([0, 1]))["loss"].backward()
    forwards = [n for n in watch.names if "scaled_dot_product" in n and "backward" not in n]
    assert len(forwards) == 12 + 3
    assert not [n for n in watch.names if "softmax" in n or "bmm" in n]


def test_the_decoder_is_the_papers() -> None:
    """Written out: mask tokens between the visible ones, each with its position, and the class token in front."""
    method = make(size=64, decoder_depth=2).eval()
    decoder, tokens = method.decoder, torch.randn(2, 17, 192)
    keep, hidden = method.mask(batch_of([4, 9]))
    with torch.no_grad():
        known = decoder.embed(tokens)
        patches = decoder.mask_token.expand(2, 64, -1).clone()
        for b in range(2):
            patches[b, keep[b]] = known[b, 1:]
        whole = decoder.head(decoder.norm(decoder.blocks(torch.cat([known[:, :1], patches + decoder.positions], 1))))
        wanted = torch.stack([whole[b, 1 + hidden[b]] for b in range(2)])
        torch.testing.assert_close(decoder(tokens, keep, hidden), wanted, rtol=1e-4, atol=1e-5)


def test_every_patch_is_kept_or_hidden_once_and_each_scan_has_its_own_mask() -> None:
    method = make(size=64)
    keep, hidden = method.mask(batch_of([5, 6, 7]))
    together = torch.cat([keep, hidden], 1).sort(1).values
    assert torch.equal(together, torch.arange(64).expand(3, -1))
    assert len({tuple(row.tolist()) for row in keep}) == 3
    again, _ = method.mask(batch_of([7, 5]))
    assert torch.equal(again, keep[[2, 0]]), "the mask belongs to the scan, not to its place in the batch"
    assert not torch.equal(method.mask(batch_of([5, 6, 7], step=1))[0], keep)
    assert not torch.equal(method.mask(batch_of([5, 6, 7], seed=1))[0], keep)


def test_masks_are_uniform() -> None:
    keep, _ = make().mask(batch_of(list(range(4000))))
    share = torch.bincount(keep.flatten(), minlength=16) / 4000
    assert (share - 0.25).abs().max() < 5 * (0.25 * 0.75 / 4000) ** 0.5


def test_hidden_pixels_reach_the_encoder_nowhere_and_visible_ones_are_no_target() -> None:
    method, batch = make().eval(), batch_of([3])
    keep, _ = method.mask(batch)
    pixels = torch.rand(1, 1, 32, 32)
    seen = torch.zeros(1, 16, 64, dtype=torch.bool)
    seen[0, keep[0]] = True
    visible = unpatchify(seen, 8, (4, 4))
    changed = torch.where(visible, pixels, torch.rand(1, 1, 32, 32))
    original, masked, restored = method.reconstruct([view_of(pixels)], batch)
    _, masked_too, _ = method.reconstruct([view_of(changed)], batch)
    assert torch.equal(original, pixels)
    assert torch.equal(masked, masked_too)
    assert torch.equal(restored[visible], pixels[visible])
    assert (masked[~visible] == 0.5).all() and not torch.allclose(restored[~visible], pixels[~visible])


@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (2, 3), (3, 2)])
def test_the_loss_is_the_papers(dims: int, channels: int) -> None:
    """Written out: mean over hidden patches of the mean squared error to the standardised patch."""
    size = 16
    method, batch = make(dims, size, channels, floor=1e-3).eval(), batch_of([1, 2])
    pixels = torch.rand(2, channels, *[size] * dims)
    keep, hidden = method.mask(batch)
    with torch.no_grad():
        tokens = method.encoder.tokens(method.encoder.stem(pixels), keep)
        predicted = method.decoder(tokens, keep, hidden)
        patches = patchify(pixels, 8)
        errors = []
        for b in range(2):
            for place, cell in enumerate(hidden[b].tolist()):
                patch = patches[b, cell]
                target = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
                errors.append((predicted[b, place] - target).square().mean())
        torch.testing.assert_close(method([view_of(pixels)], batch)["loss"], torch.stack(errors).mean())


@pytest.mark.parametrize("extents", [(16, 32, 24), (24, 8, 40)])
def test_volumes_need_not_be_cubes(extents: tuple[int, ...]) -> None:
    """The loss is blind to visible patches, what is restored lies where it was hidden, and every parameter learns."""
    method, batch = make(3, 16, decoder_width=48, decoder_depth=1, decoder_heads=4), batch_of([1, 2])
    grid = tuple(extent // 8 for extent in extents)
    keep, hidden = method.mask(batch, grid)
    assert keep.shape[1] + hidden.shape[1] == grid[0] * grid[1] * grid[2]
    pixels = torch.rand(2, 1, *extents)
    loss = method([view_of(pixels)], batch)["loss"]
    loss.backward()
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    _, masked, restored = method.eval().reconstruct([view_of(pixels)], batch)
    wanted = torch.zeros(2, keep.shape[1] + hidden.shape[1], 512).scatter(1, keep[..., None].expand(-1, -1, 512), 1.0)
    visible = unpatchify(wanted, 8, grid).bool()
    assert torch.equal(restored[visible], pixels[visible]) and (masked[~visible] == 0.5).all()
    spoilt = torch.where(visible, pixels, torch.rand_like(pixels))
    assert torch.equal(method.reconstruct([view_of(spoilt)], batch)[1], masked)


def test_padding_is_no_target() -> None:
    method, batch = make().train(), batch_of([0, 1])
    pixels, valid = torch.rand(2, 1, 32, 32), torch.ones(2, 1, 32, 32, dtype=torch.bool)
    valid[:, :, :13] = False
    keep, _ = method.mask(batch)
    losses = []
    for padding in (0.0, 0.9):
        # the encoder must see the same, so only hidden patches differ
        seen = torch.zeros(2, 16, 64, dtype=torch.bool).scatter(1, keep.unsqueeze(-1).expand(-1, -1, 64), True)
        spoil = ~valid & ~unpatchify(seen, 8, (4, 4))
        losses.append(method([view_of(pixels.masked_fill(spoil, padding), valid)], batch)["loss"])
    torch.testing.assert_close(losses[0], losses[1])
    nothing = method([view_of(pixels, torch.zeros_like(valid))], batch)["loss"]
    assert nothing.item() == 0


def test_impossible_settings_are_refused() -> None:
    said = r"wrong values: decoder_heads must divide decoder_width: 5, 64 \[setting mae\]"
    with pytest.raises(SettingsError, match=said):
        make(decoder_width=64, decoder_heads=5)
    with pytest.raises(SettingsError, match="a single patch of 8"):
        make(size=8)


def test_positions_stay_fixed() -> None:
    method = make()
    before = method.encoder.positions.clone()
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.5)
    method([view_of(torch.rand(2, 1, 32, 32))], batch_of([0, 1]))["loss"].backward()
    optimizer.step()
    assert torch.equal(method.encoder.positions, before)


def test_a_trained_mae_restores_hidden_texture() -> None:
    """Stripes that run across the whole image can be continued from the visible patches."""
    torch.manual_seed(0)
    method = make(decoder_width=64).train()
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(0)

    def stripes(count: int) -> View:
        phase = torch.rand(count, 1, 1, 1, generator=generator) * 6.28
        wave = torch.sin(torch.arange(32).reshape(1, 1, 1, 32) * 0.785 + phase)
        return view_of((0.5 + 0.4 * wave).expand(-1, -1, 32, -1).contiguous())

    for step in range(20):
        loss = method([stripes(16)], batch_of(list(range(16)), step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3, "guessing the mean costs 1"


@pytest.mark.parametrize(("name", "encoder"), [("mae", "vit_tiny_patch8"), ("simclr", "resnet18")])
def test_three_steps_are_compiled_once(name: str, encoder: str) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    facts = DataFacts(10, 1, 2, 32, (0.5,), (0.25,))
    method = create_method(name, create_encoder(encoder, 1, 2, 32, seed=0), facts=facts).train()
    compiled = torch.compile(method, backend=count, fullgraph=True)
    views = [view_of(torch.rand(4, 1, 32, 32)) for _ in range(2 if name == "simclr" else 1)]
    losses = [compiled(views, batch_of([0, 1, 2, 3], step))["loss"] for step in range(3)]
    assert len(graphs) == 1
    if name == "mae":
        assert len({loss.item() for loss in losses}) == 3, "and every step still draws masks of its own"
