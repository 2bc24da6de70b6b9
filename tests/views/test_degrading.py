"""Corruptions of test images: their formulas, that they are the same for every model, and that padding stays out."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from medprior.views.degrading import DEGRADATIONS, SUITE, degraded
from medprior.views.draws import Key
from medprior.views.jpeg import compressed

ROWS = torch.tensor([5, 2, 9])


def images(channels: int = 1, d: int = 2, side: int = 24) -> torch.Tensor:
    """Smooth pixels with a step, all of them away from black and white."""
    place = torch.linspace(0, 3, side)
    wave = sum(torch.sin(place + axis).view([-1 if axis == k else 1 for k in range(d)]) for axis in range(d))
    each = 0.5 + 0.1 * wave + 0.1 * (wave > 0.5)
    return torch.stack([each * (1 - 0.05 * c) for c in range(channels)]).expand(len(ROWS), -1, *[side] * d).contiguous()


def suite(pixels: torch.Tensor, valid: torch.Tensor | None = None, rows: torch.Tensor = ROWS):
    valid = torch.ones_like(pixels[:, :1], dtype=torch.bool) if valid is None else valid
    return dict(zip(SUITE, degraded(pixels, valid, Key(3, 0, rows, 0)), strict=True))


def levels(name: str) -> tuple[float, ...]:
    return next(each.levels for each in DEGRADATIONS if each.name == name)


@pytest.mark.parametrize(("channels", "d"), [(1, 2), (3, 2), (2, 2), (1, 3)])
def test_all_of_them_work_on_images_and_volumes_and_leave_what_they_are_given(channels: int, d: int) -> None:
    pixels = images(channels, d)
    before = pixels.clone()
    found = suite(pixels)
    assert len(found) == 15
    for corrupted in found.values():
        assert corrupted.shape == pixels.shape
        assert corrupted.dtype == torch.float32
        assert 0 <= corrupted.min() <= corrupted.max() <= 1
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", [each.name for each in DEGRADATIONS])
def test_a_higher_severity_is_further_from_the_image(name: str, d: int) -> None:
    pixels = images(1, d, 32)
    found = suite(pixels)
    off = [(found[name, severity] - pixels).square().mean() for severity in (1, 2, 3)]
    assert 0 < off[0] < off[1] < off[2]


def test_what_is_drawn_belongs_to_the_image_whatever_the_batch() -> None:
    pixels = images()
    whole, turned = suite(pixels), suite(pixels.flip(0), rows=ROWS.flip(0))
    alone = suite(pixels[1:2], rows=ROWS[1:2])
    for place in SUITE:
        torch.testing.assert_close(whole[place], turned[place].flip(0), atol=1e-6, rtol=0)
        torch.testing.assert_close(whole[place][1:2], alone[place], atol=1e-6, rtol=0)
    other = dict(zip(SUITE, degraded(pixels, torch.ones_like(pixels) > 0, Key(4, 0, ROWS, 0)), strict=True))
    assert not torch.equal(other["noise", 1], whole["noise", 1])
    assert not torch.equal(whole["noise", 1][0], whole["noise", 1][1])


def test_noise_has_its_deviation_and_is_one_field_at_all_severities() -> None:
    pixels = torch.full((3, 1, 96, 96), 0.5)
    found = suite(pixels)
    fields = [(found["noise", 1 + i] - pixels) / level for i, level in enumerate(levels("noise"))]
    assert float(fields[0].std()) == pytest.approx(1, abs=0.02)
    inside = fields[2].abs() < 3  # beyond, black and white cut it off
    torch.testing.assert_close(fields[0][inside], fields[2][inside], atol=1e-4, rtol=0)


@pytest.mark.parametrize("d", [2, 3])
def test_blur_is_the_gaussian_of_scipy_away_from_the_border(d: int) -> None:
    pixels = images(1, d, 32)
    middle = (0, 0, *[slice(10, 22)] * d)
    for severity, level in enumerate(levels("blur"), start=1):
        exact = gaussian_filter(pixels[0, 0].double().numpy(), level * 32, truncate=6)
        np.testing.assert_allclose(suite(pixels)["blur", severity][middle], exact[middle[2:]], atol=2e-6)


def test_contrast_keeps_the_mean_and_a_share_of_the_deviation() -> None:
    pixels = images()
    for severity, level in enumerate(levels("contrast"), start=1):
        found = suite(pixels)["contrast", severity]
        expected = pixels.mean() + level * (pixels - pixels.mean())
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_resolution_averages_blocks_and_interpolates_between_their_centres() -> None:
    pixels = torch.rand(3, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    found = suite(pixels)["resolution", 1].double()
    blocks = pixels.double().view(3, 1, 12, 2, 12, 2).mean((3, 5))
    between = 0.75 * blocks[..., 1:-2, :] + 0.25 * blocks[..., 2:-1, :]
    between = 0.75 * between[..., 1:-2] + 0.25 * between[..., 2:-1]
    np.testing.assert_allclose(found[..., 3:-4:2, 3:-4:2], between, atol=1e-6)


def test_jpeg_is_what_a_file_gives_back_slice_by_slice_and_channel_by_channel() -> None:
    colour, two, volume = images(3), images(2), images(1, 3)

    def through(array: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(np.rint(array * 255).astype(np.uint8)).save(file, "JPEG", quality=25)
        return np.asarray(Image.open(io.BytesIO(file.getvalue()))) / 255

    np.testing.assert_allclose(
        compressed(colour, 25)[0].movedim(0, -1), through(colour[0].movedim(0, -1).numpy()), atol=1e-6
    )
    np.testing.assert_allclose(compressed(two, 25)[0, 1], through(two[0, 1].numpy()), atol=1e-6)
    np.testing.assert_allclose(compressed(volume, 25)[0, 0, 7], through(volume[0, 0, 7].numpy()), atol=1e-6)


def test_padding_stays_black_and_lends_nothing() -> None:
    pixels = torch.full((3, 1, 24, 24), 0.8)
    valid = torch.zeros_like(pixels, dtype=torch.bool)
    valid[..., 6:18, :] = True
    for (name, severity), found in suite(pixels * valid, valid).items():
        assert not found[~valid].any()
        if name in ("blur", "contrast", "resolution"):
            torch.testing.assert_close(found[valid], pixels[valid], atol=1e-5, rtol=0, msg=f"{name} {severity}")
