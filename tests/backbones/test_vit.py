import math

import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.backbones.vit import VisionTransformer, sincos_positions
from medprior.objectives.reconstruction import patchify


def make(dims: int = 2, size: int = 32, name: str = "vit_tiny_patch8") -> VisionTransformer:
    encoder = create_encoder(name, 1, dims, size, seed=0)
    assert isinstance(encoder, VisionTransformer)
    return encoder.eval()


@pytest.mark.parametrize("dims", [2, 3])
def test_keeping_every_patch_is_the_whole_image(dims: int) -> None:
    encoder = make(dims, 16)
    x = torch.rand(2, 1, *[16] * dims)
    everything = torch.arange(2**dims).expand(2, -1)
    (tokens,) = encoder.body(encoder.stem(x), everything)
    torch.testing.assert_close(tokens, encoder(x)[0].flatten(2).transpose(1, 2))


def test_dropped_patches_change_nothing() -> None:
    encoder = make()
    keep = torch.tensor([[1, 5, 6, 12]])
    x = torch.rand(1, 1, 32, 32)
    changed = torch.rand(1, 1, 32, 32)
    for cell in keep[0].tolist():
        row, column = 8 * (cell // 4), 8 * (cell % 4)
        changed[..., row : row + 8, column : column + 8] = x[..., row : row + 8, column : column + 8]
    (a,), (b,) = (encoder.body(encoder.stem(image), keep) for image in (x, changed))
    assert a.shape == (1, 4, 192)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (2, 3), (3, 2)])
def test_patches_are_embedded_as_the_networks_convolution_does(dims: int, channels: int) -> None:
    encoder = create_encoder(
        "vit_tiny_patch8", channels, dims, 24, mean=(0.3, 0.5, 0.6)[:channels], std=(0.1, 0.2, 0.4)[:channels], seed=0
    )
    assert isinstance(encoder, VisionTransformer)
    x = torch.rand(2, channels, *[24] * dims)
    with torch.no_grad():
        whole = encoder.network.patch_embed.proj(encoder.standardise(x)).flatten(2).transpose(1, 2)
        torch.testing.assert_close(encoder.stem(x), whole + encoder.positions[:, 1:], rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize(
    ("dims", "name"), [(2, "vit_tiny_patch8"), (3, "vit_tiny_patch8"), (2, "vit_tiny_patch16_224")]
)
def test_embedding_some_patches_is_embedding_all_and_dropping(dims: int, name: str) -> None:
    encoder = make(dims, 32, name)
    x = torch.rand(2, 1, *[32] * dims)
    cells = (32 // encoder.patch) ** dims
    keep = torch.stack([torch.randperm(cells)[: cells // 4] for _ in range(2)])
    some = patchify(x, encoder.patch).gather(1, keep.unsqueeze(-1).expand(-1, -1, encoder.patch**dims))
    with torch.no_grad():
        dropped = encoder.stem(x).gather(1, keep.unsqueeze(-1).expand(-1, -1, encoder.embed_dim))
        torch.testing.assert_close(encoder.embed(some, keep), dropped, rtol=0, atol=1e-6)
        (patches,) = encoder.body(encoder.stem(x), keep)
        found = encoder.tokens(encoder.embed(some, keep))[:, encoder.prefix :]
        torch.testing.assert_close(found, patches, rtol=0, atol=1e-5)


def test_learnt_positions_of_the_patches_that_are_there_learn() -> None:
    encoder = make()
    encoder.embed(torch.rand(1, 2, 64), torch.tensor([[3, 9]])).square().sum().backward()
    assert encoder.positions.grad is not None
    assert encoder.positions.grad[0].any(dim=-1).nonzero().flatten().tolist() == [4, 10], "the first is the class token"


def test_the_order_of_kept_patches_is_only_an_order() -> None:
    encoder = make()
    z = encoder.stem(torch.rand(1, 1, 32, 32))
    forwards, backwards = (encoder.tokens(z, torch.tensor([order])) for order in ([2, 7, 9], [9, 7, 2]))
    torch.testing.assert_close(forwards[:, 1:], backwards[:, 1:].flip(1), rtol=1e-4, atol=1e-5)


def test_it_is_timms_own_network_in_2d() -> None:
    encoder = make(name="vit_small_patch14_reg4_dinov2", size=28)
    x = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        theirs = encoder.network.forward_features(encoder.standardise(x))
        torch.testing.assert_close(encoder.tokens(encoder.stem(x)), theirs)


@pytest.mark.parametrize(("grid", "width"), [((3, 4), 192), ((2, 3, 4), 192), ((2, 2, 2), 128)])
def test_positions_are_waves_along_each_axis(grid: tuple[int, ...], width: int) -> None:
    table = sincos_positions(grid, width)
    assert table.shape == (math.prod(grid), width)
    assert len(torch.unique(table, dim=0)) == len(table), "no two places look alike"
    share = width // (2 * len(grid))
    cell = tuple(n - 1 for n in grid)
    number = math.prod(grid) - 1
    for axis, place in enumerate(cell):
        for i in (0, 1, share - 1):
            angle = place / 10_000 ** (i / share)
            assert table[number, 2 * share * axis + i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[number, 2 * share * axis + share + i].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_positions_start_from_the_waves_and_the_prefix_has_none() -> None:
    encoder = make()
    torch.testing.assert_close(encoder.positions[0, 1:], sincos_positions((4, 4), 192))
    assert torch.all(encoder.positions[0, 0] == 0)
