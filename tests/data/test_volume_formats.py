"""NRRD and MetaImage against SimpleITK, an independent reader: values, spacing, and the place of every corner."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medprior.data.readers import volume
from medprior.errors import DataError

tmp_is_shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)

TYPES = {
    "uint8": sitk.sitkUInt8, "int8": sitk.sitkInt8, "uint16": sitk.sitkUInt16, "int16": sitk.sitkInt16,
    "uint32": sitk.sitkUInt32, "int32": sitk.sitkInt32, "uint64": sitk.sitkUInt64, "int64": sitk.sitkInt64,
    "float32": sitk.sitkFloat32, "float64": sitk.sitkFloat64,
}  # fmt: skip
NAMES = ["a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.nii", "a.nii.gz"]


def rotation(seed):
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turn


def written(folder, name, values, packed=False, seed=0, spacing=(0.5, 0.75, 2.0), origin=(10.0, -20.0, 30.0)):
    """Values (k, j, i) or (k, j, i, c), turned as `seed` says, by SimpleITK."""
    image = sitk.GetImageFromArray(values, isVector=values.ndim == 4)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(rotation(seed).ravel().tolist())
    sitk.WriteImage(image, str(folder / name), packed)
    return sitk.ReadImage(str(folder / name))


def read(folder, name):
    """The scan, after it was compared with its description."""
    (source,) = volume.group([name], folder)
    scan, info = volume.read(source, folder), volume.describe(source, folder)
    assert (info.shape, info.channels, info.dtype) == (
        scan.pixels.shape[1:],
        len(scan.pixels),
        scan.pixels.dtype.name,
    )
    assert (info.spacing, info.orientation) == (scan.spacing, scan.orientation)
    assert info.affine == (None if scan.affine is None else tuple(scan.affine[:3].ravel()))
    assert info.doubts == scan.doubts[: len(info.doubts)]
    return scan


def assert_same(scan, image):
    """Every corner of the scan lies where it lies in the image and has its value, and so has the whole of it."""
    assert scan.orientation == "SPL"
    sizes = np.linalg.norm(scan.affine[:3, :3], axis=0)
    np.testing.assert_allclose(sizes, scan.spacing, rtol=1e-6)
    assert sorted(scan.spacing) == pytest.approx(sorted(image.GetSpacing()), rel=1e-5)
    for corner in itertools.product(*[(0, n - 1) for n in scan.pixels.shape[1:]]):
        place = (scan.affine @ [*corner, 1])[:3]
        index = image.TransformPhysicalPointToIndex(place.tolist())
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), place, atol=1e-4)
        np.testing.assert_array_equal(scan.pixels[(slice(None), *corner)], np.float64(image[index]))
    assert scan.pixels.astype(np.float64).sum() == sitk.GetArrayFromImage(image).astype(np.float64).sum()


def assert_upright(scan):
    """D runs most towards the head, H towards the back, W towards the left."""
    axes = scan.affine[:3, :3] / np.linalg.norm(scan.affine[:3, :3], axis=0)
    assert np.trace(axes[::-1]) == pytest.approx(
        max(
            sum(sign * axes[xyz, axis] for xyz, axis, sign in zip((2, 1, 0), order, signs, strict=True))
            for order in itertools.permutations(range(3))
            for signs in itertools.product((1, -1), repeat=3)
        )
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_reads_as_an_independent_reader_reads_it(tmp_path, name, dtype):
    values = np.random.default_rng(1).integers(0, 100, (4, 5, 6)).astype(dtype)
    for packed in (False, True):
        image = written(tmp_path, name, values, packed)
        scan = read(tmp_path, name)
        assert scan.pixels.dtype == ("float32" if dtype == "float64" else dtype)
        assert_same(scan, image)
        assert scan.doubts == ()


@tmp_is_shared
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 10**6), sides=st.tuples(*[st.integers(1, 5)] * 3))
def test_every_direction_is_turned_and_every_voxel_keeps_its_place(tmp_path, name, seed, sides):
    if name.startswith("a.nii"):
        seed = next(s for s in itertools.count(seed) if np.linalg.det(rotation(s)) > 0)  # ITK writes no mirrored NIfTI
    values = np.random.default_rng(seed).integers(-99, 99, sides).astype(np.int16)
    folder = tmp_path / name  # of its own, for ITK takes a.nii for a.nii.gz where both are there
    folder.mkdir(exist_ok=True)
    image = written(folder, name, values, seed=seed)
    scan = read(folder, name)
    assert_same(scan, image)
    assert_upright(scan)


@pytest.mark.parametrize("name", NAMES[:4])
@pytest.mark.parametrize("channels", [2, 3, 4, 8])
def test_channels_come_first(tmp_path, name, channels):
    values = np.random.default_rng(1).integers(0, 100, (4, 5, 6, channels)).astype(np.uint8)
    image = written(tmp_path, name, values)
    scan = read(tmp_path, name)
    assert len(scan.pixels) == channels
    assert_same(scan, image)


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_flat_image_is_a_scan_of_two_axes(tmp_path, name):
    values = np.random.default_rng(1).integers(0, 100, (5, 6)).astype(np.uint16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.5, 0.75))
    sitk.WriteImage(image, str(tmp_path / name))
    scan = read(tmp_path, name)
    np.testing.assert_array_equal(scan.pixels[0], values)
    assert (scan.spacing, scan.affine) == (pytest.approx((0.75, 0.5)), None)


@pytest.mark.parametrize("name", NAMES[:4])
def test_more_channels_are_refused_with_advice(tmp_path, name):
    written(tmp_path, name, np.zeros((3, 4, 5, 9), np.uint8))
    with pytest.raises(DataError, match="more than 8 channels") as refused:
        volume.read(volume.group([name], tmp_path)[0], tmp_path)
    assert "file of its own" in refused.value.do


@pytest.mark.parametrize(("name", "data"), [("a.nhdr", "a.raw"), ("a.mhd", "a.raw")])
def test_the_data_file_belongs_to_its_header(tmp_path, name, data):
    (tmp_path / "sub").mkdir()
    written(tmp_path / "sub", name, np.zeros((3, 4, 5), np.uint8))
    (source,) = volume.group([f"sub/{name}"], tmp_path)
    assert source.paths == (f"sub/{name}", f"sub/{data}")
    assert volume.read(source, tmp_path).source == f"sub/{name}"


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii.gz"])
def test_voxels_that_are_no_number_are_counted(tmp_path, name):
    values = np.ones((3, 4, 5), np.float32)
    values[0, 0, :3] = [np.nan, np.inf, -7]
    written(tmp_path, name, values)
    scan = read(tmp_path, name)
    assert sorted(scan.pixels.ravel())[:4] == [-7, -7, -7, 1]
    assert scan.doubts == ("2 voxels are not a number or infinite: they became the lowest of the others",)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_file_is_refused(tmp_path, name, share, packed):
    written(tmp_path, name, np.random.default_rng(0).integers(0, 255, (9, 9, 9)).astype(np.uint8), packed)
    (source,) = volume.group([name], tmp_path)
    cut = tmp_path / source.paths[-1]
    cut.write_bytes(cut.read_bytes()[: int(share * cut.stat().st_size)])
    with pytest.raises(DataError, match=r"truncated|empty|damaged") as refused:
        volume.read(source, tmp_path)
    assert refused.value.where == name
    assert str(tmp_path) not in str(refused.value)
