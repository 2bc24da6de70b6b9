"""Pages of a TIFF: a volume where ImageJ or OME says so, else images; spacing only from them."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from medprior.data.readers import raster
from medprior.data.scan import Source

ZYX = np.random.default_rng(0).integers(0, 60000, (5, 6, 7)).astype(np.uint16)


def read(folder, source):
    scan, info = raster.read(source, folder), raster.describe(source, folder)
    assert (info.shape, info.channels, info.dtype) == (
        scan.pixels.shape[1:],
        len(scan.pixels),
        scan.pixels.dtype.name,
    )
    assert (info.spacing, info.doubts) == (scan.spacing, scan.doubts)
    return scan


def only(folder, name="a.tif"):
    (source,) = raster.group([name], folder)
    return read(folder, source)


@pytest.mark.parametrize(
    ("unit", "factor"), [("um", 0.001), ("micron", 0.001), ("\\u00B5m", 0.001), ("mm", 1), ("cm", 10), ("nm", 1e-6)]
)
def test_an_imagej_stack_is_a_volume_with_spacing(tmp_path, unit, factor):
    metadata = {"axes": "ZYX", "spacing": 2.5, "unit": unit}
    tifffile.imwrite(tmp_path / "a.tif", ZYX, imagej=True, resolution=(4, 2), metadata=metadata)
    (source,) = raster.group(["a.tif"], tmp_path)
    assert (source.frame, source.frames) == (-1, (0, 1, 2, 3, 4))
    scan = read(tmp_path, source)
    np.testing.assert_array_equal(scan.pixels[0], ZYX)
    assert scan.spacing == pytest.approx((2.5 * factor, 0.5 * factor, 0.25 * factor))
    assert (scan.orientation, scan.affine) == (None, None)


@pytest.mark.parametrize("unit", ["inch", "pixel", ""])
def test_units_that_measure_nothing_give_no_spacing(tmp_path, unit):
    tifffile.imwrite(
        tmp_path / "a.tif", ZYX, imagej=True, resolution=(72, 72), metadata={"axes": "ZYX", "spacing": 1, "unit": unit}
    )
    assert only(tmp_path).spacing is None


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_channels_of_a_stack_come_first(tmp_path, kind):
    zcyx = np.random.default_rng(0).integers(0, 250, (4, 3, 6, 7)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", zcyx, **{kind: True}, metadata={"axes": "ZCYX"}, photometric="minisblack")
    np.testing.assert_array_equal(only(tmp_path).pixels, zcyx.swapaxes(0, 1))


def test_slices_may_follow_each_other_channel_by_channel(tmp_path):
    czyx = np.random.default_rng(0).integers(0, 250, (3, 4, 6, 7)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", czyx, ome=True, metadata={"axes": "CZYX"}, photometric="minisblack")
    np.testing.assert_array_equal(only(tmp_path).pixels, czyx)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_stack_of_colours(tmp_path, dtype):
    zyxc = np.random.default_rng(0).integers(0, 250, (4, 6, 7, 3)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", zyxc, ome=True, metadata={"axes": "ZYXS"}, photometric="rgb")
    scan = only(tmp_path)
    assert scan.pixels.dtype == dtype
    np.testing.assert_array_equal(scan.pixels, np.moveaxis(zyxc, -1, 0))


@pytest.mark.parametrize(("unit", "factor"), [("µm", 0.001), ("mm", 1), ("nm", 1e-6)])
def test_an_ome_stack_is_a_volume_with_spacing(tmp_path, unit, factor):
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("XYZ", (0.5, 0.75, 2), strict=True)}
    units = {f"{name}Unit": unit for name in sizes}
    tifffile.imwrite(tmp_path / "a.tif", ZYX, ome=True, metadata={"axes": "ZYX"} | sizes | units)
    scan = only(tmp_path)
    np.testing.assert_array_equal(scan.pixels[0], ZYX)
    assert scan.spacing == pytest.approx((2 * factor, 0.75 * factor, 0.5 * factor))


def test_floats_stay_floats(tmp_path):
    values = ZYX.astype(np.float32) / 7
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(only(tmp_path).pixels[0], values)


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_a_time_series_is_a_set_of_images(tmp_path, kind):
    tifffile.imwrite(tmp_path / "a.tif", ZYX, **{kind: True}, metadata={"axes": "TYX"})
    sources = raster.group(["a.tif"], tmp_path)
    assert [source.frame for source in sources] == [0, 1, 2, 3, 4]
    for source, page in zip(sources, ZYX, strict=True):
        np.testing.assert_array_equal(read(tmp_path, source).pixels[0], page)


def test_pages_that_nobody_explains_are_images(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", ZYX, metadata=None, resolution=(300, 300), resolutionunit="INCH")
    sources = raster.group(["a.tif"], tmp_path)
    assert len(sources) == 5
    assert read(tmp_path, sources[0]).spacing is None


@pytest.mark.parametrize(
    "text", ["ImageJ=1.5\nslices=4\n", "ImageJ=1.5\nslices=99999999999999\n", "ImageJ=\nslices=x\n"]
)
def test_metadata_that_does_not_fit_makes_no_volume(tmp_path, text):
    tifffile.imwrite(tmp_path / "a.tif", ZYX, metadata=None, description=text)
    assert len(raster.group(["a.tif"], tmp_path)) == 5


def test_pages_that_are_not_alike_make_no_volume(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(ZYX[0], metadata=None, description="ImageJ=1.5\nimages=2\nslices=2\n")
        tif.write(ZYX[0].astype(np.uint8), metadata=None)
    assert [source.frame for source in raster.group(["a.tif"], tmp_path)] == [0, 1]


def test_smaller_copies_are_passed_by(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page, kind in ((ZYX[0], 0), (ZYX[0, ::2, ::2], 1), (ZYX[1], 0), (ZYX[1] // 999, 1)):
            tif.write(page, metadata=None, subfiletype=kind, photometric="minisblack")
    sources = raster.group(["a.tif"], tmp_path)
    assert [source.frame for source in sources] == [0, 2]
    np.testing.assert_array_equal(read(tmp_path, sources[1]).pixels[0], ZYX[1])


def test_a_flat_image_of_imagej_has_spacing_too(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", ZYX[0], imagej=True, resolution=(4, 2), metadata={"unit": "mm"})
    assert only(tmp_path).spacing == pytest.approx((0.5, 0.25))


def test_entities_of_xml_are_not_followed(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b "cccc">]><OME><Pixels SizeZ="&b;" SizeC="1"/></OME>'
    tifffile.imwrite(tmp_path / "a.tif", ZYX, metadata=None, description=bomb)
    assert len(raster.group(["a.tif"], tmp_path)) == 5


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_of_an_animation_the_first_picture_is_read(tmp_path, ending):
    pictures = [Image.fromarray(np.full((8, 9), value, np.uint8)) for value in (200, 100, 0)]
    options = {"lossless": True} if ending == "webp" else {}
    pictures[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=pictures[1:], **options)
    scan = read(tmp_path, Source("raster", (f"a.{ending}",)))
    assert (scan.pixels == 200).all()
    assert scan.doubts == ("it is an animation, of which the first picture is read",)


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_a_still_picture_raises_no_doubt(tmp_path, ending):
    Image.fromarray(np.full((8, 9, 3), 77, np.uint8)).save(tmp_path / f"a.{ending}", quality=100)
    scan = read(tmp_path, Source("raster", (f"a.{ending}",)))
    assert abs(scan.pixels.astype(int) - 77).max() <= 1
    assert scan.doubts == ()
