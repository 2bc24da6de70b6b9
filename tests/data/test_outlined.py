"""Masks as labels: their classes and names, folders that lie elsewhere, and what cannot be used, said by file."""

import json
import re

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medprior.data.annotations.beside import FURTHER
from medprior.data.annotations.join import join_labels
from medprior.data.annotations.outlined import label_by_masks
from medprior.data.catalog import PATIENTS_UNKNOWN, build_catalog
from medprior.data.catalogfile import load_catalog, save_catalog
from medprior.data.splits import study_splits
from medprior.errors import LabelError

RNG = np.random.default_rng(5)
SHAPE = (6, 5, 4)


def write(path, values, spacing=(1, 1, 1), origin=(0, 0, 0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def image(path, shape=SHAPE, **place):
    write(path, RNG.normal(size=shape).astype(np.float32), **place)


def label_map(*values, shape=SHAPE):
    """The background, and a corner of each value."""
    found = np.zeros(shape, np.uint8)
    for i, value in enumerate(values):
        found[i, :2] = value
    return found


def pair(root, name, labels, *, apart="labelsTr", **place):
    """An image and its mask, in the layout of the Medical Segmentation Decathlon."""
    image(root / f"imagesTr/{name}.nii.gz", labels.shape, **place)
    write(root / f"{apart}/{name}.nii.gz", labels, **place)


def four(root):
    """Four fitting pairs of two classes, and the first's name to spoil."""
    for i in range(1, 5):
        pair(root, f"case_{i}", label_map(1, 2))
    return build_catalog(root, workers=1)


def again(root):
    return label_by_masks(build_catalog(root, workers=1))


def reasons(catalog):
    return dict(zip(catalog.problems["path"], catalog.problems["reason"], strict=True))


def targets(catalog):
    return catalog.labels.targets(catalog.table)


def test_classes_by_scan_and_scans_without_a_mask(tmp_path):
    pair(tmp_path, "a", label_map(1, 2))
    pair(tmp_path, "b", label_map(2))
    pair(tmp_path, "c", label_map())
    image(tmp_path / "imagesTs/d.nii.gz")
    catalog = again(tmp_path)
    assert catalog.labels.kind == "segmentation" and catalog.labels.names == ("1", "2")
    assert catalog.labels.columns == ("y:1", "y:2")
    np.testing.assert_array_equal(targets(catalog), [[1, 1], [0, 1], [0, 0], [np.nan, np.nan]])
    assert catalog.table["labelled"].tolist() == [True, True, True, False]
    assert reasons(catalog) == {"labelsTr/c.nii.gz": "the mask marks nothing"}, "it says: all background"
    assert PATIENTS_UNKNOWN in catalog.warnings


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "Anterior", "2": "Posterior", "3": "Nowhere"},
        {"background": 0, "Anterior": 1, "Posterior": 2, "Nowhere": 3, "ignore": 4},
    ],
)
def test_dataset_json_names_the_classes_in_either_way(tmp_path, labels):
    four(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "x", "labels": labels}))
    catalog = again(tmp_path)
    assert catalog.labels.names == ("Anterior", "Posterior")
    assert "No mask holds: Nowhere." in catalog.warnings


def test_black_and_white_masks_have_one_class(tmp_path):
    for name, white in (("a", 255), ("b", 1), ("c", 0)):
        Image.fromarray(RNG.integers(0, 255, (9, 8), np.uint8)).save(tmp_path / f"{name}.png")
        Image.fromarray((np.arange(72).reshape(9, 8) > 40).astype(np.uint8) * white).save(tmp_path / f"{name}_mask.png")
    catalog = again(tmp_path)
    assert catalog.labels.names == ("foreground",)
    np.testing.assert_array_equal(targets(catalog), [[1], [1], [0]])
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "vessel": 255}}')
    assert again(tmp_path).labels.names == ("vessel",)


