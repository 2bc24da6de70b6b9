"""Label maps and images on a device: the same wherever they lie, in two axes and three."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medprior.data.catalog import build_catalog
from medprior.data.store.placement import Kind, Placement
from medprior.data.volumestore.resident import ResidentVolumes
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import StoreError

CPU = torch.device("cpu")
KINDS: tuple[Kind, ...] = ("device", "host", "disk")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SHAPES = {2: [(150, 130), (33, 45), (20, 60)], 3: [(9, 20, 31), (12, 7, 14), (8, 8, 8)]}
CLASSES = {2: 3, 3: 400}
"""Of the volumes so many that they need 16 bits."""


def labels_of(d: int, row: int) -> np.ndarray:
    """Every mask of volumes has half of the classes."""
    low, high = (200 * row, 200 * row + 200) if d == 3 else (0, 3)
    return np.random.default_rng(row).integers(low, high, SHAPES[d][row]).astype(np.uint16)


def write(folder: Path, d: int) -> None:
    """Three scans, of which the last has no mask; the images are of colour."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for row, shape in enumerate(SHAPES[d]):
        rng = np.random.default_rng(row)
        if d == 2:
            colour = rng.integers(0, [200, 220, 250], (*shape, 3)).astype(np.uint8)
            Image.fromarray(colour).save(folder / f"imagesTr/{row}.png")
        else:
            values = rng.normal(0, 1, shape).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(values.T, np.diag([-1, -1, 1, 1])), folder / f"imagesTr/{row}.nii")
    for row in range(2):
        labels = labels_of(d, row)
        if d == 2:
            Image.fromarray(labels.astype(np.uint8)).save(folder / f"labelsTr/{row}.png")
        else:
            nibabel.save(nibabel.Nifti1Image(labels.T, np.diag([-1, -1, 1, 1])), folder / f"labelsTr/{row}.nii")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[int, VolumeStore]:
    made = {}
    for d in (2, 3):
        folder = tmp_path_factory.mktemp("scans")
        write(folder / "scans", d)
        catalog = build_catalog(folder / "scans", workers=1)
        made[d] = VolumeStore.build(catalog, folder / "store", masks=True, workers=1)
        assert len(made[d].classes) == CLASSES[d]
    return made


def placed(volumes: VolumeStore, kind: Kind, device: torch.device = CPU) -> ResidentVolumes:
    return ResidentVolumes(volumes, device, Placement(kind, "in a test"))


def padded(whole: np.ndarray, corner: list[int], side: tuple[int, ...]) -> np.ndarray:
    """What of (*S) lies in a window, 0 outside."""
    room = [(60, 60 + n) for n in side]
    return np.pad(whole, room)[tuple(slice(c + 60, c + 60 + n) for c, n in zip(corner, side, strict=True))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 3])
@settings(max_examples=25)
@given(data=st.data())
def test_masks_and_windows_are_the_same_wherever_scans_lie(
    stores: dict[int, VolumeStore], d: int, kind: Kind, data: st.DataObject
) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=4)))
    side = data.draw(st.tuples(*[st.integers(1, 9)] * d))
    corners = np.array([[data.draw(st.integers(-12, n + 3)) for n in SHAPES[d][row]] for row in rows.tolist()])
    resident = placed(stores[d], kind)
    masks, windows = resident.masks(rows, corners, side), resident.windows(rows, corners, side)
    assert masks.dtype == (torch.uint8 if d == 2 else torch.int32)
    for mask, window, row, corner in zip(masks, windows, rows.tolist(), corners.tolist(), strict=True):
        np.testing.assert_array_equal(mask.numpy(), padded(labels_of(d, row), corner, side))
        np.testing.assert_array_equal(window.numpy(), stores[d].crop(row, corner, side))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 3])
def test_a_row_without_a_mask_is_named(stores: dict[int, VolumeStore], d: int, kind: Kind) -> None:
    with pytest.raises(StoreError, match="row 2 has no stored mask"):
        placed(stores[d], kind).masks(np.array([0, 2]), np.zeros((2, d), np.int64), (4,) * d)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 3])
