"""NRRD headers: encodings, orders of bytes, kinds of axes, spaces, and what is refused with a reason."""

import bz2
import gzip
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medprior.data.readers import volume
from medprior.data.scan import Source
from medprior.errors import DataError

tmp_is_shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

VALUES = np.arange(-30, 30, dtype=np.int16).reshape(5, 4, 3)  # (k, j, i)
VOXELS = VALUES.astype("<i2").tobytes()
TURNED = "space: left-posterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (1,2,3)\n"
PLAIN = {"type": "short", "dimension": "3", "sizes": "3 4 5", "endian": "little", "encoding": "raw"}
PACK = {
    "raw": bytes,
    "gzip": gzip.compress,
    "gz": gzip.compress,
    "bzip2": bz2.compress,
    "bz2": bz2.compress,
    "hex": lambda data: data.hex("\n", 8).encode(),
}


def header(more="", **fields):
    lines = [f"{name.replace('_', ' ')}: {value}\n" for name, value in (PLAIN | fields).items() if value is not None]
    return ("NRRD0005\n" + "".join(lines) + more).encode()


def save(folder, data=VOXELS, more="", name="a.nrrd", **fields):
    (folder / name).write_bytes(header(more, **fields) + b"\n" + data)
    return Source("volume", (name,))


def read(folder, *args, **fields):
    return volume.read(save(folder, *args, **fields), folder)


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize(("order", "code"), [("little", "<"), ("big", ">")])
def test_every_encoding_in_both_orders_of_bytes(tmp_path, encoding, order, code):
    data = PACK[encoding](VALUES.astype(f"{code}i2").tobytes())
    np.testing.assert_array_equal(read(tmp_path, data, TURNED, encoding=encoding, endian=order).pixels[0], VALUES)


@pytest.mark.parametrize("encoding", ["ascii", "text", "txt"])
@pytest.mark.parametrize(("dtype", "name"), [(np.int16, "short"), (np.float32, "float"), (np.int64, "longlong")])
def test_numbers_that_are_written_out(tmp_path, encoding, dtype, name):
    data = " ".join(str(value) for value in VALUES.ravel().astype(dtype)).encode()
    pixels = read(tmp_path, data, encoding=encoding, endian=None, type=name).pixels
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels[0], VALUES)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_bytes_and_lines_to_pass_by(tmp_path, encoding):
    data = VALUES.astype("<i2").tobytes()
    skipped = b"one\ntwo\n" + PACK[encoding](b"1234567" + data)
    fields = {"encoding": encoding, "line_skip": "2", "byte_skip": "7"}
    np.testing.assert_array_equal(read(tmp_path, skipped, **fields).pixels[0], VALUES)
    if encoding == "raw":
        np.testing.assert_array_equal(read(tmp_path, b"any thing" + data, byte_skip="-1").pixels[0], VALUES)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_comments_keys_and_both_ends_of_lines(tmp_path, end):
    text = header(TURNED + "# a comment: with a colon\nkey:=value\n").decode() + "\n"
    (tmp_path / "a.nrrd").write_bytes(text.replace("\n", end).encode() + VALUES.astype("<i2").tobytes())
    scan = volume.read(Source("volume", ("a.nrrd",)), tmp_path)
    np.testing.assert_array_equal(scan.pixels[0], VALUES)
    assert (scan.spacing, scan.doubts) == ((3, 2, 1), ())


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        *itertools.product(["left-posterior-superior", "LPS", "left-posterior-superior-time"], [(1, 1)]),
        *itertools.product(["right-anterior-superior", "RAS"], [(-1, -1)]),
        *itertools.product(["left-anterior-superior", "LAS"], [(1, -1)]),
    ],
)
def test_every_anatomical_space_is_brought_to_lps(tmp_path, space, signs):
    scan = read(tmp_path, more=TURNED.replace("left-posterior-superior", space))
    assert scan.orientation == "SPL"
    stored = np.diag([signs[0] * 1.0, signs[1] * 2.0, 3.0])
    first = np.array([signs[0] * 1.0, signs[1] * 2.0, 3.0])
    for d, h, w in itertools.product((0, 4), (0, 3), (0, 2)):
        place = (scan.affine @ [d, h, w, 1])[:3]
        i, j, k = np.rint(np.linalg.solve(stored, place - first)).astype(int)
        assert scan.pixels[0, d, h, w] == VALUES[k, j, i]
    assert np.linalg.norm(scan.affine[:3, :3], axis=0) == pytest.approx([3, 2, 1])
    assert (np.diag(scan.affine[2::-1, :3]) > 0).all()


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed", "right-up"])
def test_a_space_that_is_not_anatomical_leaves_the_axes_as_stored(tmp_path, space):
    scan = read(tmp_path, more=TURNED.replace("left-posterior-superior", space))
    np.testing.assert_array_equal(scan.pixels[0], VALUES)
    assert (scan.spacing, scan.affine, scan.orientation) == ((3, 2, 1), None, None)
    assert scan.doubts == ("its header does not say how the patient lies: the axes are as stored",)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("m", 1000), ("cm", 10), ("um", 0.001)])
