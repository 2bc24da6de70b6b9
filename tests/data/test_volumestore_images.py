"""The volume store of images: exact, one number of channels for all, masks on their grid, one kind a store."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medprior.data.catalog import Catalog, build_catalog
from medprior.data.store.letterbox import resize
from medprior.data.volumestore.file import decoded_share, layout
from medprior.data.volumestore.foreground import find_foreground
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import DataError, SettingsError, StoreError

SHAPES = [(70, 130), (45, 33), (150, 20)]
LABELS = [np.random.default_rng(i).integers(0, 3, shape) for i, shape in enumerate(SHAPES)]


def grey(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def colour(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def written(folder: Path, *images: np.ndarray, name: str = "images") -> Path:
    """PNG files 0.png, 1.png and so on of (H, W) or (H, W, 3)."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / name / f"{i}.png")
    return folder


def masked(folder: Path) -> Catalog:
    """Grey images of 8 bits with masks of three values, and one without a mask."""
    written(folder, *(grey(shape, i) for i, shape in enumerate([*SHAPES, (40, 40)])))
    return build_catalog(written(folder, *(np.array([0, 7, 100], np.uint8)[labels] for labels in LABELS), name="masks"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> VolumeStore:
    folder = tmp_path_factory.mktemp("images")
    return VolumeStore.build(masked(folder), folder / "store", masks=True)


def test_images_come_back_exactly_and_8_bits_are_black_and_white(store: VolumeStore) -> None:
    assert store.spatial_dims == 2 and not store.failures and not store.failed.any()
    for row, shape in enumerate(SHAPES):
        assert store.shape(row) == shape
        assert store.channels(row) == 1 and store.spacing(row) is None and store.affine(row) is None
        np.testing.assert_array_equal(store.physical(row)[0], grey(shape, row))
        assert [edge.tolist() for edge in store.edges(row)] == [[0], [255]]
        assert store.black(row).tolist() == [0]
    assert VolumeStore.open(store.folder).index == store.index


@settings(max_examples=40)
@given(st.data())
def test_a_crop_equals_a_slice_of_the_padded_image(store: VolumeStore, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, 2))
    corner = [data.draw(st.integers(-40, n + 5)) for n in SHAPES[row]]
    side = [data.draw(st.integers(1, 90)) for _ in range(2)]
    at = tuple(slice(c + 140, c + 140 + n) for c, n in zip(corner, side, strict=True))
    np.testing.assert_array_equal(store.crop(row, corner, side)[0], np.pad(grey(SHAPES[row], row), 140)[at])
    np.testing.assert_array_equal(store.mask_crop(row, corner, side), np.pad(LABELS[row], 140)[at])


def test_masks_of_images_are_class_indices(store: VolumeStore) -> None:
    assert store.classes == (0, 7, 100)
    for row in range(3):
        np.testing.assert_array_equal(store.mask(row), LABELS[row])
    assert not store.has_mask(3)
    with pytest.raises(StoreError, match="row 3 has no stored mask"):
        store.mask_crop(3, (0, 0), (4, 4))


def test_16_bits_are_kept(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (60, 50)).astype(np.uint16)
    store = VolumeStore.build(build_catalog(written(tmp_path, deep)), tmp_path / "store")
    np.testing.assert_array_equal(store.physical(0)[0], deep)
    (low,), (high,) = store.edges(0)
    assert 0 < low < np.percentile(deep, 2) and np.percentile(deep, 98) < high < 2**16


def test_grey_in_three_channels_is_stored_once(tmp_path: Path) -> None:
    one, other = grey((20, 30), 0), grey((25, 15), 1)
    catalog = build_catalog(written(tmp_path, one, np.repeat(other[..., None], 3, axis=2)))
    assert catalog.table["channels"].tolist() == [1, 3]
    for dtype in ("int16", "uint8"):
        store = VolumeStore.build(catalog, tmp_path / dtype, dtype=dtype)
        assert [store.channels(row) for row in range(2)] == [1, 1]
        np.testing.assert_array_equal(store.physical(0)[0], one)
        np.testing.assert_array_equal(store.physical(1)[0], other)


def test_colour_is_kept_and_grey_beside_it_repeated(tmp_path: Path) -> None:
    seen, plain = colour((20, 30), 0), grey((25, 15), 1)
    store = VolumeStore.build(build_catalog(written(tmp_path, seen, plain)), tmp_path / "store")
    assert [store.channels(row) for row in range(2)] == [3, 3]
    np.testing.assert_array_equal(store.physical(0), np.moveaxis(seen, -1, 0))
    np.testing.assert_array_equal(store.physical(1), np.repeat(plain[None], 3, axis=0))
    assert store.black(1).tolist() == [0, 0, 0]
    assert store.crop(0, (-2, 25), (4, 8)).shape == (3, 4, 8)


def test_an_image_of_other_channels_is_listed(tmp_path: Path) -> None:
    catalog = build_catalog(written(tmp_path, colour((20, 30), 0), colour((21, 30), 1)))
    catalog.table["channels"] = [3, 2]
    catalog.table["quantiles"] = [catalog.table["quantiles"][0], catalog.table["quantiles"][1][:2]]
    assert VolumeStore.build(catalog, tmp_path / "store").failures == {1: "it has 2 channels, the store 3"}


def test_images_on_another_grid_keep_their_box(tmp_path: Path) -> None:
    catalog = masked(tmp_path)
    catalog.table["spacing"] = [(0.5, 0.25), (1.0, 1.0), None, (1.0, 1.0)]
    store = VolumeStore.build(catalog, tmp_path / "store", masks=True, spacing=1.0)
    assert [store.shape(row) for row in range(3)] == [(35, 33), SHAPES[1], SHAPES[2]]
    assert store.spacing(0) == pytest.approx((1.0, 130 * 0.25 / 33))
    assert store.index.warnings == ("1 images say nothing of their spacing in mm and keep the grid of their file.",)
    assert np.abs(store.physical(0) - resize(grey(SHAPES[0], 0)[None], (35, 33))).max() <= 0.5 + 1e-4
    assert store.mask(0).shape == (35, 33)
    rows, columns = np.arange(35) * 2 + 1, ((np.arange(33) + 0.5) * 130 / 33).astype(int)
    np.testing.assert_array_equal(store.mask(0), LABELS[0][np.ix_(rows, columns)])
    assert VolumeStore.build(catalog, tmp_path / "store", spacing=(0.5, 1.0)).shape(0) == (70, 33)
    assert VolumeStore.open(tmp_path / "store").index.settings.spacing == (0.5, 1.0)
    with pytest.raises(SettingsError, match="no store has spacing"):
        VolumeStore.build(catalog, tmp_path / "store", spacing=(1.0, 1.0, 1.0))


def test_a_store_holds_what_most_scans_are_or_what_is_asked_for(tmp_path: Path) -> None:
    folder = written(tmp_path / "scans", grey((20, 30), 0), grey((20, 31), 1))
    np.save(folder / "volume.npy", np.random.default_rng(0).integers(-5, 5, (9, 8, 7)).astype(np.int16))
    catalog = build_catalog(folder)
    images = VolumeStore.build(catalog, tmp_path / "images")
    assert images.spatial_dims == 2
    assert images.failures == {2: "it is a volume, the store holds images"}
    assert images.failed.tolist() == [False, False, True]
    volumes = VolumeStore.build(catalog, tmp_path / "volumes", spatial_dims=3)
    assert volumes.spatial_dims == 3 and volumes.shape(2) == (9, 8, 7)
    assert volumes.failures == dict.fromkeys((0, 1), "it is an image, the store holds volumes")
    with pytest.raises(SettingsError, match="4 axes"):
        VolumeStore.build(catalog, tmp_path / "volumes", spatial_dims=4)
    with pytest.raises(DataError, match="no images to store"):
        VolumeStore.build(build_catalog(folder / "volume.npy"), tmp_path / "none", spatial_dims=2)


def test_a_store_that_does_not_say_its_axes_holds_volumes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 8, 7), np.int16))
    store = VolumeStore.build(build_catalog(tmp_path), tmp_path / "store")
    about = json.loads((store.folder / "volumes.json").read_text())
    del about["settings"]["spatial_dims"]
    (store.folder / "volumes.json").write_text(json.dumps(about))
    assert VolumeStore.open(store.folder).index == store.index


