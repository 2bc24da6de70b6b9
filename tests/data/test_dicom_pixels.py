"""Stored samples to physical values: every encoding and every odd header that is written here."""

import time
import tracemalloc

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medprior.data.readers import dicom
from medprior.data.readers.dicom import syntaxes
from medprior.data.scan import Source
from medprior.errors import DataError

RNG = np.random.default_rng(0)
CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "CR": "1.2.840.10008.5.1.4.1.1.1", "US": "1.2.840.10008.5.1.4.1.1.6.1"}


def image(pixels, *, stored=None, syntax=ExplicitVRLittleEndian, modality="CT", **tags):
    """A data set of pixels (H, W) or (H, W, 3)."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = CLASSES[modality], "1.2.3.4.5", modality
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = pixels.dtype.itemsize * 8
    data.BitsStored = stored or data.BitsAllocated
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(data, name, value)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OB" if data.BitsAllocated == 8 else "OW"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    return data


def pack(data, syntax):
    """Compress a data set in place; GDCM's encoder is left out, for it ends the process on odd sizes."""
    plugin = "pyjpegls" if syntax == JPEGLSLossless else "pylibjpeg"
    data.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)


def save(data, folder, name="a"):
    data.save_as(folder / name, enforce_file_format=True)
    return Source("dicom", (name,))


def read(data, folder):
    """The pixels, which agree with what one look at the file says of them."""
    source = save(data, folder)
    scan, seen = dicom.read(source, folder), dicom.examine("a", folder)
    assert scan.pixels.dtype.name == seen.head.dtype
    assert (scan.pixels.min(), scan.pixels.max()) == (seen.facts[0].quantiles.min(), seen.facts[0].quantiles.max())
    assert scan.window == seen.head.window
    return scan


def signed(bits, shape=(9, 11)):
    return RNG.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape).astype(np.int16 if bits > 8 else np.int8)


def unsigned(bits, shape=(9, 11)):
    return RNG.integers(0, 1 << bits, shape).astype(np.uint16 if bits > 8 else np.uint8)


LARGE = (33, 47)
NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
@pytest.mark.parametrize("values", [signed(16), signed(12), unsigned(12), unsigned(16), unsigned(8), signed(8)],
                         ids=["int16", "12 of 16, signed", "12 of 16", "uint16", "uint8", "int8"])  # fmt: skip
def test_every_plain_encoding_gives_the_same_values(tmp_path, syntax, values):
    scan = read(image(values, syntax=syntax), tmp_path)
    np.testing.assert_array_equal(scan.pixels[0], values)
    assert scan.pixels.dtype == values.dtype


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize(
    "values",
    [signed(16, LARGE), unsigned(12, LARGE), unsigned(8, LARGE), unsigned(8, (*LARGE, 3))],
    ids=["int16", "uint12", "uint8", "RGB"],
)
def test_every_lossless_compression_gives_the_same_values(tmp_path, syntax, values):
    data = image(values, stored=12 if values.dtype == np.uint16 else None)
    pack(data, syntax)
    scan = read(data, tmp_path)
    np.testing.assert_array_equal(scan.pixels, np.moveaxis(values, -1, 0) if values.ndim == 3 else values[None])


def test_fragments_without_offsets_are_put_together(tmp_path):
    values = unsigned(8, (64, 64))
    data = image(values)
    pack(data, JPEGLSLossless)
    (frame,) = pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1)
    data.PixelData = encapsulate([frame], fragments_per_frame=5, has_bot=False)
    np.testing.assert_array_equal(read(data, tmp_path).pixels[0], values)


@pytest.mark.parametrize("slope, intercept, dtype", [(1, -1024, "int16"), (2, 3, "int32"), (0.5, 0, "float32")])
def test_values_are_rescaled_and_stay_whole_where_they_are(tmp_path, slope, intercept, dtype):
    values = np.array([[0, 1], [20000, 30000]], np.int16)
    scan = read(
        image(values, RescaleSlope=slope, RescaleIntercept=intercept, WindowCenter=[40, 1], WindowWidth=[400, 2]),
        tmp_path,
    )
    np.testing.assert_array_equal(scan.pixels[0], values * float(slope) + intercept)
    assert scan.pixels.dtype == dtype and scan.window == (40, 400)


