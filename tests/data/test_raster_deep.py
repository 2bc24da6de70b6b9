"""Values of 16 and 32 bits, in colour too, against writers and readers that are not Pillow."""

import itertools
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medprior.data.readers import raster
from medprior.data.scan import Source
from medprior.errors import DataError

tmp_is_shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)

RGB = np.random.default_rng(0).integers(0, 65536, (20, 31, 3)).astype(np.uint16)
CHANNELS_FIRST = np.moveaxis(RGB, -1, 0)


def read(folder, name):
    source = Source("raster", (name,))
    scan, info = raster.read(source, folder), raster.describe(source, folder)
    assert (info.shape, info.channels, info.dtype) == (
        scan.pixels.shape[1:],
        len(scan.pixels),
        scan.pixels.dtype.name,
    )
    assert info.doubts == scan.doubts
    return scan


def png(values, interlaced=False):
    """(H, W, C) uint16 as PNG, written by hand after the specification."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [values[y::down, x::right].astype(">u2") for x, y, right, down in passes]
    data = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, interlaced)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@tmp_is_shared
@given(
    values=hnp.arrays(np.uint16, st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3]))),
    interlaced=st.booleans(),
    opaque=st.booleans(),
)
def test_png_keeps_16_bits(tmp_path, values, interlaced, opaque):
    stored = np.concatenate([values, np.full_like(values[..., :1], 65535)], -1) if opaque else values
    (tmp_path / "a.png").write_bytes(png(stored, interlaced))
    pixels = read(tmp_path, "a.png").pixels
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, np.moveaxis(values, -1, 0))


def test_alpha_of_16_bits_is_composited_over_black(tmp_path):
    (tmp_path / "a.png").write_bytes(png(np.array([[[60000, 30000, 7, a] for a in (65535, 6553, 0)]], np.uint16)))
    got = read(tmp_path, "a.png").pixels
    np.testing.assert_array_equal(got[:, 0].T, [[60000, 30000, 7], [6000, 3000, 1], [0, 0, 0]])


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_colour_that_another_program_wrote(tmp_path, ending):
    image = sitk.GetImageFromArray(RGB, isVector=True)
    for packing in ("Deflate", "LZW", "PackBits", "NoCompression") if ending == "tif" else ("",):
        sitk.WriteImage(image, str(tmp_path / f"a.{ending}"), packing not in ("", "NoCompression"), compressor=packing)
        np.testing.assert_array_equal(read(tmp_path, f"a.{ending}").pixels, CHANNELS_FIRST)


LAYOUTS = list(itertools.product([None, "zlib"], "<>", [None, (16, 16)]))


@pytest.mark.parametrize(("packing", "order", "tile"), LAYOUTS)
@pytest.mark.parametrize("extra", [None, "assocalpha", "unassalpha", "unspecified"])
def test_tiff_keeps_16_bits_of_colour(tmp_path, packing, order, tile, extra):
    alpha = np.full_like(RGB[..., :1], 65535) if extra != "assocalpha" else RGB[..., :1]
    stored = RGB if extra is None else np.concatenate([RGB, alpha], -1)
    more = {} if extra is None else {"extrasamples": [extra]}
    options = {"compression": packing, "byteorder": order, "tile": tile}
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **options, **more)
    np.testing.assert_array_equal(read(tmp_path, "a.tif").pixels, CHANNELS_FIRST)


@pytest.mark.parametrize(("packing", "order", "tile"), LAYOUTS)
def test_planes_of_16_bits_are_whole_or_doubted(tmp_path, packing, order, tile):
    options = {"compression": packing, "byteorder": order, "tile": tile, "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "a.tif", CHANNELS_FIRST, photometric="rgb", **options)
    scan = read(tmp_path, "a.tif")
    if packing is None:
        np.testing.assert_array_equal(scan.pixels, CHANNELS_FIRST)
    else:
        np.testing.assert_array_equal(scan.pixels, CHANNELS_FIRST >> 8)
        assert scan.doubts == ("its colours of 16 bits are read at 8 bits",)


@pytest.mark.parametrize(("packing", "order", "tile"), LAYOUTS)
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "f4"])
def test_every_type_of_grey_is_right_or_refused(tmp_path, packing, order, tile, kind):
    """Also signs, and compressed values of the other order of bytes, which Pillow alone mistakes."""
    dtype = np.dtype(kind)
    low, high = (-1000, 1000) if kind == "f4" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = np.random.default_rng(0).uniform(low, high, (20, 31)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, compression=packing, byteorder=order, tile=tile)
    if kind == "u4" and order == ">":
        with pytest.raises(DataError, match="values that are not read"):
            read(tmp_path, "a.tif")
    else:
        np.testing.assert_array_equal(read(tmp_path, "a.tif").pixels[0], values)


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("packing", [None, "zlib"])
def test_white_that_is_zero_is_turned(tmp_path, kind, packing):
    values = np.arange(0, 250, 5).reshape(5, 10).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite", compression=packing)
    np.testing.assert_array_equal(read(tmp_path, "a.tif").pixels[0], np.iinfo(kind).max - values)


@pytest.mark.parametrize("kind", ["f8", "u8", "c8"])
def test_values_that_are_not_read_are_said_to_be(tmp_path, kind):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 6), kind))
    with pytest.raises(DataError, match="values that are not read"):
        raster.read(Source("raster", ("a.tif",)), tmp_path)


def test_a_tiff_without_its_pixels_takes_no_memory(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", metadata=None)
    data = (tmp_path / "a.tif").read_bytes()
    for side in (struct.pack("<HHII", 256, 4, 1, 31), struct.pack("<HHII", 257, 4, 1, 20)):
        assert side in data
        data = data.replace(side, side[:8] + struct.pack("<I", 9000))
    (tmp_path / "a.tif").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more pixels than it has bytes for"):
            raster.read(Source("raster", ("a.tif",)), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
