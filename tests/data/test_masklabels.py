"""Masks against their images, and their pixels as classes."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from medprior.data import readers
from medprior.data.annotations.masklabels import (
    ImageFacts,
    MaskFacts,
    check_mask,
    class_values,
    label_values,
    mask_facts,
    read_labels,
    written_values,
)
from medprior.data.annotations.masks import pair_masks
from medprior.data.scan import Scan, Source
from medprior.errors import DataError


def scan(pixels, **more):
    return Scan(np.asarray(pixels), "m.png", **more)


def place(spacing=(1, 1, 1), origin=(0, 0, 0)):
    return tuple(np.column_stack([np.diag(spacing), origin]).ravel().tolist())


def test_a_fitting_mask_is_used_without_a_word():
    for values in ((0.0, 1.0), (0, 255), (0, 1, 2), (5, 7)):
        check = check_mask(ImageFacts((4, 5, 6), place()), MaskFacts((4, 5, 6), place(), values))
        assert check.usable and check.doubts == ()


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((6, 4), "turned"), ((8, 12), "another resolution"), ((4, 7), "4 x 7"), ((2, 4, 6), "2 x 4 x 6")],
)
def test_another_shape_is_refused(shape, reason):
    check = check_mask(ImageFacts((4, 6)), MaskFacts(shape, None, (0, 1)))
    assert not check.usable and reason in check.refused[0]


@pytest.mark.parametrize("edge", [0.01, 0.7, 5.0])
def test_place_is_checked_to_a_tenth_of_a_voxel(edge):
    image = ImageFacts((4, 5, 6), place((edge,) * 3, (-100, 20, 3)))
    near = MaskFacts(image.shape, place((edge,) * 3, (-100 + 0.09 * edge, 20, 3)), (0, 1))
    far = MaskFacts(image.shape, place((edge,) * 3, (-100 + 0.11 * edge, 20, 3)), (0, 1))
    assert check_mask(image, near).usable and not check_mask(image, far).usable


def test_a_mask_that_is_turned_about_its_first_voxel_is_refused():
    turned = np.array(place()).reshape(3, 4)[[1, 0, 2]].ravel()
    assert not check_mask(ImageFacts((5, 5, 5), place()), MaskFacts((5, 5, 5), tuple(turned), (0, 1))).usable


def test_an_unknown_place_is_said():
    check = check_mask(ImageFacts((5, 5, 5), place()), MaskFacts((5, 5, 5), None, (0, 1)))
    assert check.usable and "unknown" in check.doubts[0]


def test_values_that_are_no_classes_are_refused():
    for values in ((), (0, 0.5, 1), (-1, 0, 1), tuple(range(17))):
        assert not check_mask(ImageFacts((4, 6)), MaskFacts((4, 6), None, values)).usable
    assert check_mask(ImageFacts((4, 6, 6)), MaskFacts((4, 6, 6), None, tuple(range(118)))).usable


def test_odd_values_are_said():
    for values, said in (((1,), "every pixel"), ((0, 1, 255), "not judged")):
        check = check_mask(ImageFacts((4, 6)), MaskFacts((4, 6), None, values))
        assert check.usable and said in check.doubts[0]


kinds = st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9), elements=st.integers(0, 6)), kinds)
def test_any_values_come_back_as_places(classes, dtype):
    levels = np.array([0, 2, 3, 50, 90, 101, 127])
    mask = scan(levels[classes][None].astype(dtype))
    assert label_values(mask) == tuple(np.unique(levels[classes]).tolist())
    labels = read_labels(mask, tuple(levels))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, classes)


@given(hnp.arrays(np.uint8, (7, 8), elements=st.integers(0, 1)), st.sampled_from([1, 255]))
def test_two_tones_are_two_classes_however_written(classes, white):
    classes.flat[:2] = 0, 1
    mask = scan((classes * white)[None].astype(np.uint8))
    assert class_values([label_values(mask), (0, 1), (0, 255)]) == (0, 1)
    np.testing.assert_array_equal(read_labels(mask, (0, 1)), classes)


def test_a_white_mask_is_all_foreground():
    mask = scan(np.full((1, 7, 8), 255, np.uint8))
    classes = class_values([label_values(mask), (0, 255)])
    assert classes == (0, 1) and (read_labels(mask, classes) == 1).all()


@pytest.mark.parametrize(
    ("masks", "written"),
    [
        ([(0, 255), (255,), (0,)], (0, 255)),
        ([(0, 1), (0,)], (0, 1)),
        ([(0, 1), (0, 255)], (0, 1)),
        ([(0, 128, 255)], (0, 128, 255)),
    ],
)
def test_outlines_are_written_as_their_masks_were(masks, written):
    assert written_values(masks) == written


def blob(size=64):
    y, x = np.mgrid[:size, :size] - size / 2
    return (x**2 + y**2 < (size / 3) ** 2).astype(np.uint8)


def jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def test_a_mask_saved_with_loss_is_cut_at_half_and_said():
    lossy = jpeg(blob() * np.uint8(255), 90)
    facts = mask_facts(scan(lossy[None]))
    assert len(np.unique(lossy)) > 16 and facts.values == (0, 255)
    assert "loss" in check_mask(ImageFacts((64, 64)), facts).doubts[0]
    labels = read_labels(scan(lossy[None]), class_values([facts.values]))
    assert (labels != blob()).mean() < 0.005


def test_a_rare_grey_is_a_class():
    pixels = blob() * np.uint8(255)
    pixels[:3, :3] = 128
    assert label_values(scan(pixels[None])) == (0, 128, 255)
    np.testing.assert_array_equal(np.unique(read_labels(scan(pixels[None]), (0, 128, 255))), [0, 1, 2])


def test_pictures_are_no_masks():
    picture = np.random.default_rng(0).integers(0, 255, (1, 64, 64)).astype(np.uint16) * 7
    facts = mask_facts(scan(picture))
    assert len(facts.values) > 16 and not check_mask(ImageFacts((64, 64)), facts).usable


def test_colours_are_classes_in_the_order_of_red_green_blue():
    palette = np.array([[0, 0, 0], [0, 128, 0], [128, 0, 0]], np.uint8)
    classes = np.arange(12).reshape(3, 4) % 3
    mask = scan(palette[classes].transpose(2, 0, 1))
    assert label_values(mask) == (0, 0x008000, 0x800000)
    np.testing.assert_array_equal(read_labels(mask, label_values(mask)), classes)
    grey = scan(np.repeat(blob()[None], 3, axis=0))
    np.testing.assert_array_equal(read_labels(grey, (0, 1)), blob())


def test_a_channel_for_each_class_is_not_one_grey_mask():
    """Channels of 0 and 1 differ by no more than JPEG leaves between those of a grey picture."""
    channels = np.stack([blob(), 1 - blob()])
    with pytest.raises(DataError, match="2 channels"):
        label_values(scan(channels))
    assert label_values(scan(np.stack([blob(), blob()]))) == (0, 1)
    assert label_values(scan(np.stack([blob(), 0 * blob(), 1 - blob()]))) == (0x000001, 0x010000)


def test_many_classes_need_two_bytes():
    pixels = np.arange(600, dtype=np.uint16).reshape(1, 20, 30)
    labels = read_labels(scan(pixels), range(600))
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, pixels[0])


@pytest.mark.parametrize(
    ("pixels", "values", "said"),
    [
        (np.full((1, 2, 2), 3), (0, 1, 2), "value 3"),
        (np.full((1, 2, 2), 3), (), "value 3"),
        (np.full((1, 2, 2), 0.5, np.float32), (0, 1), "fractions"),
        (np.full((1, 2, 2), -1, np.int16), (0, 1), "negative"),
        (np.arange(8).reshape(2, 2, 2), (0, 1), "channel"),
    ],
)
def test_what_cannot_be_read_is_said(pixels, values, said):
    with pytest.raises(DataError, match=said) as error:
        read_labels(scan(pixels), values)
    assert error.value.where == "m.png"


def test_classes_of_a_collection():
    assert class_values([(0, 255), (0,), (255,)]) == (0, 1)
    assert class_values([(0, 2), (0, 1)]) == (0, 1, 2)
    assert class_values([(1, 2)]) == (0, 1, 2)
    assert class_values([(0, 1, 2), (0, 255)]) == (0, 1, 2, 255)
    assert class_values([(0,)]) == class_values([]) == (0,)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("msd-task04-hippocampus", (0, 1, 2)),
        ("chase-db1", (0, 255)),
        ("isbi2012-em", (0, 255)),
        ("monuseg", (0, 1)),
        ("covid-chestxray", (0, 255)),
    ],
)
def test_real_masks_fit(real_data, name, values):
    folder = real_data / name
    paths = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if readers.format_of(p)]
    for image, of in list(pair_masks(paths).masks.items())[:12]:
        info = readers.reader_for(image).describe(readers.reader_for(image).group([image], folder)[0], folder)
        mask = readers.read(Source(readers.format_of(of[0]), of[:1]), folder)
        facts = mask_facts(mask)
        assert facts.values == values
        check = check_mask(ImageFacts(info.shape, info.affine), facts)
        assert check.usable and not [doubt for doubt in check.doubts if "unknown" not in doubt]
        assert set(np.unique(read_labels(mask, class_values([facts.values])))) == set(range(len(values)))