def test_units_of_space(tmp_path, unit, factor):
    scan = read(tmp_path, more=TURNED + f'space units: "{unit}" "{unit}" "{unit}"\n')
    assert scan.spacing == pytest.approx((3 * factor, 2 * factor, factor))
    assert (scan.affine @ [0, 0, 0, 1])[:3] == pytest.approx([factor, 2 * factor, 3 * factor])


def test_spacings_alone_are_spacing_and_no_orientation(tmp_path):
    scan = read(tmp_path, spacings="0.5 0.75 2")
    assert (scan.spacing, scan.affine) == ((2, 0.75, 0.5), None)


@pytest.mark.parametrize("spacings", ["0 1 1", "-1 1 1", "nan 1 1", "inf 1 1"])
def test_spacings_that_are_no_sizes_are_doubted(tmp_path, spacings):
    scan = read(tmp_path, spacings=spacings)
    assert scan.spacing is None
    assert "its voxel sizes are not all positive numbers: the spacing is unknown" in scan.doubts


@pytest.mark.parametrize(
    "directions", ["(1,0,0) (0,2,0) (0,0,0)", "(1,0,0) (2,0,0) (0,0,1)", "(nan,0,0) (0,1,0) (0,0,1)"]
)
def test_directions_that_are_no_geometry_are_doubted(tmp_path, directions):
    scan = read(tmp_path, more=TURNED.replace("(1,0,0) (0,2,0) (0,0,3)", directions))
    np.testing.assert_array_equal(scan.pixels[0], VALUES)
    assert (scan.spacing, scan.affine) == (None, None)
    assert "no geometry" in scan.doubts[0]


def test_slanting_axes_are_doubted_and_kept(tmp_path):
    scan = read(tmp_path, more=TURNED.replace("(0,0,3)", "(0,1,3)"))
    assert scan.doubts == ("its axes are 18.4 degrees off a right angle",)
    assert scan.orientation == "SPL"


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("said", ["directions", "kinds"])
def test_channels_may_stand_anywhere(tmp_path, axis, said):
    stored = np.arange(2 * 3 * 4 * 5, dtype="<i2").reshape(5, 4, 3, 2)  # (k, j, i, c)
    moved = np.moveaxis(stored, 3, 3 - axis)
    kinds, directions = ["domain"] * 3, ["(1,0,0)", "(0,2,0)", "(0,0,3)"]
    kinds.insert(axis, "vector")
    directions.insert(axis, "none")
    more = f"kinds: {' '.join(kinds)}\n"
    if said == "directions":
        more = f"space: LPS\nspace directions: {' '.join(directions)}\n"
    sizes = " ".join(map(str, moved.shape[::-1]))
    scan = read(tmp_path, moved.tobytes(), more, dimension="4", sizes=sizes)
    np.testing.assert_array_equal(scan.pixels, np.moveaxis(stored, 3, 0))