def test_regions_leave_values_as_names_and_like_names_are_told_apart(tmp_path):
    four(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "whole": [1, 2], "core": [2]}}')
    assert again(tmp_path).labels.names == ("1", "2")
    (tmp_path / "dataset.json").write_text('{"labels": {"1": "part", "2": "part"}}')
    assert again(tmp_path).labels.names == ("part (1)", "part (2)")


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "no JSON"), ('{"labels": {"tumour": "yes"}}', '"tumour" has no whole number')],
)
def test_a_damaged_dataset_json_is_refused(tmp_path, text, said):
    catalog = four(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(LabelError, match=said) as refused:
        label_by_masks(catalog)
    assert refused.value.where == str(tmp_path / "dataset.json") and refused.value.do


def test_two_files_that_name_classes_differently_name_none(tmp_path):
    for task, name in (("a", "liver"), ("b", "spleen")):
        pair(tmp_path / task, f"{task}1", label_map(1, 2))
        (tmp_path / task / "dataset.json").write_text(json.dumps({"labels": {"1": name, "2": "rest"}}))
    catalog = again(tmp_path)
    assert catalog.labels.names == ("1", "2")
    assert any("2 files dataset.json name the classes of masks differently" in said for said in catalog.warnings)


def test_a_table_keeps_its_patients_and_splits(tmp_path):
    catalog = four(tmp_path)
    rows = [f"case_{i},p{i // 3},{'test' if i > 2 else 'train'},{i % 2}" for i in range(1, 5)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,patient,split,label", *rows]))
    joined = join_labels(catalog, tmp_path / "labels.csv")
    found = label_by_masks(joined)
    assert "y" not in found.table and found.labels.names == ("1", "2")
    assert found.table["split"].tolist() == ["train", "train", "test", "test"]
    assert found.table["patient"].tolist() == joined.table["patient"].tolist()
    assert found.patients_known and PATIENTS_UNKNOWN not in found.warnings
    (split,), _ = study_splits(found, seed=0)
    assert split.given and split.test.tolist() == [2, 3]


def joined(catalog, header, *rows, **options):
    (catalog.root / "table.csv").write_text("\n".join([header, *rows]))
    return join_labels(catalog, catalog.root / "table.csv", **options)


def test_a_table_of_patients_and_splits_needs_no_labels(tmp_path):
    rows = [f"case_{i},p{i // 3},{'test' if i in (1, 4) else 'train'}" for i in range(1, 5)]
    table = joined(four(tmp_path), "path,patient,split", *rows, outlines=True)
    assert table.labels is None and not table.table["labelled"].any()
    found = label_by_masks(table)
    assert found.table["labelled"].all() and found.labels.names == ("1", "2")
    assert found.table["patient"].nunique() == 2
    (split,), _ = study_splits(found, seed=0)
    assert split.test.tolist() == [0, 3] and len(split.pool) == 0  # both patients are tested
    assert sum("2 patients stand in more than one split" in said for said in found.warnings) == 1


def test_a_table_of_masks_alone(tmp_path):
    image(tmp_path / "a.nii.gz")
    write(tmp_path / "drawn by hand.nii.gz", label_map(1))
    rows = ["a.nii.gz,drawn by hand.nii.gz"] * 2
    table = joined(build_catalog(tmp_path, workers=1), "path,mask", *rows, outlines=True)
    assert any("repeat an earlier row" in said for said in table.warnings)
    assert label_by_masks(table).table["path"].tolist() == ["a.nii.gz"]


@pytest.mark.parametrize(("header", "outlines"), [("path,split", False), ("path,note", True)])
def test_a_table_that_says_nothing_useful_is_refused(tmp_path, header, outlines):
    with pytest.raises(LabelError, match="no column holds labels") as refused:
        joined(four(tmp_path), header, "case_1,train", "case_2,test", outlines=outlines)
    assert "--task segment" in refused.value.do


def test_a_labelled_catalog_is_kept_and_read_again(tmp_path):
    catalog = label_by_masks(four(tmp_path / "scans"))
    save_catalog(catalog, tmp_path / "catalog.parquet")
    kept = load_catalog(tmp_path / "catalog.parquet")
    assert kept.labels == catalog.labels
    np.testing.assert_array_equal(targets(kept), targets(catalog))


@pytest.fixture
def apart(tmp_path):
    """A folder of scans, and another of masks in it and beside it."""
    for i in (1, 2):
        pair(tmp_path / "scans", f"case_{i}", label_map(1, 2), apart="../elsewhere/labelsTr")
    return tmp_path / "scans", tmp_path / "elsewhere/labelsTr"


def test_masks_that_lie_elsewhere(apart):
    scans, masks = apart
    (masks.parent / "dataset.json").write_text('{"labels": {"1": "head", "2": "tail"}}')
    catalog = label_by_masks(build_catalog(scans, workers=1), masks, workers=1)
    assert catalog.labels.names == ("head", "tail") and len(catalog) == 2
    for row, scan in enumerate(catalog.table["path"]):
        mask = nibabel.load(masks / scan.removeprefix("imagesTr/")).get_fdata()
        np.testing.assert_array_equal(
            np.bincount(catalog.read_mask(row).ravel()), np.bincount(mask.astype(int).ravel())
        )
        assert all((catalog.root / path).is_file() for path in catalog.mask_source(row).paths)
    assert reasons(catalog) == {}


def test_channels_of_nnu_net_share_a_mask_and_are_one_patient(tmp_path):
    for case in ("c", "d"):
        for channel in ("0000", "0001"):
            image(tmp_path / f"scans/imagesTr/{case}_{channel}.nii.gz")
        write(tmp_path / f"masks/{case}.nii.gz", label_map(1))
    catalog = label_by_masks(build_catalog(tmp_path / "scans", workers=1), tmp_path / "masks", workers=1)
    assert catalog.table["labelled"].all()
    c0, c1, d0, d1 = catalog.patients()
    assert c0 == c1 != d0 == d1
    splits, _ = study_splits(catalog, seed=0)
    assert [split.test.tolist() for split in splits] in ([[0, 1], [2, 3]], [[2, 3], [0, 1]])
    assert any("4 scans share masks" in said for said in catalog.warnings)


def test_a_folder_below_the_scans_that_is_not_called_masks(tmp_path):
    """Its files were taken for scans; they leave, with what was said of them."""
    for i in (1, 2):
        pair(tmp_path, f"case_{i}", label_map(1) if i == 1 else label_map(), apart="truth")
    before = build_catalog(tmp_path, workers=1)
    assert len(before) == 4
    catalog = label_by_masks(before, tmp_path / "truth", workers=1)
    assert catalog.table["path"].tolist() == ["imagesTr/case_1.nii.gz", "imagesTr/case_2.nii.gz"]
    assert reasons(catalog) == {"truth/case_2.nii.gz": "the mask marks nothing"}


def test_segments_of_dicom_are_classes(tmp_path):
    """A scan of three slices, and a segmentation that marks segments 1 and 3 of three."""
    planes = [RNG.integers(0, 900, (8, 9)).astype(np.uint16) for _ in range(3)]
    drawn = {1: np.zeros((3, 8, 9), np.uint8), 3: np.zeros((3, 8, 9), np.uint8)}
    drawn[1][0, :2], drawn[3][2, 4:] = 1, 1
    write_series(tmp_path, planes, drawn)
    catalog = label_by_masks(build_catalog(tmp_path, workers=1))
    assert catalog.labels.names == ("1", "3") and catalog.mask_classes == (0, 1, 3)
    np.testing.assert_array_equal(catalog.read_mask(0), drawn[1] + 2 * drawn[3])


def write_series(folder, planes, drawn):
    """Axial slices 2 mm apart, and one binary segmentation of them."""
    for n, plane in enumerate(planes):
        data = dicom_base(plane, 16, "1.2.840.10008.5.1.4.1.1.2", "CT", "1.4")
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 2 * n], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing = [1, 1]
        data.save_as(folder / f"{n}.dcm", enforce_file_format=True)
    frames = [(number, n, marks[n]) for number, marks in drawn.items() for n in range(len(planes))]
    data = dicom_base(np.stack([marks for *_, marks in frames]), 8, "1.2.840.10008.5.1.4.1.1.66.4", "SEG", "1.9")
    data.NumberOfFrames, data.SegmentationType, data.MaximumFractionalValue = len(frames), "FRACTIONAL", 1
    data.SegmentSequence = [item(SegmentNumber=number, SegmentLabel=f"part {number}") for number in drawn]
    data.ReferencedSeriesSequence = [item(SeriesInstanceUID="1.4")]
    data.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[1, 1])],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        )
    ]
    data.PerFrameFunctionalGroupsSequence = [
        item(
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * n])],
        )
        for number, n, _ in frames
    ]
    data.save_as(folder / "drawn.dcm", enforce_file_format=True)