@settings(deadline=None, max_examples=60)
@given(bits=st.integers(1, 16), is_signed=st.booleans(), slope=st.sampled_from([1, 3, 0.25, -1]),
       intercept=st.sampled_from([0, -1024, 7.5, 40000]), inverted=st.booleans(), seed=st.integers(0, 99))  # fmt: skip
def test_any_bits_slope_and_sign_give_the_formula(tmp_path_factory, bits, is_signed, slope, intercept, inverted, seed):
    """v -> slope * v + intercept; MONOCHROME1 reflects v within its stored bits first."""
    folder = tmp_path_factory.mktemp("any")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if is_signed else (0, (1 << bits) - 1)
    values = np.random.default_rng(seed).integers(low, high + 1, (3, 4)).astype(np.int16 if is_signed else np.uint16)
    data = image(values, stored=bits, RescaleSlope=slope, RescaleIntercept=intercept)
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    expected = (low + high - values.astype(float) if inverted else values.astype(float)) * slope + intercept
    np.testing.assert_array_equal(read(data, folder).pixels[0], expected)


def test_overlay_bits_are_masked(tmp_path):
    values = unsigned(12)
    np.testing.assert_array_equal(read(image(values | 0xA000, stored=12), tmp_path).pixels[0], values)


def test_bits_that_do_not_begin_at_the_lowest_are_shifted(tmp_path):
    values = unsigned(12)
    scan = read(image(values << 4, stored=12, HighBit=15), tmp_path)
    np.testing.assert_array_equal(scan.pixels[0], values)


def test_monochrome1_turns_values_window_and_leaves_padding_dark(tmp_path):
    values = np.array([[0, 4095], [100, 65535]], np.uint16)
    data = image(values, stored=12, modality="CR", WindowCenter=1000, WindowWidth=500, PixelPaddingValue=65535)
    data.PhotometricInterpretation = "MONOCHROME1"
    scan = read(data, tmp_path)
    assert scan.pixels[0].tolist() == [[4095, 0], [3995, 0]] and scan.window == (3095, 500)


def test_a_modality_table_is_looked_up(tmp_path):
    table = Dataset()
    table.add_new(0x00283002, "US", [4, 10, 16])
    table.ModalityLUTType = "HU"
    table.add_new(0x00283006, "US", [5, 50, 500, 5000])
    data = image(np.array([[0, 10], [12, 99]], np.uint16), modality="CR", ModalityLUTSequence=Sequence([table]))
    assert read(data, tmp_path).pixels[0].tolist() == [[5, 5], [500, 5000]]  # beyond its ends the table's ends hold


@pytest.mark.parametrize("wide", [True, False])
def test_a_palette_becomes_colours(tmp_path, wide):
    index = np.array([[0, 1], [2, 1]], np.uint8)
    colours = np.array([[0, 10, 255], [7, 20, 128], [9, 30, 1]], np.uint16)
    data = image(index, modality="US", PhotometricInterpretation="PALETTE COLOR")
    for name, row in zip(("Red", "Green", "Blue"), colours, strict=True):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [3, 0, 16])
        setattr(data, f"{name}PaletteColorLookupTableData", (row * (257 if wide else 1)).astype("<u2").tobytes())
    np.testing.assert_array_equal(read(data, tmp_path).pixels, colours[:, index])


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("space", ["RGB", "YBR_FULL"])
def test_colours_are_rgb_whatever_the_plane_and_space(tmp_path, planar, space):
    values = unsigned(8, (6, 8, 3))
    stored = np.moveaxis(values, -1, 0).reshape(6, 8, 3) if planar else values
    data = image(stored, modality="US", PhotometricInterpretation=space)
    data.PlanarConfiguration = planar
    expected = values if space == "RGB" else pydicom.pixels.convert_color_space(values, "YBR_FULL", "RGB")
    assert np.abs(read(data, tmp_path).pixels - np.moveaxis(expected, -1, 0).astype(int)).max() <= 1


def test_subsampled_colour_is_spread(tmp_path):
    luma, blue, red = unsigned(8, (4, 6)), np.full((4, 6), 100, np.uint8), np.full((4, 6), 150, np.uint8)
    packed = np.stack([luma[:, ::2], luma[:, 1::2], blue[:, ::2], red[:, ::2]], -1).tobytes()
    data = image(np.stack([luma, blue, red], -1), modality="US", PhotometricInterpretation="YBR_FULL_422")
    data.PixelData = packed
    full = pydicom.pixels.convert_color_space(np.stack([luma, blue, red], -1), "YBR_FULL", "RGB")
    assert np.abs(read(data, tmp_path).pixels - np.moveaxis(full, -1, 0).astype(int)).max() <= 1


