"""Label maps written back: the file's own array and affine, whatever the header's orientation."""

import gzip
import itertools
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medprior.data.catalog import Catalog, build_catalog
from medprior.data.readers import read
from medprior.data.volumestore.volumes import VolumeStore
from medprior.data.writers.nifti import write_labels
from medprior.errors import DataError, SettingsError
from medprior.evaluation.segmentation import score_labels

SIDES = (5, 6, 7)
UPRIGHT = np.eye(3)
TRUTH = np.random.default_rng(1).integers(0, 3, SIDES).astype(np.uint8)
TURNS = [
    (axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]  # all 48


def affine_of(axes: tuple[int, ...], signs: tuple[int, ...], spacing=(1.5, 0.7, 3.0), turn=UPRIGHT) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[:, list(axes)] * np.array(signs) * np.array(spacing))
    affine[:3, 3] = [-31.25, 12.5, 100]
    return affine


def save(folder: Path, name: str, truth: np.ndarray, affine: np.ndarray, version=nib.Nifti1Image) -> nib.Nifti1Image:
    """An image and its mask; the mask is what must come back."""
    mask = version(truth, affine)
    mask.header["descrip"] = b"Jane Doe"
    for part, values in (("imagesTr", np.random.default_rng(2).normal(size=truth.shape[:3])), ("labelsTr", truth)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        nib.save(version(values.astype(np.float32 if part == "imagesTr" else np.uint8), affine, mask.header.copy()),
                 folder / part / name)  # fmt: skip
    return nib.load(folder / "labelsTr" / name)


def row_of(catalog: Catalog, name: str) -> int:
    return next(i for i, path in enumerate(catalog.table["path"]) if Path(path).name == name)


def written(catalog: Catalog, name: str, labels: np.ndarray | None = None, ending: str = ".nii.gz") -> nib.Nifti1Image:
    """The catalog's mask of a scan, or other labels, written and loaded again."""
    row, path = row_of(catalog, name), catalog.root / "written" / f"again{ending}"
    write_labels(path, catalog.read_mask(row) if labels is None else labels, catalog, row, catalog.mask_classes)
    return nib.load(path)


def assert_same(again: nib.Nifti1Image, given: nib.Nifti1Image) -> None:
    np.testing.assert_array_equal(np.asanyarray(again.dataobj), np.asanyarray(given.dataobj))
    np.testing.assert_array_equal(again.affine, given.affine)
    assert again.header.get_zooms() == given.header.get_zooms()
    for form in ("get_sform", "get_qform"):
        ours, theirs = (getattr(image.header, form)(coded=True) for image in (again, given))
        assert ours[1] == theirs[1]
        np.testing.assert_array_equal(ours[0], theirs[0])


def test_every_orientation_comes_back_with_its_affine(tmp_path: Path) -> None:
    given = {f"{i}.nii": save(tmp_path, f"{i}.nii", TRUTH, affine_of(*turn)) for i, turn in enumerate(TURNS)}
    catalog = build_catalog(tmp_path, workers=1)
    assert len(given) == len(catalog) == 48
    for name, image in given.items():
        assert_same(written(catalog, name, ending=".nii"), image)


@given(st.sampled_from(TURNS), st.tuples(*[st.floats(-40, 40)] * 3), st.booleans())
@settings(max_examples=15)
def test_oblique_affines_come_back(tmp_path_factory, turn, angles: tuple[float, ...], second: bool) -> None:
    folder = tmp_path_factory.mktemp("oblique")
    matrix = np.eye(3)
    for (a, b), angle in zip(((0, 1), (0, 2), (1, 2)), np.radians(angles), strict=True):
        plane = np.eye(3)
        plane[[a, b], [a, b]], plane[a, b], plane[b, a] = np.cos(angle), -np.sin(angle), np.sin(angle)
        matrix = matrix @ plane
    version = nib.Nifti2Image if second else nib.Nifti1Image
    given = save(folder, "a.nii.gz", TRUTH, affine_of(*turn, turn=matrix), version)
    again = written(build_catalog(folder, workers=1), "a.nii.gz")
    assert_same(again, given)
    assert type(again) is version


@pytest.mark.parametrize("forms", [(1, 0), (0, 1), (2, 4), (0, 0)])
def test_codes_and_units_are_taken_over_and_names_are_not(tmp_path: Path, forms: tuple[int, int]) -> None:
    given = save(tmp_path, "a.nii", TRUTH, affine_of(*TURNS[11]))
    for part in ("imagesTr", "labelsTr"):
        image = nib.load(tmp_path / part / "a.nii")
        image = type(image)(np.asanyarray(image.dataobj), None, image.header)
        image.header["sform_code"], image.header["qform_code"] = forms
        image.header.set_xyzt_units("micron")
        nib.save(image, tmp_path / part / "a.nii")
    given = nib.load(tmp_path / "labelsTr" / "a.nii")
    again = written(build_catalog(tmp_path, workers=1), "a.nii")
    assert_same(again, given)
    assert again.header.get_xyzt_units()[0] == "micron"
    assert b"Jane" not in gzip.decompress((tmp_path / "written" / "again.nii.gz").read_bytes())


def test_an_image_of_several_channels_has_a_label_map_of_three_axes(tmp_path: Path) -> None:
    given = save(tmp_path, "a.nii", TRUTH, affine_of(*TURNS[5]))
    image = nib.Nifti1Image(np.random.default_rng(3).normal(size=(*SIDES, 2)).astype(np.float32), given.affine)
    nib.save(image, tmp_path / "imagesTr" / "a.nii")
    assert_same(written(build_catalog(tmp_path, workers=1), "a.nii"), given)


def test_labels_of_a_resampled_store_come_back_to_the_grid_of_the_file(tmp_path: Path) -> None:
    """Finer voxels hold the whole truth; coarser ones to one of them."""
    truth = np.zeros((20, 24, 12), np.uint8)
    truth[4:12, 6:18, 3:9] = 1
    given = save(tmp_path / "scans", "a.nii", truth, affine_of(*TURNS[29], spacing=(1.5, 1.0, 3.0)))
    catalog = build_catalog(tmp_path / "scans", workers=1)
    fine = VolumeStore.build(catalog, tmp_path / "fine", masks=True, spacing=0.5, workers=1)
    assert fine.shape(0) != read(catalog.source(0), catalog.root).pixels.shape[1:]
    again = written(catalog, "a.nii", fine.mask(0))
    assert_same(again, given)
    coarse = VolumeStore.build(catalog, tmp_path / "coarse", masks=True, spacing=(4.0, 4.0, 4.0), workers=1)
    again = written(catalog, "a.nii", coarse.mask(0))
    np.testing.assert_array_equal(again.affine, given.affine)
    found = np.asanyarray(again.dataobj)
    assert 0 < score_labels(found, truth, 2, (1.5, 1.0, 3.0)).hd95[0] <= 4


def test_class_indices_become_the_values_of_the_files(tmp_path: Path) -> None:
    given = save(tmp_path, "a.nii", (TRUTH * 100).astype(np.uint8), affine_of(*TURNS[3]))
    catalog = build_catalog(tmp_path, workers=1)
    assert catalog.mask_classes == (0, 100, 200)
    assert_same(written(catalog, "a.nii"), given)
    write_labels(tmp_path / "wide.nii", catalog.read_mask(0), catalog, 0, (0, 7, 70_000))
    wide = np.asanyarray(nib.load(tmp_path / "wide.nii").dataobj)
    np.testing.assert_array_equal(wide, np.array([0, 7, 70_000])[TRUTH])


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_other_formats_keep_their_order_of_voxels_and_their_place(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "scans"
    save(tmp_path, "a.nii", TRUTH, affine_of(*TURNS[40]))
    folder.mkdir()
    image = SimpleITK.ReadImage(str(tmp_path / "imagesTr" / "a.nii"))
    SimpleITK.WriteImage(image, str(folder / f"a{ending}"))
    catalog = build_catalog(folder, workers=1)
    labels = np.zeros(read(catalog.source(0), folder).pixels.shape[1:], np.uint8)
    labels[1, 2, 3] = 1
    write_labels(tmp_path / "out.nii.gz", labels, catalog, 0)
    again = SimpleITK.ReadImage(str(tmp_path / "out.nii.gz"))
    assert again.GetSize() == image.GetSize()
    for part in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(again, part)(), getattr(image, part)(), atol=1e-4)
    assert_marked(tmp_path / "out.nii.gz", read(catalog.source(0), folder).affine, (1, 2, 3))


def assert_marked(path: Path, affine: np.ndarray, index: tuple[int, int, int]) -> None:
    """The one labelled voxel lies in the patient where that of the scan does."""
    image = nib.load(path)
    (voxel,) = np.argwhere(np.asanyarray(image.dataobj))
    lps = np.array([-1, -1, 1]) * nib.affines.apply_affine(image.affine, voxel)
    np.testing.assert_allclose(lps, (affine @ [*index, 1])[:3], atol=1e-3)


def dicom_series(folder: Path, tilt: float) -> None:
    """Four oblique slices; with a tilt they are pushed along their columns, as by a leaning gantry."""
    folder.mkdir()
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    right, down = np.array([0.0, 0.96, -0.28]), np.array([0.8, 0.168, 0.576])
    normal = np.cross(right, down)
    for number in range(4):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.Modality, data.PatientID, data.InstanceNumber = "CT", "1", number + 1
        data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = series, study, frame
        data.ImageOrientationPatient = [*right, *down]
        position = np.array([10.0, -20.0, 30.0]) + number * (2.5 * normal + tilt * down)
        data.ImagePositionPatient = [f"{value:.6f}" for value in position]
        data.PixelSpacing, data.SliceThickness = [0.8, 0.6], 2.5
        data.Rows, data.Columns, data.SamplesPerPixel = 9, 8, 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept = 1, 0
        pixels = np.random.default_rng(number).integers(-1000, 1000, (9, 8)).astype(np.int16)
        data.PixelData = pixels.tobytes()
        pydicom.dcmwrite(folder / f"{number}.dcm", data, enforce_file_format=True)


@pytest.mark.parametrize("tilt", [0.0, 0.5])
def test_a_dicom_series_gets_a_nifti_that_lies_where_it_does(tmp_path: Path, tilt: float) -> None:
    dicom_series(tmp_path / "series", tilt)
    catalog = build_catalog(tmp_path / "series", workers=1)
    scan = read(catalog.source(0), catalog.root)
    labels = np.zeros(scan.pixels.shape[1:], np.uint8)
    index = tuple(int(n) - 2 for n in labels.shape)
    labels[index] = 1
    write_labels(tmp_path / "out.nii.gz", labels, catalog, 0)
    assert_marked(tmp_path / "out.nii.gz", scan.affine, index)
    assert nib.load(tmp_path / "out.nii.gz").header["qform_code"] == (0 if tilt else 1)
    again = build_catalog(tmp_path / "out.nii.gz", workers=1)
    back = read(again.source(0), again.root)
    np.testing.assert_array_equal(back.pixels[0], labels)
    np.testing.assert_allclose(back.affine, scan.affine, atol=1e-4)


def test_an_array_has_no_place_and_gets_none(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    np.save(tmp_path / "scans" / "a.npy", np.random.default_rng(4).normal(size=(9, 10, 11)).astype(np.float32))
    catalog = build_catalog(tmp_path / "scans", workers=1)
    labels = np.random.default_rng(5).integers(0, 2, (9, 10, 11)).astype(np.uint8)
    write_labels(tmp_path / "out.nii.gz", labels, catalog, 0)
    header = nib.load(tmp_path / "out.nii.gz").header
    assert (header["sform_code"], header["qform_code"]) == (0, 0)
    again = build_catalog(tmp_path / "out.nii.gz", workers=1)
    np.testing.assert_array_equal(read(again.source(0), again.root).pixels[0], labels)


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    save(tmp_path, "a.nii", TRUTH, affine_of(*TURNS[7]))
    catalog = build_catalog(tmp_path, workers=1)
    for name in ("one.nii.gz", "two.nii.gz"):
        write_labels(tmp_path / "out" / name, catalog.read_mask(0), catalog, 0)
    assert (tmp_path / "out" / "one.nii.gz").read_bytes() == (tmp_path / "out" / "two.nii.gz").read_bytes()


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    save(tmp_path, "a.nii", TRUTH, affine_of(*TURNS[7]))
    catalog = build_catalog(tmp_path, workers=1)
    labels = catalog.read_mask(0)
    with pytest.raises(SettingsError, match=r"\.nii"):
        write_labels(tmp_path / "a.png", labels, catalog, 0)
    with pytest.raises(DataError, match="not all classes"):
        write_labels(tmp_path / "out.nii", labels, catalog, 0, (0, 1))
    save(tmp_path, "a.nii", TRUTH[:-1], affine_of(*TURNS[7]))
    with pytest.raises(DataError, match="indexed"):
        write_labels(tmp_path / "out.nii", labels, catalog, 0)
    save(tmp_path, "a.nii", TRUTH, affine_of(*TURNS[7], turn=np.linalg.qr(np.arange(9).reshape(3, 3) ** 2 + 1.0)[0]))
    with pytest.raises(DataError, match="indexed"):
        write_labels(tmp_path / "out.nii", labels, catalog, 0)
    assert not (tmp_path / "out.nii").exists()


@pytest.mark.data
def test_the_truth_of_real_volumes_comes_back_as_it_was(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "msd-task04-hippocampus"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which is not there")
    names = [file.name for file in sorted((folder / "labelsTr").glob("*.nii.gz"))[::20]]
    for part, name in itertools.product(("imagesTr", "labelsTr"), names):
        (tmp_path / part).mkdir(exist_ok=True)
        shutil.copy(folder / part / name, tmp_path / part / name)
    catalog = build_catalog(tmp_path, workers=1)
    assert len(catalog) == len(names) > 5
    for name in names:
        assert_same(written(catalog, name), nib.load(folder / "labelsTr" / name))
