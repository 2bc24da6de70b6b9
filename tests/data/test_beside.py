"""Masks of many sets in one catalog: a class has the same number in all of them."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from medprior.data.catalog import build_catalog
from medprior.data.catalogfile import load_catalog, save_catalog


def pair(folder, name, mask, **options):
    noise = np.random.default_rng(len(name)).integers(0, 255, mask.shape, np.uint8)
    folder.mkdir(exist_ok=True)
    Image.fromarray(noise).save(folder / f"{name}.png")
    Image.fromarray(mask).save(folder / f"{name}_mask{options.pop('ending', '.png')}", **options)


@pytest.fixture
def disc():
    y, x = np.mgrid[:48, :48]
    return ((y - 24) ** 2 + (x - 24) ** 2 < 150).astype(np.uint8)


def test_black_and_white_masks_are_two_classes_however_written(tmp_path, disc):
    pair(tmp_path / "a", "one", disc)
    pair(tmp_path / "b", "white", disc * 255)
    catalog = build_catalog(tmp_path)
    for row in range(2):
        np.testing.assert_array_equal(catalog.read_mask(row), disc)


def test_a_smoothed_mask_stands_beside_masks_with_other_classes(tmp_path, disc):
    parts = disc.copy()
    parts[:, 24:] *= 2
    pair(tmp_path / "a", "parts", parts)
    pair(tmp_path / "b", "lossy", disc * 255, ending=".jpg", quality=90)
    pair(tmp_path / "c", "white", disc * 255)
    catalog = build_catalog(tmp_path)
    assert catalog.mask_classes == (0, 1, 2, 255)
    np.testing.assert_array_equal(catalog.read_mask(0), parts)
    assert (catalog.read_mask(1) == 3 * disc).mean() > 0.99 and set(catalog.read_mask(1).ravel()) == {0, 3}
    np.testing.assert_array_equal(catalog.read_mask(2), 3 * disc)


def test_a_kept_catalog_knows_its_masks(tmp_path, disc):
    pair(tmp_path / "a", "one", disc)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a/none.png")
    save_catalog(build_catalog(tmp_path / "a"), tmp_path / "c.parquet")
    kept = load_catalog(tmp_path / "c.parquet")
    assert kept.table["mask"][0] is None and kept.table["report"][0] is None
    np.testing.assert_array_equal(kept.read_mask(1), disc)


def doubts(catalog):
    problems = catalog.problems
    return list(problems[problems["kind"] == "doubt"][["path", "reason"]].itertuples(index=False, name=None))


def test_a_mask_that_marks_nothing_is_no_constant_image(tmp_path, disc):
    pair(tmp_path, "one", disc * 0)
    pair(tmp_path, "other", disc)
    assert doubts(build_catalog(tmp_path)) == [("one_mask.png", "the mask marks nothing")]


def test_constant_images_and_volumes_are_said(tmp_path):
    Image.fromarray(np.full((9, 8), 7, np.uint8)).save(tmp_path / "flat.png")
    Image.fromarray(np.arange(72, dtype=np.uint8).reshape(9, 8)).save(tmp_path / "good.png")
    np.save(tmp_path / "stack.npy", np.full((3, 9, 8), 0.5, np.float32))
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "volume.nii.gz")
    said = [
        path for path, reason in doubts(build_catalog(tmp_path)) if reason.startswith("all its pixels have the same")
    ]
    assert said == ["flat.png", "stack.npy", "volume.nii.gz"]


def test_white_written_in_two_ways_is_said_once(tmp_path, disc):
    pair(tmp_path / "a", "one", disc)
    for name in ("white", "bright"):
        pair(tmp_path / "b", name, disc * 255)
    said = "masks of this collection are written in two ways: white is 1 in 1, 255 in 2; both are read as 1"
    assert doubts(build_catalog(tmp_path)) == [("a/one_mask.png", said)]
