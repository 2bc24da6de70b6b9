"""Affines: crops inside their box, allowed flips alone, rigid turns; and landmarks land where they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medprior.views.draws import Key
from medprior.views.engine import render_one
from medprior.views.geometry import draw_affine, frame_of
from medprior.views.recipe import ViewRecipe

ROWS = torch.arange(4000)


def drawn(recipe: ViewRecipe, box: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Linear parts (N, d, d) and centres (N, d) of many draws in one content box."""
    lengths = torch.full((1, len(box)), 48.0)
    affine = draw_affine(recipe, torch.tensor(box).expand(len(ROWS), -1, 2), lengths, Key(0, 0, ROWS, 0))
    return affine[..., :-1], affine[..., -1]


@pytest.mark.parametrize("box", [[[-1.0, 1.0], [-0.5, 0.75]], [[-1.0, 1.0], [-0.5, 0.5], [-0.1, 0.2]]])
def test_crops_stay_inside_the_content_and_reach_its_edges(box):
    recipe = ViewRecipe(16, len(box), "content", scale=(0.1, 1.0), aspect=(3 / 4, 4 / 3))
    linear, centre = drawn(recipe, box)
    half = linear.diagonal(dim1=1, dim2=2)
    low, high = torch.tensor(box).unbind(-1)
    assert (centre - half >= low - 1e-6).all() and (centre + half <= high + 1e-6).all()
    reach = high - low
    assert ((centre - half).amin(0) < low + 0.02 * reach).all() and (
        (centre + half).amax(0) > high - 0.02 * reach
    ).all()


def test_share_and_aspect_are_those_drawn_where_the_box_allows():
    recipe = ViewRecipe(16, 2, "content", scale=(0.1, 0.5), aspect=(3 / 4, 4 / 3))
    linear, _ = drawn(recipe, [[-1.0, 1.0], [-0.9, 0.9]])
    height, width = linear.diagonal(dim1=1, dim2=2).unbind(1)
    share, aspect = height * width / 0.9, (width / height).log()
    assert 0.1 <= share.min() < 0.11 and 0.49 < share.max() <= 0.5001
    assert abs(share.mean() - 0.3) < 0.01
    assert abs(aspect.mean()) < 0.01 and abs(aspect.abs().max() - np.log(4 / 3)) < 0.01


@pytest.mark.parametrize(("d", "flips"), [(2, ()), (2, (1,)), (3, (0, 2))])
def test_only_allowed_axes_flip_and_half_of_the_time(d, flips):
    linear, _ = drawn(ViewRecipe(16, d, flips=flips), [[-1.0, 1.0]] * d)
    mirrored = (linear.diagonal(dim1=1, dim2=2) < 0).float().mean(0)
    for axis in range(d):
        assert mirrored[axis] == 0 if axis not in flips else abs(mirrored[axis] - 0.5) < 0.04


@pytest.mark.parametrize("d", [2, 3])
def test_rotation_is_rigid_and_as_large_as_allowed(d):
    linear, centre = drawn(ViewRecipe(16, d, rotation=20.0), [[-1.0, 1.0]] * d)
    torch.testing.assert_close(linear @ linear.transpose(1, 2), torch.eye(d).expand_as(linear), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(linear), torch.ones(len(ROWS)))
    assert (centre == 0).all()
    if d == 2:
        angle = torch.rad2deg(torch.atan2(linear[:, 1, 0], linear[:, 0, 0]))
        assert -20 <= angle.min() < -19.8 and 19.8 < angle.max() <= 20


def test_the_frame_is_the_square_around_the_content_inside_the_image():
    content = torch.tensor([[[-1.0, 1.0], [-0.5, 0.75]], [[0.5, 0.9], [0.0, 1.0]]])
    assert torch.allclose(frame_of(content)[0], torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]))
    assert torch.allclose(frame_of(content)[1], torch.tensor([[0.0, 1.0], [0.0, 1.0]]))


def blob(side: int, d: int, place: np.ndarray, width: float = 1.5) -> np.ndarray:
    """(*S) a Gaussian spot of `width` pixels at `place` (pixels, centre of the first pixel at 0.5)."""
    grid = np.stack(np.meshgrid(*[np.arange(side) + 0.5] * d, indexing="ij"), -1)
    return 255 * np.exp(-((grid - place) ** 2).sum(-1) / (2 * width**2))


@pytest.mark.parametrize("size", [48, 20])
@pytest.mark.parametrize("within", ["content", "frame"])
@pytest.mark.parametrize("rotation", [0.0, 25.0])
@pytest.mark.parametrize("d", [2, 3])
def test_a_landmark_lands_where_the_affine_says(d, rotation, within, size, store):
    """To half a view pixel, with flips, rotation, uneven crops and letterboxed content."""
    side, count = 48, 24 if d == 2 else 10
    rng = np.random.default_rng(0)
    content = np.tile([[0, side], [9, side - 8], [3, side - 2]][:d], (count, 1, 1))
    places = rng.uniform(content[..., 0] + 6, content[..., 1] - 6)
    scans = store(np.stack([blob(side, d, place)[None] for place in places]), content=content)
    recipe = ViewRecipe(size, d, within, scale=(0.5, 1.0), aspect=(0.8, 1.25), flips=(0, d - 1), rotation=rotation)
    view = render_one(scans, recipe, seed=1)
    expected = landed(view.affine.double().numpy(), places / side * 2 - 1, size)
    seen = (np.abs(expected - size / 2) < size / 2 - 3).all(1)
    assert seen.sum() >= count // 4
    np.testing.assert_allclose(centroids(view.pixels[:, 0].double().numpy())[seen], expected[seen], atol=0.5)


def landed(affine: np.ndarray, points: np.ndarray, size: int) -> np.ndarray:
    """(B, d) view pixels of normalised stored points (B, d)."""
    inner = np.linalg.solve(affine[..., :-1], (points - affine[..., -1])[..., None])[..., 0]
    return (inner + 1) / 2 * size


def centroids(images: np.ndarray) -> np.ndarray:
    """(B, d) centres of mass of (B, *S) images in pixels, the faint tails left out."""
    images = np.where(images > 0.1 * images.max(axis=tuple(range(1, images.ndim)), keepdims=True), images, 0)
    grid = np.stack(np.meshgrid(*[np.arange(n) + 0.5 for n in images.shape[1:]], indexing="ij"), -1)
    mass = images.reshape(len(images), -1)
    return mass @ grid.reshape(-1, grid.shape[-1]) / np.maximum(mass.sum(1, keepdims=True), 1e-9)


def test_shared_geometry_does_not_depend_on_the_size():
    box = torch.tensor([[[-1.0, 1.0], [-0.5, 0.75]]])
    recipe = ViewRecipe(16, 2, "content", scale=(0.1, 1.0), rotation=5.0)
    key = Key(0, 0, torch.tensor([3]), 0)
    lengths = torch.full((1, 2), 48.0)
    assert torch.equal(draw_affine(recipe, box, lengths, key), draw_affine(replace(recipe, size=64), box, lengths, key))
