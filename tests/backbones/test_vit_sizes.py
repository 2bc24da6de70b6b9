import pytest
import torch
from torch.nn import functional as F

from medprior.backbones.factory import create_encoder
from medprior.backbones.vit import VisionTransformer, resized_positions
from medprior.errors import SettingsError


def make(dims: int = 2, size: int = 64) -> VisionTransformer:
    encoder = create_encoder("vit_tiny_patch8", 1, dims, size, seed=0)
    assert isinstance(encoder, VisionTransformer)
    return encoder.eval()


def test_positions_of_the_own_size_are_the_table_itself() -> None:
    table = torch.randn(16, 8)
    assert resized_positions(table, (4, 4), (4, 4)) is table


@pytest.mark.parametrize("wanted", [(3, 3), (6, 6), (2, 7)])
def test_positions_of_images_are_interpolated_as_in_dino(wanted: tuple[int, int]) -> None:
    table = torch.randn(20, 8)
    image = table.reshape(1, 4, 5, 8).permute(0, 3, 1, 2)
    theirs = F.interpolate(image, size=wanted, mode="bicubic").permute(0, 2, 3, 1).reshape(-1, 8)
    torch.testing.assert_close(resized_positions(table, (4, 5), wanted), theirs, rtol=0, atol=2e-6)


def test_in_volumes_every_axis_is_interpolated_by_itself() -> None:
    along = [torch.randn(n, 1, dtype=torch.float64) for n in (4, 3, 5)]
    small = [resized_positions(line, (len(line),), (2,)) for line in along]
    table, wanted = (torch.einsum("ax,by,cz->abc", *lines).reshape(-1, 1) for lines in (along, small))
    torch.testing.assert_close(resized_positions(table, (4, 3, 5), (2, 2, 2)), wanted)


@pytest.mark.parametrize(("dims", "size", "other"), [(2, 64, 32), (2, 32, 48), (3, 32, 16)])
def test_images_of_another_size_are_encoded(dims: int, size: int, other: int) -> None:
    encoder = make(dims, size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = encoder(torch.rand(2, 1, *[other] * dims))
    assert found.shape == (2, 192, *[other // 8] * dims)
    found.float().square().sum().backward()
    assert encoder.positions.grad is not None and encoder.positions.grad.abs().amax(-1).all()


def test_a_crop_keeps_its_place_in_the_frame() -> None:
    """A smaller view has corners where a larger one has them, and a middle where that has its middle."""
    encoder = make(size=64)
    small = resized_positions(encoder.positions[0, 1:], (8, 8), (3, 3)).detach()
    nearest = torch.cdist(small, encoder.positions[0, 1:].detach()).argmin(1)
    rows = (nearest // 8).reshape(3, 3)
    assert (rows[0] < 3).all() and (rows[1] >= 3).all() and (rows[1] <= 4).all() and (rows[2] > 4).all()


@pytest.mark.parametrize("extents", [(16, 32), (32, 128), (48, 24, 16)])
def test_images_need_not_be_square(extents: tuple[int, ...]) -> None:
    """(32, 128) has as many patches as the encoder's own 64 x 64, and is none."""
    dims, grid = len(extents), tuple(extent // 8 for extent in extents)
    encoder = make(dims, 64 if dims == 2 else 32)
    x = torch.rand(1, 1, *extents)
    with torch.no_grad():
        (found,) = encoder(x)
        rows = encoder.network.patch_embed.proj(encoder.standardise(x)).flatten(2).transpose(1, 2)
        places = resized_positions(encoder.positions[0, 1:], encoder.tokens_grid, grid)
        tokens = encoder.tokens(rows + places)[:, 1:]
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), tokens, rtol=1e-4, atol=1e-4)
    assert found.shape[2:] == grid


def test_shapes_that_patches_do_not_divide_are_refused_with_some_that_they_do() -> None:
    with pytest.raises(SettingsError, match=r"patches of 8, which do not divide 20 \[data.size\]\nUse 16 or 24"):
        make()(torch.rand(1, 1, 64, 20))


def test_tokens_alone_do_not_tell_the_shape_of_an_image() -> None:
    encoder = make()
    with pytest.raises(SettingsError, match=r"8 patches is not square(.|\n)*Say its grid"):
        encoder.body(encoder.stem(torch.rand(1, 1, 16, 32)))
