"""NIfTI: one orientation whatever the file's, spacing that follows the axes, whole values, and what is refused."""

import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medprior.data.readers import volume
from medprior.data.scan import Source
from medprior.errors import DataError

tmp_is_shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


def save(folder, values, affine=None, name="a.nii.gz", **header):
    image = nib.Nifti1Image(values, np.eye(4) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, folder / name)
    return Source("volume", (name,))


def read(folder, source):
    scan, info = volume.read(source, folder), volume.describe(source, folder)
    assert (info.shape, info.channels) == (scan.pixels.shape[1:], scan.pixels.shape[0])
    assert info.dtype == scan.pixels.dtype.name
    assert info.spacing == scan.spacing
    return scan


CODES = ["".join(codes) for order in itertools.permutations(("LR", "PA", "SI")) for codes in itertools.product(*order)]


@pytest.mark.parametrize("code", CODES)
def test_all_48_orientations_become_one(tmp_path, code):
    """A head whose voxel value says where it lies, stored in every way, reads the same: D up, H back, W left."""
    lps = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)  # axes towards L, P, S
    affine = np.diag([-1.0, -2.0, 3.0, 1.0])
    reference = nib.Nifti1Image(lps, affine)
    assert nib.aff2axcodes(affine) == ("L", "P", "S")
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(code))
    stored = reference.as_reoriented(turn)
    assert "".join(nib.aff2axcodes(stored.affine)) == code
    nib.save(stored, tmp_path / "a.nii")
    scan = read(tmp_path, Source("volume", ("a.nii",)))
    np.testing.assert_array_equal(scan.pixels[0], lps.transpose(2, 1, 0))
    assert scan.spacing == pytest.approx((3.0, 2.0, 1.0))
    assert scan.orientation == "SPL"


@tmp_is_shared
@given(
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32"]),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    channels=st.integers(1, 8),
)
def test_values_round_trip(tmp_path, seed, dtype, shape, channels):
    values = np.random.default_rng(seed).integers(0, 255, (*shape, channels)).astype(dtype)
    scan = read(tmp_path, save(tmp_path, values, np.diag([-1.0, -1.0, 1.0, 1.0]), "a.nii"))
    assert scan.pixels.dtype == dtype
    np.testing.assert_array_equal(scan.pixels, values.transpose(3, 2, 1, 0))


def test_hounsfield_units_stay_integers(tmp_path):
    source = save(tmp_path, np.zeros((2, 3, 4), np.int16), name="a.nii")
    stored = np.arange(24, dtype="<i2")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[112:120] = np.array([2, -1024], "<f4").tobytes()  # scl_slope, scl_inter
    data[352:] = stored.tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    pixels = read(tmp_path, source).pixels
    assert pixels.dtype == np.int32
    assert sorted(pixels.ravel()) == (stored.astype(int) * 2 - 1024).tolist()


def test_spacing_is_in_millimetres_whatever_the_unit(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.diag([-500.0, -500.0, 2000.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii.gz")
    assert read(tmp_path, Source("volume", ("a.nii.gz",))).spacing == pytest.approx((2.0, 0.5, 0.5))


def test_a_flat_file_is_a_volume_of_one_slice(tmp_path):
    assert read(tmp_path, save(tmp_path, np.ones((5, 6), np.uint8))).pixels.shape == (1, 1, 6, 5)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((4, 4, 4, 30), np.int16), "time series"),
        (np.zeros((4, 4, 4, 2, 2), np.int16), "time series"),
        (np.zeros((4, 4, 4), np.complex64), "no grey values"),
        (np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "no grey values"),
        (np.full((4, 4, 4), np.nan, np.float32), "finite"),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path, values, reason):
    with pytest.raises(DataError, match=reason) as refused:
        volume.read(save(tmp_path, values), tmp_path)
    assert refused.value.where == "a.nii.gz"


def test_a_huge_header_is_refused_before_memory_is_taken(tmp_path):
    source = save(tmp_path, np.zeros((4, 4, 4), np.uint8), name="a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(DataError, match="at most"):
        volume.read(source, tmp_path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    values = np.random.default_rng(0).integers(0, 255, (20, 20, 20)).astype(np.uint8)
    source = save(tmp_path, values, name=name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError) as refused:
        volume.read(source, tmp_path)
    assert refused.value.where == name and str(tmp_path) not in str(refused.value)


@settings(tmp_is_shared, max_examples=120)
@given(
    edits=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), max_size=5),
    cut=st.none() | st.integers(0, 10**6),
    packed=st.booleans(),
)
def test_damaged_bytes_give_a_scan_or_a_data_error(tmp_path, edits, cut, packed):
    data = bytearray(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_bytes())
    for place, value in edits:
        data[place] = value
    data = gzip.compress(data, 1) if packed else bytes(data)
    name = "a.nii.gz" if packed else "a.nii"
    (tmp_path / name).write_bytes(data[: cut % len(data)] if cut is not None else data)
    try:
        assert volume.read(Source("volume", (name,)), tmp_path).pixels.ndim == 4
    except DataError as error:
        assert error.where == name


def test_half_a_packed_file_is_said_to_be_truncated(tmp_path):
    source = save(tmp_path, np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16))
    data = (tmp_path / "a.nii.gz").read_bytes()
    for share in (len(data) // 2, 200, 40):
        (tmp_path / "a.nii.gz").write_bytes(data[:share])
        with pytest.raises(DataError, match="truncated") as refused:
            volume.read(source, tmp_path)
        assert "work out" not in refused.value.what
    (tmp_path / "a.nii.gz").write_bytes(b"no archive" * 50)
    with pytest.raises(DataError, match="the file is truncated or damaged, or no NIfTI"):
        volume.read(source, tmp_path)