def item(**tags):
    found = Dataset()
    for name, value in tags.items():
        setattr(found, name, value)
    return found


def dicom_base(pixels, bits, kind, modality, series):
    data = item(PatientID="p", StudyInstanceUID="1.2", FrameOfReferenceUID="1.3", SeriesInstanceUID=series)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = kind, generate_uid(), modality
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OB" if bits == 8 else "OW"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


def spoil_shape(root):
    write(root / "labelsTr/case_1.nii.gz", label_map(1, 2, shape=(6, 5, 3)))
    return "not used: the mask has 3 x 5 x 6 pixels, its image 4 x 5 x 6; give the mask that was drawn"


def spoil_affine(root):
    write(root / "labelsTr/case_1.nii.gz", label_map(1, 2), origin=(0, 0, 9))
    return "not used: the mask lies elsewhere than its image, by up to 9 mm .*; resample it to its image"


def spoil_value(root):
    write(root / "labelsTr/case_1.nii.gz", label_map(1, 7))
    return "not used: the mask holds the value 7, which no other mask has; mend the mask, or name the value"


def spoil_fractions(root):
    write(root / "labelsTr/case_1.nii.gz", label_map(1, 2).astype(np.float32) / 2)
    return r"not used: the mask holds values that are no classes \(0, 0.5, 1\); write whole numbers"