def test_an_image_that_changed_is_listed(tmp_path: Path) -> None:
    catalog = build_catalog(written(tmp_path, grey((20, 30), 0), grey((20, 31), 1)))
    Image.fromarray(colour((20, 30), 0)).save(tmp_path / "images/0.png")
    store = VolumeStore.build(catalog, tmp_path / "store")
    assert "(3, 20, 30) now, (1, 20, 30) when it was indexed" in store.failures[0]


def test_a_crop_of_an_image_decodes_little() -> None:
    """Blocks of 64: a crop of 256 decodes (319/256)^2 times itself on average."""
    corners = np.random.default_rng(0).integers(0, 2048 - 256, (2000, 2)).tolist()
    found = np.mean([decoded_share((2048, 2048), corner, (256, 256)) for corner in corners])
    assert found == pytest.approx((319 / 256) ** 2, rel=0.02)
    assert layout((3, 1000, 60)) == ((1, 504, 60), (1, 63, 60))


def test_labelled_pixels_are_found(store: VolumeStore) -> None:
    found = find_foreground(store, range(4), most=300)
    assert found.counts[3].tolist() == [0, 0]
    for row, labels in enumerate(LABELS):
        for label in (1, 2):
            start, count = found.starts[row, label - 1], found.counts[row, label - 1]
            assert count == min(300, (labels == label).sum())
            assert (labels.reshape(-1)[found.voxels[start : start + count]] == label).all()


def test_classes_that_the_index_does_not_name_are_found_too(store: VolumeStore) -> None:
    """As segments of DICOM, whose values are no part of it."""
    from dataclasses import replace

    nameless = VolumeStore(store.folder, replace(store.index, classes=(0,)))
    expected = find_foreground(store, [0, 1])
    for name in ("voxels", "starts", "counts"):
        np.testing.assert_array_equal(getattr(find_foreground(nameless, [0, 1]), name), getattr(expected, name))