def test_four_axes_without_a_word_have_channels_last(tmp_path):
    stored = np.arange(120, dtype="<i2").reshape(2, 5, 4, 3)
    np.testing.assert_array_equal(read(tmp_path, stored.tobytes(), dimension="4", sizes="3 4 5 2").pixels, stored)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": "block"}, "no grey values"),
        ({"type": None}, "no grey values"),
        ({"endian": None}, "order of bytes"),
        ({"encoding": "zrl"}, "not read"),
        ({"dimension": "4"}, "do not fit"),
        ({"sizes": "3 4"}, "do not fit"),
        ({"sizes": "60", "dimension": "1"}, "no image or volume"),
        ({"sizes": "3 4 0"}, "none empty"),
        ({"sizes": "3 4 -5"}, "none empty"),
        ({"sizes": "30000 30000 30000"}, "at most"),
        ({"sizes": "99999999999999999999 4 5"}, "at most"),
        ({"sizes": "3 4 5 6", "dimension": "4", "kinds": "domain domain domain 3D-symmetric-matrix"}, "matrices"),
        ({"sizes": "3 4 5 2", "dimension": "4", "kinds": "domain domain domain complex"}, "complex"),
        ({"sizes": "3 4 5 30", "dimension": "4", "kinds": "domain domain domain list"}, "more than 8 channels"),
        ({"sizes": "3 4 5 2 2", "dimension": "5"}, "no image or volume"),
        ({"byte_skip": "99999999999"}, "truncated"),
        ({"byte_skip": "99999999999", "encoding": "bzip2"}, "bytes to pass by"),
        ({"line_skip": "9"}, "fewer lines"),
        ({"kinds": "domain domain"}, "lacks its kind"),
    ],
)
def test_what_is_refused_says_why(tmp_path, fields, reason):
    source = save(tmp_path, **fields)
    for act in (volume.read, volume.describe):
        with pytest.raises(DataError, match=reason) as refused:
            act(source, tmp_path)
        assert refused.value.where == "a.nrrd"


def test_no_nrrd_is_said_to_be_none(tmp_path):
    for data, reason in ((b"", "empty"), (b"no header" * 99, "no NRRD"), (b"NRRD0009\n", "no NRRD")):
        (tmp_path / "a.nrrd").write_bytes(data)
        with pytest.raises(DataError, match=reason):
            volume.read(Source("volume", ("a.nrrd",)), tmp_path)


WHOLE = header(TURNED + 'space units: "mm" "mm" "mm"\nkinds: domain domain domain\nbyte skip: 0\n') + b"\n"


@settings(tmp_is_shared, max_examples=250)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=5),
    cut=st.none() | st.integers(0, 10**4),
    encoding=st.sampled_from(["raw", "gzip", "bzip2", "hex", "ascii"]),
)
def test_damaged_bytes_give_a_scan_or_a_data_error(tmp_path, edits, cut, encoding):
    pack = PACK.get(encoding, lambda data: b"1 " * 60)
    data = bytearray(WHOLE.replace(b"raw", encoding.encode()) + pack(VALUES.astype("<i2").tobytes()))
    for place, value in edits:
        data[place % len(data)] = value
    (tmp_path / "a.nrrd").write_bytes(data[: cut % len(data)] if cut is not None else data)
    (source,) = volume.group(["a.nrrd"], tmp_path)
    try:
        assert volume.read(source, tmp_path).pixels.ndim in (3, 4)
    except DataError as error:
        assert error.where == "a.nrrd"


FIELDS = st.sampled_from(
    ["dimension", "sizes", "type", "endian", "encoding", "space", "space directions", "space origin", "spacings",
     "kinds", "byte skip", "line skip", "data file", "space units"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["0", "-1", "3", "1e400", "nan", "none", "(1,0,0)", "(", "()", "(1,2)", "2147483648", "LIST", "a.nrrd", "%03d.raw",
     "..", "/", "\0", "raw", "gzip", "float", "uchar", "big", "complex", "domain", "LPS", "é"]
)  # fmt: skip


@settings(tmp_is_shared, max_examples=250)
@given(changes=st.dictionaries(FIELDS, st.lists(WORDS, max_size=5).map(" ".join), max_size=4))
def test_any_words_in_a_header_give_a_scan_or_a_data_error(tmp_path, changes):
    lines = [line for line in WHOLE.decode().splitlines()[:-1] if line.partition(":")[0] not in changes]
    lines += [f"{name}: {text}" for name, text in changes.items()]
    (tmp_path / "a.nrrd").write_bytes("\n".join(lines).encode() + b"\n\n" + VALUES.tobytes())
    (source,) = volume.group(["a.nrrd"], tmp_path)
    try:
        assert volume.read(source, tmp_path).pixels.ndim in (3, 4)
    except DataError as error:
        assert error.where == "a.nrrd"