@pytest.mark.parametrize("name, dtype", [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)])
def test_float_pixels(tmp_path, name, dtype):
    values = RNG.normal(size=(3, 4)).astype(dtype)
    values[0, 0] = np.nan
    data = image(np.zeros((3, 4), np.uint16), BitsAllocated=values.dtype.itemsize * 8)
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    setattr(data, name, values.tobytes())
    scan = read(data, tmp_path)
    values[0, 0] = np.nanmin(values)
    np.testing.assert_array_equal(scan.pixels[0], values.astype(np.float32))


@pytest.mark.parametrize("shape", [(8, 8), (7, 5)])
def test_single_bits_follow_each_other_without_a_gap(tmp_path, shape):
    bits = RNG.integers(0, 2, (3, *shape)).astype(np.uint8)
    data = image(bits[0], modality="US", NumberOfFrames=3, BitsAllocated=1, BitsStored=1, HighBit=0)
    data.PixelData = pydicom.pixels.pack_bits(bits)
    save(data, tmp_path)
    found = [dicom.read(Source("dicom", ("a",), frame=n), tmp_path).pixels[0] for n in range(3)]
    np.testing.assert_array_equal(found, bits * 255)


def bare(data, explicit=True, little=True):
    """Without preamble and meta header."""
    import io

    stream = io.BytesIO()
    data.file_meta = FileMetaDataset()
    pydicom.dcmwrite(stream, data, implicit_vr=not explicit, little_endian=little, enforce_file_format=False)
    return stream.getvalue()


@pytest.mark.parametrize("explicit, little", [(True, True), (False, True), (True, False)])
def test_files_without_preamble_and_meta_header_are_found_and_read(tmp_path, explicit, little):
    values = signed(12)
    (tmp_path / "1.2.840.113619").write_bytes(
        bare(image(values, syntax=ExplicitVRLittleEndian if little else ExplicitVRBigEndian), explicit, little)
    )
    assert dicom.is_dicom(tmp_path / "1.2.840.113619")
    scan = dicom.read(Source("dicom", ("1.2.840.113619",)), tmp_path)
    np.testing.assert_array_equal(scan.pixels[0], values)


def test_the_meta_header_without_a_preamble_is_enough(tmp_path):
    save(image(signed(12)), tmp_path)
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes()[132:])
    assert dicom.is_dicom(tmp_path / "b")
    assert dicom.examine("b", tmp_path).facts[0].hash == dicom.examine("a", tmp_path).facts[0].hash


OTHERS = [b"", b"DICM", b"\x89PNG\r\n\x1a\n" + b"\0" * 200, b"id,label\n" * 40, b"\x08\x00", b"II*\0\x08\0\0\0" * 20]
OTHERS += [b"\x5c\x01\0\0" + b"\0" * 400, b"\x08\x00ab" + b"\xff" * 200, bytes(400)]


