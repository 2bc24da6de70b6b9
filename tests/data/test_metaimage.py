"""MetaImage headers: types, orders of bytes, orientation, where the voxels lie, and what is refused with a reason."""

import zlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medprior.data.readers import volume
from medprior.data.scan import Source
from medprior.errors import DataError

tmp_is_shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

VALUES = np.arange(60).reshape(5, 4, 3)  # (k, j, i)
VOXELS = VALUES.astype("<i2").tobytes()
PLAIN = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "1 2 3",
    "ElementSpacing": "1 2 3",
    "DimSize": "3 4 5",
    "ElementType": "MET_SHORT",
}


def header(data_file="LOCAL", **fields):
    lines = [f"{name} = {value}\n" for name, value in (PLAIN | fields).items() if value is not None]
    return ("".join(lines) + f"ElementDataFile = {data_file}\n").encode()


def save(folder, data=VOXELS, name="a.mha", **fields):
    (folder / name).write_bytes(header(**fields) + data)
    return Source("volume", (name,))


def read(folder, *args, **fields):
    return volume.read(save(folder, *args, **fields), folder)


@pytest.mark.parametrize(
    ("name", "code"),
    [("CHAR", "i1"), ("UCHAR", "u1"), ("SHORT", "i2"), ("USHORT", "u2"), ("INT", "i4"), ("UINT", "u4"),
     ("LONG_LONG", "i8"), ("ULONG_LONG", "u8"), ("FLOAT", "f4"), ("DOUBLE", "f8")],
)  # fmt: skip
@pytest.mark.parametrize("big", [False, True])
def test_every_type_in_both_orders_of_bytes(tmp_path, name, code, big):
    data = VALUES.astype(code).astype(f"{'>' if big else '<'}{code}").tobytes()
    pixels = read(tmp_path, data, ElementType=f"MET_{name}", BinaryDataByteOrderMSB=str(big)).pixels
    np.testing.assert_array_equal(pixels[0], VALUES)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.mha"))), VALUES)


@pytest.mark.parametrize("wbits", [15, 31])
def test_voxels_packed_by_zlib_or_gzip(tmp_path, wbits):
    packer = zlib.compressobj(wbits=wbits)
    data = packer.compress(VALUES.astype("<i2").tobytes()) + packer.flush()
    pixels = read(tmp_path, data, CompressedData="True", CompressedDataSize=str(len(data))).pixels
    np.testing.assert_array_equal(pixels[0], VALUES)


def test_numbers_that_are_written_out(tmp_path):
    data = " ".join(map(str, VALUES.ravel())).encode()
    np.testing.assert_array_equal(read(tmp_path, data, BinaryData="False").pixels[0], VALUES)


@pytest.mark.parametrize(("skip", "before"), [("0", 0), ("7", 7), ("-1", 11)])
def test_a_data_file_with_bytes_before_its_voxels(tmp_path, skip, before):
    (tmp_path / "b.raw").write_bytes(b"x" * before + VALUES.astype("<i2").tobytes())
    source = save(tmp_path, b"", "a.mhd", HeaderSize=skip, data_file="b.raw")
    np.testing.assert_array_equal(volume.read(source, tmp_path).pixels[0], VALUES)


@pytest.mark.parametrize(
    ("matrix", "offset"), [(m, o) for m in ("TransformMatrix", "Rotation", "Orientation") for o in ("Offset", "Origin")]
)
def test_every_name_of_the_geometry(tmp_path, matrix, offset):
    fields = {"TransformMatrix": None, "Offset": None, matrix: "0 1 0 0 0 1 1 0 0", offset: "1 2 3"}
    scan = read(tmp_path, **fields)
    # stored axes run towards the back, the head and the left
    assert scan.spacing == (2, 1, 3)
    np.testing.assert_array_equal(scan.affine[:3], [[0, 0, 3, 1], [0, 1, 0, 2], [2, 0, 0, 3]])
    np.testing.assert_array_equal(scan.pixels[0], VALUES.transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("code", "same_as"), [("RAI", "1 0 0 0 1 0 0 0 1"), ("LPS", "-1 0 0 0 -1 0 0 0 -1"), ("AIR", "0 1 0 0 0 1 1 0 0")]
)
def test_letters_stand_in_for_a_missing_matrix(tmp_path, code, same_as):
    told = read(tmp_path, TransformMatrix=None, AnatomicalOrientation=code)
    reference = read(tmp_path, TransformMatrix=same_as)
    np.testing.assert_array_equal(told.affine, reference.affine)
    np.testing.assert_array_equal(told.pixels, reference.pixels)


