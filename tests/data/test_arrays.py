"""Arrays: what each shape means, the layout of MedMNIST, and what is refused."""

import io
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medprior.data.indexing.examining import examine
from medprior.data.indexing.walk import File
from medprior.data.privacy import PatientKeys
from medprior.data.readers import arrays
from medprior.errors import DataError

tmp_is_shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)


def scans(folder, name):
    sources = arrays.group([name], folder)
    found = [arrays.read(source, folder) for source in sources]
    for source, scan in zip(sources, found, strict=True):
        info = arrays.describe(source, folder)
        assert (info.shape, info.channels) == (scan.pixels.shape[1:], scan.pixels.shape[0])
        assert info.dtype == scan.pixels.dtype.name
    return sources, found


@pytest.mark.parametrize(
    ("shape", "count", "each"),
    [
        ((20, 30), 1, (1, 20, 30)),
        ((20, 30, 3), 1, (3, 20, 30)),
        ((20, 30, 1), 1, (1, 20, 30)),
        ((3, 20, 30), 1, (3, 20, 30)),
        ((50, 20, 20), 50, (1, 20, 20)),
        ((40, 20, 20), 1, (1, 40, 20, 20)),
        ((16, 20, 24), 1, (1, 16, 20, 24)),
        ((2, 20, 24), 1, (1, 2, 20, 24)),
        ((5, 20, 30, 3), 5, (3, 20, 30)),
        ((5, 3, 20, 30), 5, (3, 20, 30)),
        ((4, 16, 20, 24), 1, (4, 16, 20, 24)),
        ((6, 16, 20, 24), 6, (1, 16, 20, 24)),
        ((6, 16, 20, 24, 3), 6, (3, 16, 20, 24)),
        ((6, 3, 16, 20, 24), 6, (3, 16, 20, 24)),
    ],
)
@pytest.mark.parametrize("container", ["npy", "npz"])
def test_the_shape_tells_what_an_array_holds(tmp_path, shape, count, each, container):
    values = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    if container == "npy":
        np.save(tmp_path / "a.npy", values)
    else:
        np.savez_compressed(tmp_path / "a.npz", scan=values)
    _, found = scans(tmp_path, f"a.{container}")
    assert [scan.pixels.shape for scan in found] == [each] * count
    assert sum(int(scan.pixels.sum()) for scan in found) == int(values.sum())


@tmp_is_shared
@given(
    values=hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.dtype(">u2")]),
        st.tuples(st.integers(5, 12), st.integers(5, 12)),
    )
)
def test_integers_round_trip(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    (scan,) = scans(tmp_path, "a.npy")[1]
    np.testing.assert_array_equal(scan.pixels[0], values)
    assert scan.pixels.dtype == values.dtype.newbyteorder("=")


def test_floats_become_float32_and_what_is_no_number_the_lowest(tmp_path):
    values = np.linspace(-5, 5, 30).reshape(5, 6)
    values[0, 0], values[1, 1] = np.nan, np.inf
    np.save(tmp_path / "a.npy", values)
    pixels = scans(tmp_path, "a.npy")[1][0].pixels
    assert pixels.dtype == np.float32 and np.isfinite(pixels).all()
    assert pixels[0, 0, 0] == pixels[0, 1, 1] == pixels.min()


def medmnist(folder, shape=(8, 8), labels=1, **more):
    rng = np.random.default_rng(1)
    held = {}
    for split, count in (("train", 6), ("val", 3), ("test", 4)):
        held[f"{split}_images"] = rng.integers(0, 255, (count, *shape), np.uint8)
        held[f"{split}_labels"] = rng.integers(0, 2, (count, labels), np.uint8)
    np.savez_compressed(folder / "a.npz", **held, **more)
    return held


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (8, 8, 8)])
@pytest.mark.parametrize("labels", [1, 5])
def test_medmnist_brings_split_and_labels(tmp_path, shape, labels):
    held = medmnist(tmp_path, shape, labels)
    sources, found = scans(tmp_path, "a.npz")
    assert [s.split for s in sources] == ["train"] * 6 + ["val"] * 3 + ["test"] * 4
    for source, scan in zip(sources, found, strict=True):
        image = held[source.member][source.frame]
        expected = np.moveaxis(image, -1, 0) if shape[-1] == 3 else image[None]
        np.testing.assert_array_equal(scan.pixels, expected)
        assert source.label == tuple(held[f"{source.split}_labels"][source.frame].astype(float))