def spoil_negative(root):
    write(root / "labelsTr/case_1.nii.gz", -label_map(1, 2).astype(np.int16))
    return r"not used: the mask holds values that are no classes \(-2, -1, 0\); write whole numbers"


def spoil_many(root):
    write(root / "labelsTr/case_1.nii.gz", RNG.normal(size=(12, 11, 10)).astype(np.float32))
    image(root / "imagesTr/case_1.nii.gz", (12, 11, 10))
    return "not used: the mask holds fractions, which are no classes; write whole numbers"


def spoil_channels(root):
    write(root / "labelsTr/case_1.nii.gz", np.stack([label_map(1), label_map(2)], axis=-1))
    return "not used: a mask has one channel, .* not 2 channels; write all classes into one channel"


def spoil_image(root):
    (root / "imagesTr/case_1.nii.gz").unlink()
    return "a mask whose image is not there, or cannot be read: name it as its image"


def spoil_time(root):
    image(root / "imagesTr/case_1.nii.gz", (*SHAPE, 20))
    return "a mask whose image is not there, or cannot be read"


def spoil_double(root):
    image(root / "imagesTr/case_1.nii")
    return "a mask that could be of several images: name it as one of them"


SPOILS = [spoil_shape, spoil_affine, spoil_value, spoil_fractions, spoil_negative, spoil_many, spoil_channels]
SPOILS += [spoil_image, spoil_time, spoil_double]


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("named", [False, True], ids=["beside", "named"])
def test_one_bad_mask_is_named_and_the_others_stay(tmp_path, spoil, named):
    four(tmp_path)
    said = spoil(tmp_path)
    catalog = build_catalog(tmp_path, workers=1)
    found = label_by_masks(catalog, tmp_path / "labelsTr", workers=1) if named else label_by_masks(catalog)
    assert re.match(said, reasons(found)["labelsTr/case_1.nii.gz"])
    assert found.labels.names == ("1", "2"), "what it holds is no class"
    good = found.table["path"].str.contains("case_[234]")
    np.testing.assert_array_equal(found.table["labelled"], good)
    assert "1 mask is not used; the list of what is said of files tells why." in found.warnings