def test_whole_scans_run_from_black_to_white(stores: dict[int, VolumeStore], d: int, kind: Kind) -> None:
    resident = placed(stores[d], kind)
    for row, shape in enumerate(SHAPES[d]):
        found = resident.unit(row)
        low, high = (edge.reshape(-1, *[1] * d) for edge in stores[d].edges(row))
        expected = ((stores[d].physical(row) - low) / (high - low)).clip(0, 1)
        assert found.shape == (resident.channels, *shape) and found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
        assert torch.equal(resident.unit(row), found), "what is held has not changed"


@pytest.mark.parametrize("d", [2, 3])
def test_it_says_what_a_study_asks(stores: dict[int, VolumeStore], d: int) -> None:
    resident = placed(stores[d], "host")
    assert (resident.spatial_dims, resident.channels) == (d, {2: 3, 3: 1}[d])
    assert resident.failed.tolist() == [False] * 3
    assert resident.lengths(np.array([2, 0])).tolist() == [list(SHAPES[d][2]), list(SHAPES[d][0])]


def test_rows_that_failed_and_channels_that_differ_are_said(tmp_path: Path) -> None:
    """A colour volume and a grey one; an image among them."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.integers(0, 90, (3, 10, 60, 50)).astype(np.uint8))
    np.save(tmp_path / "b.npy", rng.integers(0, 90, (10, 60, 50)).astype(np.int16))
    Image.fromarray(rng.integers(0, 90, (30, 30)).astype(np.uint8)).save(tmp_path / "c.png")
    resident = placed(VolumeStore.build(build_catalog(tmp_path), tmp_path / "store"), "host")
    assert resident.failed.tolist() == [False, False, True]
    with pytest.raises(StoreError, match="1 and 3 channels"):
        _ = resident.channels
    with pytest.raises(StoreError, match="row 2 is not in the store: it is an image"):
        resident.unit(2)


def test_moments_of_images_are_near_those_of_all_pixels(stores: dict[int, VolumeStore]) -> None:
    resident = placed(stores[2], "disk")
    whole = resident.unit(0).numpy().reshape(3, -1)
    mean, std = resident.moments(np.array([0]))
    np.testing.assert_allclose(mean, whole.mean(axis=1), atol=0.005)
    np.testing.assert_allclose(std, whole.std(axis=1), atol=0.005)
    assert placed(stores[2], "device").moments(np.array([0])) == (mean, std)


def test_moments_are_exact_where_windows_cover_the_image(stores: dict[int, VolumeStore]) -> None:
    resident = placed(stores[2], "host")
    mean, std = resident.moments(np.array([1]))
    whole = resident.unit(1).double().numpy().reshape(3, -1)
    np.testing.assert_allclose(mean, whole.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(std, whole.std(axis=1), atol=1e-6)


def test_masks_count_where_memory_is_planned(stores: dict[int, VolumeStore]) -> None:
    from medprior.data.volumestore.resident import _unpacked

    pixels = {d: [int(np.prod(shape)) for shape in SHAPES[d]] for d in (2, 3)}
    assert _unpacked(stores[2]) == sum(pixels[2]) * 3 * 2 + sum(pixels[2][:2])
    assert _unpacked(stores[3]) == sum(pixels[3]) * 2 + sum(pixels[3][:2]) * 4
    held = placed(stores[3], "device")
    held.prepare()
    tensors = [*held._held.values(), *held._held_masks.values()]
    assert sum(tensor.nbytes for tensor in tensors) == _unpacked(stores[3])


@GPU
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 3])
def test_masks_are_the_same_on_a_gpu_and_nothing_waits(stores: dict[int, VolumeStore], d: int, kind: Kind) -> None:
    resident, expected = placed(stores[d], kind, torch.device("cuda")), placed(stores[d], "host")
    rows, corners = np.array([1, 0, 0]), np.array([[-2, 3, 4], [5, 5, 5], [60, -3, 9]])[:, :d]
    resident.prepare()
    resident.masks(rows, corners, (9,) * d)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = resident.masks(rows, corners, (9,) * d)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), expected.masks(rows, corners, (9,) * d))
    torch.testing.assert_close(resident.unit(2).cpu(), expected.unit(2), rtol=0, atol=1e-6)