def test_masks_labels_and_numbers_are_no_images(tmp_path):
    np.savez(tmp_path / "a.npz", scan=np.ones((9, 9)), mask=np.ones((9, 9)), spacing=np.ones(3), y=np.ones((9, 9)), n=3)
    assert [source.member for source in arrays.group(["a.npz"], tmp_path)] == ["scan"]


def test_an_opened_array_is_unpacked_once(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((3000, 64, 64), np.uint8))
    sources = arrays.group(["a.npz"], tmp_path)
    arrays.read(sources[0], tmp_path)
    begin = time.perf_counter()
    for source in sources:
        arrays.read(source, tmp_path)
    assert time.perf_counter() - begin < 20  # unpacking 12 MB each time would take a minute


def test_a_rewritten_file_is_not_read_from_memory(tmp_path):
    for value in (1, 2):
        np.savez(tmp_path / "a.npz", images=np.full((2 + value, 8, 8), value, np.uint8))
        sources, found = scans(tmp_path, "a.npz")
        assert len(sources) == 2 + value and (found[-1].pixels == value).all()


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_pickles_are_never_opened(tmp_path):
    array = np.array([Harmful()], dtype=object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=array, allow_pickle=True)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Harmful()))
    for name in ("a.npy", "b.npz", "c.npy"):
        with pytest.raises(DataError) as refused:
            arrays.group([name], tmp_path)
        assert refused.value.where == name


@pytest.mark.parametrize(
    "values",
    [np.float64(3), np.zeros(5), np.zeros((0, 8, 8)), np.zeros((9, 1)), np.zeros((2,) * 6), np.full((8, 8), "text")],
)
def test_what_is_no_image_is_refused(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "b.npz", a=values)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(DataError) as refused:
            scans(tmp_path, name)
        assert refused.value.where == name


def test_labels_of_another_length_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", train_images=np.zeros((5, 8, 8)), train_labels=np.zeros((4, 1)))
    with pytest.raises(DataError, match="do not go with 5 images"):
        arrays.group(["a.npz"], tmp_path)


def npz_with_header(folder, shape, payload=b"", descr="|u1"):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + payload)


def test_an_array_that_announces_more_than_it_holds_is_refused_before_memory_is_taken(tmp_path):
    npz_with_header(tmp_path, (10**9, 64, 64), b"\0" * 1000)
    source = arrays.Source("arrays", ("a.npz",), "images", 0)
    with pytest.raises(DataError, match="truncated"):
        arrays.read(source, tmp_path)


def test_an_array_above_the_limit_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((40, 64, 64), np.uint8))
    monkeypatch.setattr(arrays, "MAX_GIBIBYTES", 0.0001)
    with pytest.raises(DataError, match=r"unpacks to .* GiB") as refused:
        scans(tmp_path, "a.npz")
    assert "npy" in refused.value.do


@settings(tmp_is_shared, max_examples=120)
@given(
    ending=st.sampled_from(["npy", "npz"]),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=5),
    cut=st.none() | st.integers(0, 10**6),
)
def test_damaged_bytes_give_scans_or_a_data_error(tmp_path, ending, edits, cut):
    buffer = io.BytesIO()
    values = np.arange(200, dtype=np.uint8).reshape(2, 10, 10)
    _ = np.save(buffer, values) if ending == "npy" else np.savez_compressed(buffer, images=values)
    data = bytearray(buffer.getvalue())
    for place, value in edits:
        data[place % len(data)] = value
    (tmp_path / f"a.{ending}").write_bytes(data[: cut % len(data)] if cut is not None else data)
    try:
        for source in arrays.group([f"a.{ending}"], tmp_path):
            assert arrays.read(source, tmp_path).pixels.ndim in (3, 4)
    except DataError as error:
        assert error.where == f"a.{ending}"


