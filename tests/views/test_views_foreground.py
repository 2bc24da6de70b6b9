"""Crops aimed at what is labelled: on a voxel of a class, all classes alike, whatever the order of the batch."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medprior.data.catalog import build_catalog
from medprior.data.volumestore.foreground import Foreground, find_foreground
from medprior.data.volumestore.volumes import VolumeStore
from medprior.views.draws import Key
from medprior.views.foreground import aim, draw_aims
from medprior.views.geometry import corner_of, draw_affine, lies_on_pixels
from medprior.views.recipe import ViewRecipe

SHAPE = (18, 24, 30)
MASKS = {"many": (1, 2, 3), "rare": (1, 3), "empty": ()}


def mask_of(labels: tuple[int, ...]) -> np.ndarray:
    """Class 1 is large, the others are a few voxels."""
    mask = np.zeros(SHAPE, np.uint8)
    for label in labels:
        mask[4 * label : 4 * label + (5 if label == 1 else 1), 2 : 20 if label == 1 else 4, 5 * label] = label
    return mask


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> VolumeStore:
    """Rows: empty, many, rare (as files are sorted), and one without a mask."""
    folder = tmp_path_factory.mktemp("scans")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for i, name in enumerate([*MASKS, "without"]):
        values = np.random.default_rng(i).normal(size=SHAPE).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values.T, affine), folder / "imagesTr" / f"{name}.nii")
        if name in MASKS:
            nibabel.save(nibabel.Nifti1Image(mask_of(MASKS[name]).T, affine), folder / "labelsTr" / f"{name}.nii")
    catalog = build_catalog(folder, workers=1)
    assert [Path(path).stem for path in catalog.table["path"]] == ["empty", "many", "rare", "without"]
    return VolumeStore.build(catalog, tmp_path_factory.mktemp("store"), masks=True, workers=1)


@pytest.fixture(scope="module")
def foreground(store: VolumeStore) -> Foreground:
    return find_foreground(store, range(4))


def key_of(rows: list[int], step: int = 0, view: int = 0) -> Key:
    return Key(7, step, torch.tensor(rows), view)


def lengths_of(count: int) -> np.ndarray:
    return np.tile(np.array(SHAPE, np.int64), (count, 1))


def test_the_index_holds_every_voxel_of_small_classes_and_a_bounded_share_of_large_ones(store: VolumeStore) -> None:
    found = find_foreground(store, [2, 1], most=50)
    assert found.counts.tolist() == [[0, 0, 0], [50, 2, 2], [50, 0, 2], [0, 0, 0]]
    for row, name in ((1, "many"), (2, "rare")):
        for label in MASKS[name]:
            start, count = found.starts[row, label - 1], found.counts[row, label - 1]
            voxels = found.voxels[start : start + count]
            assert (mask_of(MASKS[name]).reshape(-1)[voxels] == label).all()
            assert len(np.unique(voxels)) == count
    spread = found.voxels[found.starts[1, 0] :][:50]
    whole = np.flatnonzero(mask_of((1,)))
    assert abs(np.searchsorted(whole, spread).mean() / len(whole) - 0.5) < 0.15


def test_rows_that_were_not_asked_for_have_no_voxels(store: VolumeStore) -> None:
    assert find_foreground(store, [1]).counts[2].tolist() == [0, 0, 0]
    assert len(find_foreground(store, []).voxels) == 0


def test_an_aim_is_a_voxel_of_its_class(foreground: Foreground) -> None:
    rows = [0, 1, 2, 3] * 100
    aims = draw_aims(foreground, lengths_of(400), key_of(rows), 1.0)
    for row, label, voxel in zip(rows, aims.labels.tolist(), aims.voxels.tolist(), strict=True):
        if row in (0, 3):
            assert label == 0
        else:
            assert label > 0
            assert mask_of(MASKS["many" if row == 1 else "rare"])[tuple(voxel)] == label


def test_aims_are_as_frequent_as_asked_and_classes_and_voxels_alike(foreground: Foreground) -> None:
    """Of 12,000 volumes like these four; each share within four standard errors."""
    many = Foreground(foreground.voxels, *(np.tile(each, (3000, 1)) for each in (foreground.starts, foreground.counts)))
    for probability in (0.0, 1 / 3, 0.5, 1.0):
        aims = draw_aims(many, lengths_of(12_000), key_of(list(range(12_000))), probability)
        for row, classes in ((1, (1, 2, 3)), (2, (1, 3))):
            for label in classes:
                assert_share(aims.labels[row::4].numpy() == label, probability / len(classes))
    for label, count in ((2, 2), (1, 90)):
        voxels = aims.voxels[1::4][aims.labels[1::4] == label].numpy()
        assert_share((voxels == voxels[0]).all(1)[1:], 1 / count)


def assert_share(found: np.ndarray, share: float) -> None:
    assert abs(found.mean() - share) <= 4 * np.sqrt(share * (1 - share) / len(found))


@given(st.permutations(range(12)), st.integers(0, 1000), st.integers(0, 3))
@settings(max_examples=25)
def test_aims_belong_to_the_scan_whatever_the_order(foreground: Foreground, order: list[int], step: int, view: int):
    rows = [i % 4 for i in range(12)]
    whole = draw_aims(foreground, lengths_of(12), key_of(rows, step, view), 0.5)
    mixed = draw_aims(foreground, lengths_of(12), key_of([rows[i] for i in order], step, view), 0.5)
    alone = [draw_aims(foreground, lengths_of(1), key_of([row], step, view), 0.5) for row in rows]
    assert torch.equal(mixed.labels, whole.labels[order])
    assert torch.equal(mixed.voxels, whole.voxels[order])
    assert torch.equal(torch.cat([one.voxels for one in alone]), whole.voxels)


def test_steps_and_views_draw_anew(foreground: Foreground) -> None:
    aims = [draw_aims(foreground, lengths_of(1), key_of([1], step, view), 1.0) for step in range(20) for view in (0, 1)]
    assert len({tuple(one.voxels[0].tolist()) for one in aims}) > 12


RECIPES = st.builds(
    lambda shape, **settings: ViewRecipe(40, 3, **settings).shaped(shape),
    shape=st.one_of(st.integers(1, 40).map(lambda side: (side,) * 3), st.tuples(*[st.integers(1, 40)] * 3)),
    pitch=st.sampled_from([(1.0, 1.0), (0.5, 2.0)]),
    flips=st.sampled_from([(), (0, 1, 2)]),
    rotation=st.sampled_from([0.0, 30.0]),
)


@given(RECIPES, st.integers(0, 10**6))
@settings(max_examples=60)
def test_a_view_is_centred_on_its_aim_as_far_as_the_volume_goes(foreground: Foreground, recipe: ViewRecipe, step: int):
    rows = [1, 2, 3, 1]
    key, lengths = key_of(rows, step), torch.tensor(lengths_of(4)).float()
    drawn = draw_affine(recipe, torch.tensor([-1.0, 1.0]).expand(4, 3, 2), lengths, key)
    aims = draw_aims(foreground, lengths_of(4), key, 1.0)
    moved = aim(drawn, lengths, aims, on_pixels=lies_on_pixels(recipe))
    assert torch.equal(moved[..., :3], drawn[..., :3])
    assert torch.equal(moved[2], drawn[2])
    half = drawn[..., :3].abs().sum(-1) * lengths / 2
    centre, before = ((each[..., 3] + 1) * lengths / 2 for each in (moved, drawn))
    for sample, axis in ((sample, axis) for sample in (0, 1, 3) for axis in range(3)):
        side, length = float(2 * half[sample, axis]), SHAPE[axis]
        found, voxel = float(centre[sample, axis]), int(aims.voxels[sample, axis]) + 0.5
        if side >= length:
            assert found == pytest.approx(float(before[sample, axis]), abs=1e-4)
            continue
        assert side / 2 - 1e-3 <= found <= length - side / 2 + 1e-3
        nearest = min(max(voxel, side / 2), length - side / 2)
        assert abs(found - nearest) <= (0.5 if lies_on_pixels(recipe) else 0) + 1e-3
        assert abs(found - voxel) <= side / 2 + 1e-3


@pytest.mark.parametrize("shape", [(7, 7, 7), (8, 8, 8), (5, 16, 9)])
def test_windows_of_aimed_views_lie_on_stored_voxels_and_hold_the_aim(
    store: VolumeStore, foreground: Foreground, shape: tuple[int, ...]
) -> None:
    recipe = ViewRecipe(16, 3, pitch=(1.0, 1.0)).shaped(shape)
    rows = [1, 2] * 20
    key, lengths = key_of(rows), torch.tensor(lengths_of(40)).float()
    drawn = draw_affine(recipe, torch.tensor([-1.0, 1.0]).expand(40, 3, 2), lengths, key)
    aims = draw_aims(foreground, lengths_of(40), key, 1.0)
    moved = aim(drawn, lengths, aims, on_pixels=True)
    corner = (moved[..., 3] + 1) * lengths / 2 - torch.tensor(shape) / 2
    torch.testing.assert_close(corner, corner.round(), rtol=0, atol=1e-4)
    for row, at, label, voxel in zip(
        rows, corner_of(moved, lengths, shape).int(), aims.labels, aims.voxels, strict=True
    ):
        crop = store.mask_crop(row, at.tolist(), shape)
        assert crop[tuple((voxel - at).tolist())] == int(label)


@pytest.mark.parametrize("size", [9, 12])
def test_crops_of_images_are_aimed_as_those_of_volumes(tmp_path: Path, size: int) -> None:
    """Images of different shapes, each with two small classes; every aim lies in its window, on its class."""
    shapes, rng = [(60, 25), (18, 70)], np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for i, (height, width) in enumerate(shapes):
        mask = np.zeros((height, width), np.uint8)
        mask[2:5, 3:9], mask[height - 4 :, width - 3 :] = 1, 2
        Image.fromarray(rng.integers(0, 255, mask.shape).astype(np.uint8)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(mask).save(tmp_path / f"masks/{i}.png")
    store = VolumeStore.build(build_catalog(tmp_path, workers=1), tmp_path / "store", masks=True, workers=1)
    rows = [0, 1] * 20
    lengths = np.array([shapes[row] for row in rows])
    key, long = key_of(rows), torch.from_numpy(lengths).float()
    aims = draw_aims(find_foreground(store, [0, 1]), lengths, key, 1.0)
    assert set(aims.labels.tolist()) == {1, 2}
    drawn = draw_affine(ViewRecipe(size, 2, pitch=(1.0, 1.0)), torch.tensor([-1.0, 1.0]).expand(40, 2, 2), long, key)
    corners = corner_of(aim(drawn, long, aims, on_pixels=True), long, (size, size))
    for row, corner, label, voxel in zip(rows, corners.int(), aims.labels, aims.voxels, strict=True):
        crop = store.mask_crop(row, corner.tolist(), (size, size))
        assert crop[tuple((voxel - corner).tolist())] == int(label)
        assert (corner >= 0).all() and (corner + size <= torch.tensor(shapes[row])).all()
