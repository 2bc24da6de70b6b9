"""NIfTI headers that are odd: each is read where it can be, and said."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from medprior.data.readers import volume
from medprior.data.scan import Source
from medprior.errors import DataError

VALUES = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
LPS = np.diag([-1.0, -2.0, 3.0, 1.0])  # stored axes run to L, P, S
UNPLACED = "its header does not say how the patient lies: the axes are as stored"


def save(folder, change=lambda header: None, values=VALUES, sform=LPS, qform=LPS, version=nib.Nifti1Image):
    image = version(values, LPS)
    image.set_sform(sform, code=0 if sform is None else 1)
    image.set_qform(qform, code=0 if qform is None else 1)
    data = bytearray(image.to_bytes())
    size = image.header.sizeof_hdr
    header = type(image.header)(bytes(data[:size]), check=False)
    header["scl_slope"] = 1  # what to_bytes writes as not-a-number
    header["scl_inter"] = 0
    change(header)
    data[:size] = header.binaryblock
    (folder / "a.nii").write_bytes(data)
    return Source("volume", ("a.nii",))


def read(folder, *args, **fields):
    source = save(folder, *args, **fields)
    scan, info = volume.read(source, folder), volume.describe(source, folder)
    assert (info.spacing, info.orientation, info.doubts) == (scan.spacing, scan.orientation, scan.doubts)
    assert info.affine == (None if scan.affine is None else tuple(scan.affine[:3].ravel()))
    return scan


@pytest.mark.parametrize("version", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_good_header_raises_no_doubt(tmp_path, version):
    scan = read(tmp_path, version=version)
    np.testing.assert_array_equal(scan.pixels[0], VALUES.T)
    np.testing.assert_array_equal(scan.affine[:3], [[0, 0, 1, 0], [0, 2, 0, 0], [3, 0, 0, 0]])
    assert (scan.spacing, scan.doubts) == ((3, 2, 1), ())


def test_either_form_alone_places_the_volume(tmp_path):
    for forms in ({"sform": None}, {"qform": None}):
        scan = read(tmp_path, **forms)
        np.testing.assert_allclose(scan.affine[:3], [[0, 0, 1, 0], [0, 2, 0, 0], [3, 0, 0, 0]], atol=1e-6)
        assert scan.doubts == ()


def test_forms_that_differ_are_doubted_with_the_distance(tmp_path):
    moved = LPS.copy()
    moved[:3, 3] = [0, 3, 4]
    scan = read(tmp_path, qform=moved)
    assert scan.doubts == ("its sform and qform differ by up to 5.0 mm and 0.0 degrees: the sform is used",)
    np.testing.assert_array_equal(scan.affine[:3, 3], 0)


def test_forms_that_differ_are_doubted_with_the_angle(tmp_path):
    angle = np.radians(10)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    (doubt,) = read(tmp_path, qform=turn @ LPS).doubts
    assert "10.0 degrees: the sform is used" in doubt


def test_forms_that_swap_left_and_right_are_said_to_be_mirror_images(tmp_path):
    (doubt,) = read(tmp_path, qform=np.diag([1.0, -2.0, 3.0, 1.0])).doubts
    assert doubt == "its sform and qform are mirror images, 4.0 mm apart: the sform is used"


def test_forms_that_differ_by_rounding_are_not_doubted(tmp_path):
    moved = LPS.copy()
    moved[0, 3] = 0.01
    assert read(tmp_path, qform=moved).doubts == ()


def test_a_singular_sform_gives_way_to_the_qform(tmp_path):
    scan = read(tmp_path, lambda header: header["srow_x"].__setitem__(slice(None), 0))
    assert scan.doubts == ("its sform is no geometry (singular or not finite)",)
    assert scan.spacing == (3, 2, 1)


def test_without_forms_the_axes_are_as_stored(tmp_path):
    scan = read(tmp_path, sform=None, qform=None)
    np.testing.assert_array_equal(scan.pixels[0], VALUES.T)
    assert (scan.spacing, scan.affine, scan.orientation, scan.doubts) == ((3, 2, 1), None, None, (UNPLACED,))


def test_a_quaternion_that_is_none_is_doubted(tmp_path):
    scan = read(tmp_path, lambda header: header.__setitem__("quatern_b", 3), sform=None)
    assert scan.doubts == ("its qform cannot be made out", UNPLACED)
    assert scan.affine is None


@pytest.mark.parametrize("size", [0, -2, np.nan, np.inf])
def test_voxel_sizes_that_are_none(tmp_path, size):
    def change(header):
        header["pixdim"][2] = size

    scan = read(tmp_path, change, qform=None)
    assert scan.spacing == (3, 2, 1)  # the sform has its own
    assert scan.doubts == ("its voxel sizes are not all positive numbers: those of the sform are used",)
    scan = read(tmp_path, change, sform=None, qform=None)
    assert scan.spacing is None
    assert scan.doubts[0] == "its voxel sizes are not all positive numbers: the spacing is unknown"


@pytest.mark.parametrize(
    ("slope", "shift", "doubted"), [(0, 0, False), (np.nan, np.nan, False), (0, 5, True), (np.nan, 5, True)]
)
def test_a_slope_that_is_none_leaves_values_as_stored(tmp_path, slope, shift, doubted):
    def change(header):
        header["scl_slope"], header["scl_inter"] = slope, shift

    scan = read(tmp_path, change)
    np.testing.assert_array_equal(scan.pixels[0], VALUES.T)
    assert scan.doubts == (("its header names an intercept and no slope: values are as stored",) if doubted else ())


def test_voxels_that_are_no_number_are_counted(tmp_path):
    values = VALUES.astype(np.float32)
    values[0, 0, :3] = [np.nan, np.inf, -np.inf]
    scan = volume.read(save(tmp_path, values=values), tmp_path)
    assert scan.doubts == ("3 voxels are not a number or infinite: they became the lowest of the others",)
    assert np.isfinite(scan.pixels).all()


@pytest.mark.parametrize(
    ("code", "reason"), [(1005, "matrices"), (1006, "displacements"), (1007, "vectors"), (2003, "colours")]
)
def test_vectors_and_colours_are_refused(tmp_path, code, reason):
    values = np.zeros((3, 4, 5, 1, 3), np.float32)
    with pytest.raises(DataError, match=f"holds {reason}, which are no grey values"):
        read(tmp_path, lambda header: header.__setitem__("intent_code", code), values=values)


def test_an_analyze_file_is_refused_and_half_a_pair_doubted(tmp_path):
    with pytest.raises(DataError, match="does not tell left from right"):
        read(tmp_path, lambda header: header.__setitem__("magic", b""))
    assert read(tmp_path, lambda header: header.__setitem__("magic", b"ni1")).doubts == (
        "it is marked as half of a pair of files",
    )


def test_voxels_inside_the_header_are_refused(tmp_path):
    with pytest.raises(DataError, match="begin inside it"):
        read(tmp_path, lambda header: header.__setitem__("vox_offset", 100))


def test_an_offset_that_is_left_out_is_the_end_of_the_header(tmp_path):
    np.testing.assert_array_equal(
        read(tmp_path, lambda header: header.__setitem__("vox_offset", 0)).pixels[0], VALUES.T
    )


@pytest.mark.data
def test_real_volumes_raise_no_doubt(real_data):
    files = sorted((real_data / "msd-task04-hippocampus" / "imagesTr").glob("*.nii.gz"))[:12]
    assert files
    for file in files:
        scan = volume.read(Source("volume", (file.name,)), file.parent)
        reference = nib.as_closest_canonical(nib.load(file))
        np.testing.assert_array_equal(scan.pixels[0], np.asarray(reference.dataobj)[::-1, ::-1].T)
        assert (scan.orientation, scan.doubts) == ("SPL", ())


@pytest.mark.parametrize("packed", [b"", gzip.compress(b"")], ids=["nothing", "nothing packed"])
def test_an_empty_file_is_called_empty(tmp_path, packed):
    (tmp_path / "a.nii.gz").write_bytes(packed)
    with pytest.raises(DataError, match="the file is empty"):
        volume.read(Source("volume", ("a.nii.gz",)), tmp_path)


def test_colour_voxels_are_refused_in_plain_words(tmp_path):
    colours = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, LPS), tmp_path / "rgb.nii.gz")
    with pytest.raises(DataError, match=r"its voxels are colours.*save it in grey") as caught:
        volume.read(Source("volume", ("rgb.nii.gz",)), tmp_path)
    assert "u1" not in str(caught.value)
