import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medprior.objectives.reconstruction import masked_patch_loss, patch_loss, patchify, standardise_patches, unpatchify


@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_patches_go_back_where_they_came_from(batch: int, channels: int, grid: list[int], patch: int) -> None:
    images = torch.rand(batch, channels, *[cells * patch for cells in grid])
    patches = patchify(images, patch)
    assert patches.shape == (batch, torch.tensor(grid).prod(), channels * patch ** len(grid))
    assert torch.equal(unpatchify(patches, patch, tuple(grid)), images)


def test_patches_stand_in_raster_order() -> None:
    image = torch.arange(4 * 6).reshape(1, 1, 4, 6)
    assert patchify(image, 2)[0, 1].tolist() == [2, 3, 8, 9]
    assert patchify(image, 2)[0, 3].tolist() == [12, 13, 18, 19]
    volume = torch.arange(4 * 4 * 4).reshape(1, 1, 4, 4, 4)
    assert patchify(volume, 2)[0, 1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]


def test_one_side_is_that_side_along_every_axis() -> None:
    images = torch.rand(2, 3, 8, 12, 4)
    patches = patchify(images, 4)
    assert torch.equal(patchify(images, (4, 4, 4)), patches)
    assert torch.equal(unpatchify(patches, (4, 4, 4), (2, 3, 1)), unpatchify(patches, 4, (2, 3, 1)))


@pytest.mark.parametrize(("sides", "extents"), [((2, 4, 3), (6, 8, 9)), ((1, 5), (3, 10))])
def test_flat_patches_are_windows_in_raster_order(sides: tuple[int, ...], extents: tuple[int, ...]) -> None:
    images, dims = torch.rand(2, 2, *extents), len(extents)
    patches = patchify(images, sides)
    grid = [extent // side for extent, side in zip(extents, sides, strict=True)]
    cells = list(torch.cartesian_prod(*map(torch.arange, grid)))
    assert patches.shape[1] == len(cells)
    for patch, cell in zip(patches.unbind(1), cells, strict=True):
        window = images[
            (..., *[slice(int(n) * side, (int(n) + 1) * side) for n, side in zip(cell, sides, strict=True)])
        ]
        assert torch.equal(patch, window.movedim(1, 1 + dims).flatten(1)), "channels run fastest"
    assert torch.equal(unpatchify(patches, sides, grid), images)


def test_patches_lie_in_the_order_of_a_vision_transformers_tokens() -> None:
    """A strided convolution is a linear map of these patches, in the same order."""
    for dims, convolution in ((2, torch.nn.functional.conv2d), (3, torch.nn.functional.conv3d)):
        images = torch.rand(2, 3, *[6] * dims, dtype=torch.float64)
        weight = torch.rand(5, 3, *[3] * dims, dtype=torch.float64)
        tokens = convolution(images, weight, stride=3).flatten(2).transpose(1, 2)
        torch.testing.assert_close(patchify(images, 3) @ patchify(weight, 3)[:, 0].T, tokens)


def test_standardised_patches_are_the_papers_where_nothing_is_padded() -> None:
    patches = torch.rand(2, 3, 16, dtype=torch.float64)
    found = standardise_patches(patches, torch.ones_like(patches, dtype=torch.bool), floor=1e-3)
    mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    torch.testing.assert_close(found.values, (patches - mean) / (variance + 1e-6).sqrt())
    torch.testing.assert_close(found.values * found.deviation + found.mean, patches)


def test_padding_changes_no_statistic() -> None:
    patches = torch.rand(1, 1, 12, dtype=torch.float64)
    valid = torch.arange(12).reshape(1, 1, 12) < 7
    found = standardise_patches(patches, valid, floor=0.02)
    alone = standardise_patches(patches[..., :7], valid[..., :7], floor=0.02)
    torch.testing.assert_close(found.values[..., :7], alone.values)
    spoilt = torch.where(valid, patches, 100.0)
    torch.testing.assert_close(standardise_patches(spoilt, valid, floor=0.02).values[..., :7], alone.values)


def test_noise_in_air_is_not_blown_up() -> None:
    noise = 0.5 + 0.002 * torch.randn(4, 4, 64, dtype=torch.float64)
    everything = torch.ones_like(noise, dtype=torch.bool)
    assert float(standardise_patches(noise, everything, floor=0.02).values.std()) < 0.12
    flat = standardise_patches(torch.full_like(noise, 0.3), everything, floor=0.02)
    assert float(flat.values.abs().max()) < 1e-9


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_loss_is_the_mean_over_hidden_valid_pixels(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64)
    masked = torch.rand(3, 5, generator=generator) < 0.6
    valid = torch.rand(3, 5, 4, generator=generator) < share
    errors = [
        float(prediction[b, p, i] - target[b, p, i]) ** 2
        for b in range(3) for p in range(5) for i in range(4) if masked[b, p] and valid[b, p, i]
    ]  # fmt: skip
    expected = sum(errors) / len(errors) if errors else 0.0
    assert float(masked_patch_loss(prediction, target, masked, valid)) == pytest.approx(expected, abs=1e-12)


def test_visible_and_padded_pixels_get_no_gradient() -> None:
    prediction = torch.randn(2, 4, 6, requires_grad=True)
    masked = torch.tensor([[True, False, True, False]] * 2)
    valid = torch.rand(2, 4, 6) < 0.5
    masked_patch_loss(prediction, torch.zeros(2, 4, 6), masked, valid).backward()
    counted = masked.unsqueeze(-1) & valid
    assert prediction.grad is not None
    assert torch.all(prediction.grad[~counted] == 0)
    assert torch.all(prediction.grad[counted] != 0)


def test_nothing_valid_costs_nothing() -> None:
    prediction = torch.randn(1, 2, 3, requires_grad=True)
    loss = patch_loss(prediction, torch.zeros(1, 2, 3), torch.zeros(1, 2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and prediction.grad is not None and torch.all(prediction.grad == 0)