@pytest.mark.parametrize("content", OTHERS)
def test_other_files_are_no_dicom(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert not dicom.is_dicom(tmp_path / "x")


@pytest.mark.parametrize(
    "last, words", [("102", "ffmpeg and PyAV"), ("112", "imagecodecs"), ("201", None), ("92", "Kakadu")]
)
def test_syntaxes_are_checked_by_name(last, words):
    if words is None:
        syntaxes.check(f"1.2.840.10008.1.2.4.{last}")
    else:
        with pytest.raises(DataError) as error:
            syntaxes.check(f"1.2.840.10008.1.2.4.{last}")
        assert words in str(error.value)


def test_the_name_and_package_of_an_unreadable_syntax_are_said(tmp_path):
    helpers = {"94": "server", "92": "Kakadu"}
    for uid, words in [(f"1.2.840.10008.1.2.4.{n}", words) for n, words in helpers.items()] + [("1.2.3.999", "GDCM")]:
        data = image(unsigned(8))
        data.PixelData = encapsulate([b"\0\1\2\3"])
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = JPEG2000Lossless
        save(data, tmp_path)
        raw = (tmp_path / "a").read_bytes()
        (tmp_path / "a").write_bytes(raw.replace(b"1.2.840.10008.1.2.4.90", uid.encode().ljust(22, b"\0")))
        with pytest.raises(DataError) as error:
            dicom.examine("a", tmp_path)
        assert uid in error.value.what and words in str(error.value.do)


@pytest.mark.parametrize("change, words", [
    ({"Rows": 0}, "no image"), ({"Rows": 4000}, "truncated"), ({"NumberOfFrames": 2}, "truncated"),
    ({"SamplesPerPixel": 2}, "samples per pixel"), ({"BitsAllocated": 12}, "12 bits"),
    ({"BitsStored": 40}, "cannot be"),
    ({"Rows": 65535, "Columns": 65535}, "more than"), ({"NumberOfFrames": 2147483647}, "more than"),
])  # fmt: skip
def test_headers_that_make_no_image_are_refused_before_memory_is_taken(tmp_path, change, words):
    source = save(image(unsigned(16), **change), tmp_path)
    tracemalloc.start()
    with pytest.raises(DataError, match=words):
        dicom.examine("a", tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    with pytest.raises(DataError, match=words):
        dicom.read(source, tmp_path)


def test_a_compressed_picture_of_another_size_is_refused(tmp_path):
    data = image(unsigned(8, (32, 32)))
    pack(data, JPEG2000Lossless)
    data.Rows = 16
    save(data, tmp_path)
    with pytest.raises(DataError, match="the compressed picture is 32 x 32"):
        dicom.examine("a", tmp_path)


def test_truncated_pixels_are_refused_at_every_length(tmp_path):
    for compress in (None, RLELossless, JPEG2000Lossless, JPEGLSLossless):
        data = image(unsigned(8, (32, 32)))
        if compress:
            pack(data, compress)
        save(data, tmp_path)
        whole = (tmp_path / "a").read_bytes()
        for keep in range(60, len(whole) - 100, 97):
            (tmp_path / "a").write_bytes(whole[:keep])
            try:
                seen = dicom.examine("a", tmp_path)
            except DataError:
                continue
            assert seen.note is not None, (compress, keep, len(whole))


def test_sequences_without_end_and_a_deflated_bomb_are_refused(tmp_path):
    import zlib

    head = b"\x08\x00\x05\x00CS\x02\x00  "
    level = b"\x08\x00\x40\x11SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    deep = head + level * 50000
    (tmp_path / "deep").write_bytes(bytes(128) + b"DICM" + deep)
    with pytest.raises(DataError):
        dicom.examine("deep", tmp_path)
    save(image(unsigned(8), syntax=DeflatedExplicitVRLittleEndian), tmp_path)
    raw = (tmp_path / "a").read_bytes()
    start = raw.index(b"1.2.840.10008.1.2.1.99") + 22
    while raw[start : start + 2] == b"\x02\x00":
        start += 8 + int.from_bytes(raw[start + 6 : start + 8], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = raw[:start] + part * 40
    (tmp_path / "bomb").write_bytes(bomb)
    with pytest.raises(DataError, match="unpacks to more than"):
        dicom.examine("bomb", tmp_path)


@pytest.mark.parametrize("uid, words", [
    ("1.2.840.10008.5.1.4.1.1.88.22", "Enhanced SR"), ("1.2.840.10008.5.1.4.1.1.481.3", "RT Structure Set"),
    ("1.2.840.10008.5.1.4.1.1.11.1", "Presentation State"), ("1.2.840.10008.5.1.4.1.1.9.1.1", "ECG"),
    ("1.2.840.10008.5.1.4.1.1.104.1", "PDF"), ("1.2.840.10008.1.3.10", "Directory"), ("1.3.12.2.1107.5.9.1", "private"),
])  # fmt: skip
def test_objects_without_an_image_are_named_not_failed(tmp_path, uid, words):
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.PatientID = uid, "1.2.3", "p"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    save(data, tmp_path)
    (note,) = dicom.assemble([dicom.examine("a", tmp_path)]).notes
    assert note.kind == "no image" and words in note.reason


def test_a_dose_is_no_image(tmp_path):
    data = image(unsigned(16), SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2")
    save(data, tmp_path)
    assert "dose" in dicom.examine("a", tmp_path).note.reason


@settings(deadline=None, max_examples=300)
@given(seed=st.integers(0, 2**32 - 1))
def test_damaged_files_raise_only_what_is_promised(tmp_path_factory, seed):
    random = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("damaged")
    data = image(unsigned(12, LARGE), stored=12, RescaleSlope=1, RescaleIntercept=-1024, ImageType=["A", "B"])
    if seed % 3:
        pack(data, [RLELossless, JPEG2000Lossless][seed % 2])
    save(data, folder)
    raw = bytearray((folder / "a").read_bytes())
    for _ in range(random.integers(1, 12)):
        raw[random.integers(132, len(raw))] = random.integers(0, 256)
    (folder / "a").write_bytes(raw[: random.integers(100, len(raw) + 1)] if seed % 5 == 0 else raw)
    try:
        dicom.assemble([dicom.examine("a", folder)])
    except DataError as error:
        assert error.where == "a" and str(folder) not in str(error)


@pytest.mark.data
def test_a_stream_that_ends_gdcm_is_a_refused_file_and_the_next_is_read(tmp_path, real_data):
    """Noise in 12-bit JPEG makes GDCM abort; it does so in a process of its own."""
    name = "CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm"
    whole = (real_data / "dicom-ingest" / "cornerstone" / name).read_bytes()
    (tmp_path / "whole").write_bytes(whole)
    random, refused = np.random.default_rng(0), 0
    for _ in range(4):
        raw = bytearray(whole)
        for place in random.integers(len(raw) - 70000, len(raw) - 200, 30):
            raw[place] = random.integers(0, 256)
        (tmp_path / "a").write_bytes(raw)
        try:
            dicom.examine("a", tmp_path)
        except DataError as error:
            refused += "damaged" in error.what
        assert dicom.examine("whole", tmp_path).head.dtype == "float32"
    assert refused


def test_frames_that_need_more_bits_than_others_are_described_as_they_are_read(tmp_path):
    frames = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 30000]]], np.uint16)
    data = image(frames[0], modality="US", NumberOfFrames=2, RescaleSlope=2, RescaleIntercept=-4)
    data.PixelData = frames.tobytes()
    save(data, tmp_path)
    assembled = dicom.assemble([dicom.examine("a", tmp_path)]).scans
    assert [one.info.dtype for one in assembled] == ["int16", "int32"]
    for one, values in zip(assembled, frames, strict=True):
        scan, info = dicom.read(one.source, tmp_path), dicom.describe(one.source, tmp_path)
        np.testing.assert_array_equal(scan.pixels[0], values.astype(int) * 2 - 4)
        assert scan.pixels.dtype.name == one.info.dtype == info.dtype