def test_a_time_series_says_what_it_is(tmp_path):
    four(tmp_path)
    spoil_time(tmp_path)
    assert "is a time series" in reasons(again(tmp_path))["imagesTr/case_1.nii.gz"]


def test_a_value_that_dataset_json_does_not_name(tmp_path):
    for i in range(1, 5):
        pair(tmp_path, f"case_{i}", label_map(1, 7 if i > 2 else 2))
    assert again(tmp_path).labels.names == ("1", "2", "7"), "two masks share it"
    (tmp_path / "dataset.json").write_text('{"labels": {"1": "head", "2": "tail"}}')
    catalog = again(tmp_path)
    said = "not used: the mask holds the value 7, which dataset.json does not name as a class; mend the mask, or"
    assert [path for path, why in reasons(catalog).items() if why.startswith(said)] == [
        "labelsTr/case_3.nii.gz",
        "labelsTr/case_4.nii.gz",
    ]
    assert catalog.labels.names == ("head", "tail") and catalog.table["labelled"].tolist() == [True, True, False, False]


def test_volumes_of_one_slice_are_said(tmp_path):
    four(tmp_path)
    pair(tmp_path, "case_1", label_map(1, 2, shape=(6, 5, 1)))
    catalog = again(tmp_path)
    assert "a volume of one slice" in reasons(catalog)["imagesTr/case_1.nii.gz"]
    assert "Labelled volumes of one slice: 1." in catalog.warnings
    assert catalog.table["labelled"].all()


def test_mixed_spacings_are_said_with_the_odd_file(tmp_path):
    four(tmp_path)
    pair(tmp_path, "case_2", label_map(1, 2), spacing=(1, 1, 5))
    catalog = again(tmp_path)
    assert "its voxels have 5 x 1 x 1 mm" in reasons(catalog)["imagesTr/case_2.nii.gz"]
    assert any(
        said.startswith("Spacings of labelled scans differ, from 1 x 1 x 1 mm to 5 x 1 x 1")
        for said in catalog.warnings
    )
    pair(tmp_path, "case_2", label_map(1, 2), spacing=(1, 1, 1.4))
    assert reasons(again(tmp_path)) == {}, "as patients differ"


def test_folders_of_masks_that_cannot_be_used(apart, tmp_path):
    scans, masks = apart
    catalog = build_catalog(scans, workers=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelError, match=r"no masks can be had: no readable scan .* it is empty") as refused:
        label_by_masks(catalog, tmp_path / "empty", workers=1)
    assert str(tmp_path / "empty") in str(refused.value)
    with pytest.raises(LabelError, match="no masks can be had: there is no such folder") as refused:
        label_by_masks(catalog, masks.parent / "labelTr", workers=1)
    assert "Nearest: labelsTr" in str(refused.value)
    with pytest.raises(LabelError, match="the folder of masks holds the scans too"):
        label_by_masks(catalog, tmp_path, workers=1)
    with pytest.raises(LabelError, match="this is a file, not a folder of masks"):
        label_by_masks(catalog, masks / "case_1.nii.gz", workers=1)
    write(tmp_path / "others/x_1.nii.gz", label_map(1))
    with pytest.raises(LabelError, match=r"none of the 1 masks has the name of a scan .*x_1.nii.gz.*case_1.nii.gz"):
        label_by_masks(catalog, tmp_path / "others", workers=1)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/case_1.nii.gz").write_bytes(b"no volume")
    with pytest.raises(LabelError, match="no file in the folder of masks can be used") as refused:
        label_by_masks(catalog, tmp_path / "damaged", workers=1)
    assert "damaged/case_1.nii.gz: " in str(refused.value)