def test_without_matrix_and_letters_the_axes_are_as_stored(tmp_path):
    scan = read(tmp_path, TransformMatrix=None, AnatomicalOrientation="???")
    np.testing.assert_array_equal(scan.pixels[0], VALUES)
    assert (scan.spacing, scan.affine, scan.orientation) == ((3, 2, 1), None, None)
    assert scan.doubts == ("its header does not say how the patient lies: the axes are as stored",)


@pytest.mark.parametrize("sizes", ["0 1 1", "-1 1 1", "nan 1 1"])
def test_voxel_sizes_that_are_none_are_doubted(tmp_path, sizes):
    scan = read(tmp_path, ElementSpacing=sizes)
    assert (scan.spacing, scan.affine) == (None, None)
    assert "its voxel sizes are not all positive numbers: the spacing is unknown" in scan.doubts


def test_a_singular_matrix_is_doubted(tmp_path):
    scan = read(tmp_path, TransformMatrix="0 0 0 0 0 0 0 0 0")
    assert (scan.spacing, scan.affine) == (None, None)
    assert "no geometry" in scan.doubts[0]


def test_bytes_that_nobody_announced_are_doubted(tmp_path):
    scan = read(tmp_path, VALUES.astype("<i2").tobytes() + b"12345")
    assert scan.doubts == ("behind its voxels follow 5 bytes that the header does not announce",)


def test_a_slope_that_is_not_applied_is_said(tmp_path):
    assert "not applied" in read(tmp_path, ElementToIntensityFunctionSlope="2").doubts[0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"ElementType": "MET_STRING"}, "no grey values"),
        ({"DimSize": "60", "NDims": "1"}, "is no image"),
        ({"DimSize": "3 4 5 30", "NDims": "4"}, "more than 8 channels"),
        ({"DimSize": "30000 30000 30000"}, "at most"),
        ({"DimSize": "3 4 0"}, "none empty"),
        ({"DimSize": None}, "lacks dimsize"),
        ({"ElementNumberOfChannels": "9"}, "more than 8 channels"),
        ({"ElementNumberOfChannels": "-2"}, "none empty"),
        ({"TransformMatrix": "1 0 0"}, "numbers where 9 are needed"),
        ({"CompressedData": "True", "HeaderSize": "-1"}, "where the packed voxels begin"),
        ({"data_file": "LIST"}, "several files"),
        ({"data_file": "slice%03d.raw 1 9 1"}, "several files"),
    ],
)
def test_what_is_refused_says_why(tmp_path, fields, reason):
    source = save(tmp_path, **fields)
    for act in (volume.read, volume.describe):
        with pytest.raises(DataError, match=reason) as refused:
            act(source, tmp_path)
        assert refused.value.where == "a.mha"


def test_no_metaimage_is_said_to_be_none(tmp_path):
    for data, reason in ((b"", "empty"), (b"no header" * 99, "no MetaImage"), (b"NDims = 3\n", "truncated")):
        (tmp_path / "a.mha").write_bytes(data)
        with pytest.raises(DataError, match=reason):
            volume.read(Source("volume", ("a.mha",)), tmp_path)


@settings(tmp_is_shared, max_examples=250)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=5),
    cut=st.none() | st.integers(0, 10**4),
    packed=st.booleans(),
)
def test_damaged_bytes_give_a_scan_or_a_data_error(tmp_path, edits, cut, packed):
    voxels = VALUES.astype("<i2").tobytes()
    data = bytearray(header(CompressedData=str(packed)) + (zlib.compress(voxels) if packed else voxels))
    for place, value in edits:
        data[place % len(data)] = value
    (tmp_path / "a.mha").write_bytes(data[: cut % len(data)] if cut is not None else data)
    (source,) = volume.group(["a.mha"], tmp_path)
    try:
        assert volume.read(source, tmp_path).pixels.ndim in (3, 4)
    except DataError as error:
        assert error.where == "a.mha"


NAMES = st.sampled_from([*PLAIN, "HeaderSize", "ElementNumberOfChannels", "AnatomicalOrientation", "data_file"])
WORDS = st.sampled_from(
    ["0", "-1", "3", "1e400", "nan", "True", "False", "2147483648", "LIST", "LOCAL", "a.mha", "%03d.raw", "..", "/",
     "\0", "MET_FLOAT", "MET_NONE", "RAI", "=", "é", "0.5"]
)  # fmt: skip


@settings(tmp_is_shared, max_examples=250)
@given(changes=st.dictionaries(NAMES, st.lists(WORDS, max_size=9).map(" ".join), max_size=4))
def test_any_words_in_a_header_give_a_scan_or_a_data_error(tmp_path, changes):
    (source,) = volume.group(save(tmp_path, **changes).paths, tmp_path)
    try:
        assert volume.read(source, tmp_path).pixels.ndim in (3, 4)
    except DataError as error:
        assert error.where == "a.mha"