def test_a_compressed_frame_of_too_many_samples_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("medprior.data.readers.dicom.decoding.MOST_UNPACKED", 33 * 47 - 1)
    data = image(unsigned(8, LARGE))
    pack(data, JPEG2000Lossless)
    source = save(data, tmp_path)
    with pytest.raises(DataError, match="33 x 47 x 1 samples, more than 1,550"):
        dicom.read(source, tmp_path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_few_bytes_cannot_announce_a_million_frames(tmp_path, syntax):
    """Each frame takes its time even where it holds nothing."""
    data = image(unsigned(8, (16, 16)), modality="US")
    if syntax == RLELossless:
        pack(data, syntax)
    data.NumberOfFrames = 1_000_000
    save(data, tmp_path)
    for look in (dicom.examine, lambda name, folder: dicom.group([name], folder)):
        begin = time.process_time()
        with pytest.raises(DataError, match=r"truncated: 1,000,000 frames are announced, [0-9]+ bytes are there"):
            look("a", tmp_path)
        assert time.process_time() - begin < 1


def test_more_frames_than_one_file_may_hold_are_refused(tmp_path):
    data = image(np.ones((1, 1), np.uint8), modality="US", NumberOfFrames=2**16 + 2)
    data.PixelData = bytes(2**16 + 2)
    save(data, tmp_path)
    with pytest.raises(DataError, match="65,538 frames, more than 65,536"):
        dicom.examine("a", tmp_path)


@pytest.mark.parametrize(("kind", "said"), [("JPEG", r"a JPEG image.* to \.jpg"), ("PNG", r"a PNG image.* to \.png")])
def test_a_picture_that_is_named_as_dicom_is_called_what_it_is(tmp_path, kind, said):
    with (tmp_path / "a.dcm").open("wb") as file:
        Image.fromarray(unsigned(8)).save(file, kind)
    with pytest.raises(DataError, match=said):
        dicom.examine("a.dcm", tmp_path)
