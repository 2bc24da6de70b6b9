"""What a hostile or careless header may not do: open a file outside the root, or fill the memory."""

import builtins
import bz2
import gzip
import io
import os
import tracemalloc
import zlib

import numpy as np
import pytest

from medprior.data.readers import volume
from medprior.data.scan import Source
from medprior.errors import DataError

SECRET = bytes(range(60))


def header(folder, name, data_file):
    """A header of 3 x 4 x 5 bytes that lie in `data_file`."""
    if name.endswith((".nhdr", ".nrrd")):
        text = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 4 5\nencoding: raw\ndata file: {data_file}\n"
    else:
        text = f"NDims = 3\nDimSize = 3 4 5\nElementType = MET_UCHAR\nElementDataFile = {data_file}\n"
    (folder / name).write_bytes(text.encode())
    return Source("volume", (name,))


@pytest.fixture
def root(tmp_path):
    """A folder beside a secret, with links that lead to it."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.raw").write_bytes(SECRET)
    (root / "good.raw").write_bytes(SECRET)
    (root / "link.raw").symlink_to(tmp_path / "secret.raw")
    (root / "out").symlink_to(tmp_path)
    (root / "inner.raw").symlink_to(root / "good.raw")
    os.mkfifo(root / "pipe")
    return root


TRICKS = [
    "../secret.raw", "sub/../../secret.raw", "link.raw", "out/secret.raw", "../root/../secret.raw", "./../secret.raw",
    "{absolute}", "secret%d.raw 1 2 1", "LIST", "%03d.raw", "pipe", "sub", ".", "", "absent.raw",
    "out/root/../secret.raw", "~/secret.raw", "file://{absolute}", "C:\\secret.raw", "\\\\host\\secret.raw",
]  # fmt: skip


@pytest.mark.parametrize("name", ["a.nhdr", "a.nrrd", "a.mhd", "a.mha"])
@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_outside_the_folder_is_opened(root, name, trick, monkeypatch):
    source = header(root, name, trick.format(absolute=root.parent / "secret.raw"))
    opened = []

    def watched(file, *args, _open=io.open, **options):
        opened.append(os.path.realpath(file))
        return _open(file, *args, **options)

    monkeypatch.setattr(io, "open", watched)
    monkeypatch.setattr(builtins, "open", watched)
    for act in (volume.read, volume.describe):
        with pytest.raises(DataError) as refused:
            act(source, root)
        assert refused.value.where == name
        assert "secret" not in refused.value.what
    assert volume.companions(name, root) == ()
    assert opened
    assert set(opened) <= {str(root / name)}


@pytest.mark.parametrize("name", ["sub/a.nhdr", "sub/a.mhd"])
@pytest.mark.parametrize("data", ["../good.raw", "../inner.raw", "./../sub/../good.raw"])
def test_a_file_inside_the_folder_is_opened_wherever_it_lies(root, name, data):
    header(root, name, data)
    (source,) = volume.group([name], root)
    assert source.paths == (name, data.rpartition("/")[2])
    assert volume.read(source, root).pixels.tobytes() == SECRET


def big_header(name, packed):
    """Of 2^30 bytes."""
    if name == "a.nrrd":
        return f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 1024 1024 1024\nencoding: {packed}\n\n".encode()
    lines = ["NDims = 3", "DimSize = 1024 1024 1024", "ElementType = MET_UCHAR", "CompressedData = True"]
    return "\n".join([*lines, "ElementDataFile = LOCAL\n"]).encode()


@pytest.mark.parametrize(
    ("name", "packed", "pack"),
    [("a.nrrd", "gzip", gzip.compress), ("a.nrrd", "bzip2", bz2.compress), ("a.mha", "zlib", zlib.compress),
     ("a.nrrd", "raw", bytes), ("a.nrrd", "hex", bytes), ("a.nrrd", "ascii", bytes)],
)  # fmt: skip
def test_no_more_memory_is_taken_than_the_file_can_fill(tmp_path, name, packed, pack):
    (tmp_path / name).write_bytes(big_header(name, packed) + pack(b"1" * 10_000))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="truncated"):
            volume.read(Source("volume", (name,)), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("packed", "pack"), [("gzip", gzip.compress), ("bzip2", bz2.compress)])
def test_a_bomb_is_unpacked_no_further_than_announced(tmp_path, packed, pack):
    bomb = pack(bytes(2**26))
    text = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 8 8 8\nencoding: {packed}\n\n".encode()
    (tmp_path / "a.nrrd").write_bytes(text + bomb)
    tracemalloc.start()
    try:
        assert volume.read(Source("volume", ("a.nrrd",)), tmp_path).pixels.shape == (1, 8, 8, 8)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_a_packed_nifti_that_announces_too_much_is_refused_before_memory_is_taken(tmp_path):
    head = np.zeros(352, np.uint8)
    head[:4] = np.frombuffer(np.int32(348).tobytes(), np.uint8)
    head[40:48] = np.frombuffer(np.array([3, 1000, 1000, 1000], "<i2").tobytes(), np.uint8)
    head[70:74] = np.frombuffer(np.array([2, 8], "<i2").tobytes(), np.uint8)
    head[344:347] = np.frombuffer(b"n+1", np.uint8)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(head.tobytes()))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="announces 1,000,000,000 bytes"):
            volume.read(Source("volume", ("a.nii.gz",)), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