def test_no_usable_mask_gives_the_first_reasons(tmp_path):
    image(tmp_path / "bare/a.nii.gz")
    with pytest.raises(LabelError, match=r"(?s)no scan has a mask that can be used.*labelsTr beside imagesTr"):
        again(tmp_path / "bare")
    four(tmp_path / "bad")
    for i in range(1, 5):
        write(tmp_path / f"bad/labelsTr/case_{i}.nii.gz", label_map(1, 2), origin=(0, 0, 9))
    with pytest.raises(LabelError, match=r"(?s)first reasons are:\n  labelsTr/case_1.nii.gz: not used: the mask lies"):
        again(tmp_path / "bad")
    for i in range(1, 5):
        write(tmp_path / f"bad/labelsTr/case_{i}.nii.gz", label_map())
    with pytest.raises(LabelError, match="all 4 masks mark nothing"):
        again(tmp_path / "bad")


def test_several_masks_of_an_image_and_files_that_are_none(apart, tmp_path):
    scans, masks = apart
    write(masks / "case_1_second.nii.gz", label_map(3))
    np.savez(masks / "case_2_stack.npz", one=np.zeros((9, 8)), other=np.ones((9, 8)))
    catalog = label_by_masks(build_catalog(scans, workers=1), masks, workers=1)
    assert catalog.labels.names == ("1", "2")
    said = "1 further mask of images that have one: of each image the first that fits is used, by name."
    assert [warning for warning in catalog.warnings if "mask" in warning][1:] == [said]
    stack = "not used: it holds several images; save each mask as a file of its own"
    names = [f"../elsewhere/labelsTr/case_{name}" for name in ("1_second.nii.gz", "2_stack.npz")]
    assert reasons(catalog) == dict(zip(names, (FURTHER, stack), strict=True))


def test_classes_of_coloured_masks_are_called_by_their_colours(tmp_path):
    for i in range(4):
        colours = np.zeros((8, 9, 3), np.uint8)
        colours[1:3, 1:3], colours[5:7, 1:3] = (255, 128, 0), (0, 0, 255)
        for folder, pixels in (("images", np.full((8, 9), 9 + i, np.uint8)), ("masks", colours)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / f"{folder}/{i}.png")
    catalog = again(tmp_path)
    assert catalog.labels.names == ("#0000ff", "#ff8000") and set(reasons(catalog)) <= {
        f"images/{i}.png" for i in range(4)
    }


def test_the_second_reader_beside_an_image_is_said(tmp_path):
    for name, size in (("1", 8), ("1_1stHO", 8), ("1_2ndHO", 8), ("2", 8), ("2_1stHO", 4), ("2_2ndHO", 8)):
        pixels = np.zeros((size, size), np.uint8)
        pixels[1:3, 1:3] = 200 if name in "12" else 255
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    catalog = again(tmp_path)
    used = [mask["paths"][0] for mask in catalog.table["mask"]]
    assert used == ["1_1stHO.png", "2_2ndHO.png"]
    assert reasons(catalog)["1_2ndHO.png"] == FURTHER and "resolution" in reasons(catalog)["2_1stHO.png"]
    said = "1 further mask of images that have one: of each image the first that fits is used, by name."
    assert said in catalog.warnings and any(warning.startswith("1 mask is not used") for warning in catalog.warnings)


REAL = {
    "msd-task04-hippocampus": (200, ("1", "2")),
    "monuseg": (6, ("foreground",)),
}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_collections(real_data, name):
    if not (real_data / name).is_dir():
        pytest.skip(f"{real_data / name} is absent")
    catalog = label_by_masks(build_catalog(real_data / name))
    count, names = REAL[name]
    assert (int(catalog.table["labelled"].sum()), catalog.labels.names) == (count, names)
    np.testing.assert_array_equal(targets(catalog)[catalog.table["labelled"]], np.ones((count, len(names))))
    splits, _ = study_splits(catalog, seed=0)
    assert len(splits) == (1 if count >= 200 else 5) and sum(len(split.test) for split in splits) == min(count, 50)