@pytest.mark.parametrize("descr", ["|u1", "<f8", "|V0", "|S0"])
@pytest.mark.parametrize("shape", [(10**9, 32, 32), (10**9, 0, 8, 8)])
def test_a_small_file_that_announces_a_thousand_million_images_is_one_problem(tmp_path, shape, descr):
    npz_with_header(tmp_path, shape, b"\0" * 100, descr)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        (tmp_path / "a.npy").write_bytes(archive.read("images.npy"))
    for name in ("a.npy", "a.npz"):
        begin = time.perf_counter()
        with pytest.raises(DataError, match=r"truncated|holds no pixels"):
            arrays.group([name], tmp_path)
        assert time.perf_counter() - begin < 10


def test_a_header_that_is_no_python_is_said_plainly(tmp_path):
    header = b"{'shape': " + b"(" * 90
    (tmp_path / "nest.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="the header of the array is truncated or damaged") as refused:
        arrays.group(["nest.npy"], tmp_path)
    assert "Error" not in refused.value.what


@pytest.mark.parametrize("told", ["truly", "falsely"])
def test_a_stack_cut_short_is_one_problem_and_found_once(tmp_path, told):
    """The zip's directory may tell the real length of a member, or the one that the array announces."""
    npz_with_header(tmp_path, (100_000, 8, 8), b"\0" * 64_000)
    data = (tmp_path / "a.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        size = archive.getinfo("images.npy").file_size
    if told == "falsely":
        place = data.rindex(size.to_bytes(4, "little"))
        data = data[:place] + (6_400_128).to_bytes(4, "little") + data[place + 4 :]
    (tmp_path / "a.npz").write_bytes(data)
    stat = (tmp_path / "a.npz").stat()
    begin = time.perf_counter()
    (row,) = examine(File("a.npz", stat.st_size, stat.st_mtime_ns, "arrays"), tmp_path, PatientKeys())
    assert "truncated" in row["reason"] and time.perf_counter() - begin < 20


def test_a_damaged_stack_is_unpacked_once_and_is_one_problem(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (2000, 32, 32), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=values, more_images=values[:3])
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "a.npz").write_bytes(data)
    stat = (tmp_path / "a.npz").stat()
    begin = time.perf_counter()
    *good, bad = examine(File("a.npz", stat.st_size, stat.st_mtime_ns, "arrays"), tmp_path, PatientKeys())
    assert time.perf_counter() - begin < 20  # unpacking 2 MB for each of 2,000 images would take a minute
    assert bad["reason"].startswith("images 1 and 1,999 more: the file is truncated or damaged")
    assert good and all(row["member"] == "more_images" for row in good)


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_does_not_pack_so_is_refused_before_it_is_unpacked(tmp_path, packing):
    """256 MiB in some hundred bytes, of which the first would unpack all."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as archive:
        archive.writestr("images.npy", bytes(2**28))
    tracemalloc.start()
    with pytest.raises(DataError, match="packed with bzip2 or LZMA") as refused:
        arrays.group(["a.npz"], tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "savez_compressed" in str(refused.value) and peak < 2**20


def test_values_that_are_no_numbers_are_counted(tmp_path):
    values = np.arange(72, dtype=np.float32).reshape(8, 9)
    values[0, :2] = np.nan, np.inf
    np.save(tmp_path / "a.npy", values)
    scan = arrays.read(arrays.Source("arrays", ("a.npy",)), tmp_path)
    assert scan.doubts == ("2 pixels are not a number or infinite: they became the lowest of the others",)
