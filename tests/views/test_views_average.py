"""The area average against cumulative sums in float64, and at the edges of the content."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medprior.views.average import average
from medprior.views.window import Place, whole

CPU = torch.device("cpu")


def integral_average(line: np.ndarray, centre: np.ndarray, width: float, low: float, high: float) -> np.ndarray:
    """Means of a (N,) step function over intervals around `centre`, cut to [low, high], by its integral."""
    whole = np.concatenate([[0.0], np.cumsum(line)])
    start, end = np.maximum(centre - width / 2, low), np.minimum(centre + width / 2, high)
    integral = [np.interp(x, np.arange(len(whole)), whole) for x in (start, end)]
    inside = (centre > low) & (centre < high)
    return np.where(inside, (integral[1] - integral[0]) / np.where(inside, end - start, 1), 0)


def reference(image: np.ndarray, content: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """(C, *S) view of a (C, *stored) image, axis after axis in float64."""
    stored = image.shape[-1]
    for axis in range(image.ndim - 1):
        scale, shift = affine[axis, axis], affine[axis, -1]
        centre = ((2 * np.arange(size) + 1) / size - 1) * scale * stored / 2 + (shift + 1) * stored / 2
        width = max(abs(scale) * stored / size, 1.0)
        low, high = (content[axis] + 1) * stored / 2
        image = np.apply_along_axis(integral_average, axis + 1, image, centre, width, low, high)
    return image


@pytest.mark.parametrize("one_by_one", [False, True])
@settings(max_examples=30, deadline=None)
@given(
    d=st.sampled_from([2, 3]),
    size=st.integers(1, 20),
    scales=st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3),
    shifts=st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3),
    mirrored=st.booleans(),
)
def test_average_equals_the_integral_in_float64(one_by_one, d, size, scales, shifts, mirrored):
    rng = np.random.default_rng(size)
    image = rng.random((1, 2, *[16] * d))
    content = np.sort(rng.uniform(-1, 1, (1, d, 2)), axis=-1) + np.array([-0.3, 0.3])
    content = content.clip(-1, 1)
    signs = [-1 if mirrored else 1, 1, 1]
    affine = np.zeros((1, d, d + 1))
    for axis in range(d):
        affine[0, axis, axis], affine[0, axis, -1] = signs[axis] * scales[axis], shifts[axis]
    scan, *where = (torch.from_numpy(x) for x in (image, content, affine))
    widest = max(scales[:d]) * 16 / size if one_by_one else None
    pixels, _ = average(scan, whole(d, 16, CPU), *where, (size,) * d, widest)
    np.testing.assert_allclose(pixels[0], reference(image[0], content[0], affine[0], size), atol=1e-5)


@pytest.mark.parametrize("d", [2, 3])
def test_pixels_looked_up_one_by_one_make_the_same_views(d):
    """Also those of a window, which begins at a whole pixel, and of views that reach beyond the scan."""
    rng = torch.Generator().manual_seed(0)
    images, batch, size = torch.rand(6, 2, *[16] * d, generator=rng), 6, 9
    place = Place(torch.randint(-6, 12, (batch, d), generator=rng).float(), torch.full((batch, d), 20.0))
    content = torch.tensor([-0.9, 1.0]).expand(batch, d, 2)
    affine = torch.diag_embed(torch.rand(batch, d, generator=rng) * 0.8 + 0.05)
    affine = torch.cat([affine, torch.rand(batch, d, 1, generator=rng) - 0.5], dim=2)
    shape, widest = (size,) * d, 0.85 * 20 / size
    (expected, inside), (found, also) = (average(images, place, content, affine, shape, w) for w in (None, widest))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert torch.equal(inside, also) and 0 < expected.count_nonzero() < expected.numel()
    assert found.movedim(1, -1).is_contiguous() == expected.movedim(1, -1).is_contiguous()


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("d", [2, 3])
def test_whole_factors_are_block_means(d, factor, one_by_one):
    image = torch.rand(2, 3, *[16] * d)
    pool = torch.nn.functional.avg_pool2d if d == 2 else torch.nn.functional.avg_pool3d
    affine = torch.eye(d, d + 1).expand(2, d, d + 1)
    content, widest = torch.tensor([-1.0, 1.0]).expand(2, d, 2), float(factor) if one_by_one else None
    pixels, valid = average(image, whole(d, 16, CPU), content, affine, (16 // factor,) * d, widest)
    torch.testing.assert_close(pixels, pool(image, factor), atol=1e-6, rtol=0)
    assert valid.all()


@pytest.mark.parametrize("one_by_one", [False, True])
def test_padding_is_never_mixed_in(one_by_one):
    """Content of ones in padding of a thousand: a view across the edge sees ones, and nothing beyond."""
    image = torch.full((1, 1, 32, 32), 1000.0)
    image[..., 7:25] = 1
    content = torch.tensor([[[-1.0, 1.0], [7 / 16 - 1, 25 / 16 - 1]]])
    for size in (5, 11, 32, 50):
        pixels, valid = average(
            image, whole(2, 32, CPU), content, torch.eye(2, 3)[None], (size, size), 32 / size if one_by_one else None
        )
        torch.testing.assert_close(pixels, valid.float(), atol=1e-5, rtol=0)
        centres = (np.arange(size) + 0.5) / size * 32
        assert valid[0, 0, 0].tolist() == [7 < c < 25 for c in centres]
