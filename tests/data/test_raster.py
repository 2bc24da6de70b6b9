"""Rasters: every mode, lossless round trips, orientation, alpha, bombs, and damaged bytes."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from medprior.data.readers import raster
from medprior.data.scan import Source
from medprior.errors import DataError

tmp_is_shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))


def write(folder, name, image, **options):
    image.save(folder / name, **options)
    return Source("raster", (name,))


def read(folder, source):
    scan = raster.read(source, folder)
    info = raster.describe(source, folder)
    assert (info.shape, info.channels, info.dtype) == (
        scan.pixels.shape[1:],
        scan.pixels.shape[0],
        scan.pixels.dtype.name,
    )
    return scan.pixels


@tmp_is_shared
@given(pixels=hnp.arrays(np.uint8, sizes), ending=st.sampled_from(["png", "bmp", "tif"]))
def test_grey_8_bit_round_trips(tmp_path, pixels, ending):
    source = write(tmp_path, f"a.{ending}", Image.fromarray(pixels))
    np.testing.assert_array_equal(read(tmp_path, source), pixels[None])


@tmp_is_shared
@given(pixels=hnp.arrays(np.uint16, sizes), ending=st.sampled_from(["png", "tif"]))
def test_grey_16_bit_round_trips(tmp_path, pixels, ending):
    source = write(tmp_path, f"a.{ending}", Image.fromarray(pixels))
    got = read(tmp_path, source)
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, pixels[None])


@tmp_is_shared
@given(
    pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(3))),
    ending=st.sampled_from(["png", "bmp", "tif"]),
)
def test_colour_round_trips(tmp_path, pixels, ending):
    source = write(tmp_path, f"a.{ending}", Image.fromarray(pixels))
    np.testing.assert_array_equal(read(tmp_path, source), np.moveaxis(pixels, -1, 0))


@tmp_is_shared
@given(pixels=hnp.arrays(np.float32, sizes, elements=st.floats(-1e6, 1e6, width=32)))
def test_float_round_trips(tmp_path, pixels):
    source = write(tmp_path, "a.tif", Image.fromarray(pixels))
    np.testing.assert_array_equal(read(tmp_path, source), pixels[None])


HELD = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "tif": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr"],
    "bmp": ["1", "L", "RGB", "RGBA"],
    "jpg": ["L", "RGB", "CMYK", "YCbCr"],
}


@pytest.mark.parametrize(("ending", "mode"), [(ending, mode) for ending, modes in HELD.items() for mode in modes])
def test_every_mode_a_format_can_hold(tmp_path, mode, ending):
    grey = Image.fromarray(np.arange(0, 240, dtype=np.uint8).reshape(12, 20))
    image = grey if mode == "L" else grey.convert("I" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    source = write(tmp_path, f"a.{ending}", image)
    pixels = read(tmp_path, source)
    assert pixels.shape[1:] == (12, 20)
    assert len(pixels) == (3 if mode in ("P", "RGB", "RGBA", "CMYK", "YCbCr") else 1)
    if mode not in ("1", "CMYK"):
        np.testing.assert_allclose(pixels[0].astype(float), np.asarray(grey), atol=12 if ending == "jpg" else 2)


def test_one_bit_becomes_black_and_white(tmp_path):
    bits = np.array([[True, False, True]])
    np.testing.assert_array_equal(read(tmp_path, write(tmp_path, "a.png", Image.fromarray(bits))), [[[255, 0, 255]]])


def test_alpha_is_composited_over_black(tmp_path):
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 51], [200, 100, 50, 0]]], np.uint8)
    got = read(tmp_path, write(tmp_path, "a.png", Image.fromarray(rgba)))
    np.testing.assert_array_equal(got[:, 0].T, [[200, 100, 50], [40, 20, 10], [0, 0, 0]])


@pytest.mark.parametrize("alpha", [0, 255])
def test_alpha_that_says_nothing_is_dropped(tmp_path, alpha):
    la = np.dstack([np.full((3, 4), 77, np.uint8), np.full((3, 4), alpha, np.uint8)])
    assert (read(tmp_path, write(tmp_path, "a.png", Image.fromarray(la))) == 77).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_exif_orientation_is_applied(tmp_path, orientation, ending):
    upright = np.arange(12, dtype=np.uint8).reshape(3, 4)
    # what a camera turned like this stores: the inverse of what EXIF 2.32, tag 0x0112, tells a viewer to do
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = write(tmp_path, f"a.{ending}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(read(tmp_path, source)[0], upright)


def test_pages_of_a_tiff_are_scans_of_their_own(tmp_path):
    pages = [np.full((5, 6), value, np.uint16) for value in (1, 300, 65535)]
    first, *rest = map(Image.fromarray, pages)
    first.save(tmp_path / "stack.tif", save_all=True, append_images=rest)
    sources = raster.group(["stack.tif"], tmp_path)
    assert [source.frame for source in sources] == [0, 1, 2]
    for source, page in zip(sources, pages, strict=True):
        np.testing.assert_array_equal(read(tmp_path, source)[0], page)


def test_a_bomb_is_refused_by_its_header(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(png)
    for act in (raster.read, raster.describe):
        with pytest.raises(DataError, match="larger than 89 megapixels") as refused:
            act(Source("raster", ("bomb.png",)), tmp_path)
        assert refused.value.where == "bomb.png"


def encoded(ending):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8))
    buffer = io.BytesIO()
    image.save(
        buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending), **({"quality": 90} if ending == "jpg" else {})
    )
    return buffer.getvalue()


FILES = {ending: encoded(ending) for ending in ("png", "jpg", "tif", "bmp")}


@pytest.mark.parametrize("ending", FILES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_named_with_the_reason(tmp_path, ending, share):
    data = FILES[ending]
    (tmp_path / "sub").mkdir()
    (tmp_path / f"sub/a.{ending}").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"empty|truncated|damaged") as refused:
        raster.read(Source("raster", (f"sub/a.{ending}",)), tmp_path)
    assert refused.value.where == f"sub/a.{ending}"
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(tmp_is_shared, max_examples=150)
@given(
    ending=st.sampled_from(sorted(FILES)),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    cut=st.none() | st.integers(0, 10**6),
)
def test_damaged_bytes_give_a_scan_or_a_data_error(tmp_path, ending, edits, cut):
    data = bytearray(FILES[ending])
    for place, value in edits:
        data[place % min(len(data), 400)] = value
    (tmp_path / f"a.{ending}").write_bytes(data[: cut % len(data)] if cut is not None else data)
    try:
        for source in raster.group([f"a.{ending}"], tmp_path):
            assert raster.read(source, tmp_path).pixels.ndim == 3
    except DataError as error:
        assert error.where == f"a.{ending}"


@tmp_is_shared
@given(data=st.binary(max_size=200), ending=st.sampled_from(sorted(FILES)))
def test_random_bytes_give_a_data_error(tmp_path, data, ending):
    (tmp_path / f"a.{ending}").write_bytes(data)
    with pytest.raises(DataError):
        [raster.read(source, tmp_path) for source in raster.group([f"a.{ending}"], tmp_path)]


def test_an_absent_file_is_said_to_be_absent(tmp_path):
    with pytest.raises(DataError, match="not there"):
        raster.read(Source("raster", ("a.png",)), tmp_path)


@pytest.mark.parametrize(("bad", "said"), [(1, "1 pixel is"), (3, "3 pixels are")])
def test_values_that_are_no_numbers_are_counted_in_a_tiff(tmp_path, bad, said):
    values = np.arange(12, dtype=np.float32).reshape(3, 4) + 5
    values.flat[:bad] = [np.nan, np.inf, -np.inf][:bad]
    scan = raster.read(write(tmp_path, "a.tif", Image.fromarray(values)), tmp_path)
    assert scan.pixels.min() == scan.pixels.flat[0] == 5 + bad
    assert len(scan.doubts) == 1 and scan.doubts[0].startswith(f"{said} not a number or infinite")
