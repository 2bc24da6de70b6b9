"""The 103 real files: each accounted for, and its facts and pixels those of an independent reader.

`dicom_ingest.csv` holds what SimpleITK (GDCM inside) says of the 92 files that it can read; the same is asked live.
"""

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from medprior.data.readers import dicom
from medprior.data.readers.dicom.examine import opened
from medprior.data.scan import Source

pytestmark = pytest.mark.data
with (Path(__file__).parent / "dicom_ingest.csv").open(encoding="utf-8") as table:
    FACTS = list(csv.DictReader(table))
MULTI_FRAME = {"emri": 10, "liver": 3, "2frame": 2, "CT0012": 2}
GDCM_MISREADS = "liver_nonbyte_aligned.dcm"  # it begins each frame at a whole byte, which 1-bit frames do not


@pytest.fixture(scope="module")
def folder(real_data):
    sitk.ProcessObject_SetGlobalWarningDisplay(False)
    return real_data / "dicom-ingest"


@pytest.fixture(scope="module")
def seen(folder):
    """Every file, looked at once."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and dicom.is_dicom(p))
    return {str(p.relative_to(folder)): dicom.examine(str(p.relative_to(folder)), folder) for p in files}


def pixels(path, folder):
    """(frames, C, H, W) physical values."""
    return np.stack(list(opened(folder / path).frames()))


def by_sitk(path, folder):
    """The same by SimpleITK, which turns MONOCHROME1 too."""
    image = sitk.ReadImage(str(folder / path))
    values = sitk.GetArrayFromImage(image)
    return np.moveaxis(values, -1, 1) if values.ndim == 4 else values[:, None]


def test_every_file_is_accounted_for(seen, folder):
    others = [p.name for p in folder.rglob("*") if p.is_file() and str(p.relative_to(folder)) not in seen]
    assert len(seen) == 103 and others == ["README.md"]
    found = dicom.assemble(list(seen.values()))
    kinds = {kind: {n.path for n in found.notes if n.kind == kind} for kind in ("no image", "apart", "unreadable")}
    scans = {path for scan in found.scans for path in scan.source.paths}
    masks = {path for one in found.segmentations for path in one.source.paths}
    copies = {note.path for note in found.notes if "copy of another slice" in note.reason}
    places = [kinds["no image"], kinds["apart"], scans, masks, copies]
    assert set().union(*places) == set(seen) and sum(map(len, places)) == 103
    assert list(map(len, places)) == [1, 29, 53, 9, 11] and not kinds["unreadable"]


def test_frames_are_counted_right(seen):
    for path, one in seen.items():
        said = next((count for part, count in MULTI_FRAME.items() if part in path), 0 if "no-pixel-data" in path else 1)
        assert len(one.head.frames) == len(one.facts) == said, path


@pytest.mark.parametrize("row", FACTS, ids=lambda row: row["file"].split("/")[1][-40:])
def test_facts_are_those_of_the_table(row, seen):
    one = seen[row["file"]]
    head, frame = one.head, one.head.frames[0]
    shape = (len(head.frames), head.rows, head.columns, head.channels)
    assert shape == tuple(int(row[name]) for name in ("frames", "rows", "columns", "channels"))
    spacing = [float(row["between_rows"]), float(row["between_columns"])]
    assert spacing == pytest.approx(frame.spacing or (1.0, 1.0), rel=1e-5)  # it says 1 mm where the file is silent
    lowest, highest = float(row["lowest"]), float(row["highest"])
    found = [min(f.quantiles.min() for f in one.facts), max(f.quantiles.max() for f in one.facts)]
    assert found == pytest.approx([lowest, highest], rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("row", FACTS, ids=lambda row: row["file"].split("/")[1][-40:])
def test_pixels_are_those_of_simpleitk(row, folder):
    ours, theirs = pixels(row["file"], folder), by_sitk(row["file"], folder)
    if row["file"].endswith(GDCM_MISREADS):
        ours = ours[:1]
        theirs = theirs[:1]
    else:
        assert ours.mean(dtype=np.float64) == pytest.approx(float(row["mean"]), rel=1e-6)
    if ours.dtype.kind == "f":
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-4)
    else:
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["JLSL_08_07_0_1F", "parametric_map_float", "parametric_map_double_float", "liver_j2k",
                                  "liver_nonbyte_aligned", "liver_nonbyte_aligned_j2k"])  # fmt: skip
def test_what_simpleitk_cannot_read_equals_pydicom(name, folder):
    path = f"pydicom-data/{name}.dcm"
    theirs = pydicom.dcmread(folder / path).pixel_array
    theirs = theirs.reshape(-1, 1, *theirs.shape[-2:]) * (255 if "liver" in name else 1)
    np.testing.assert_array_equal(pixels(path, folder), theirs.astype(np.float32 if "map" in name else np.uint8))


@pytest.mark.parametrize("name, same", [
    ("liver_deflate", "liver"), ("liver_rle", "liver"), ("liver_j2k", "liver"), ("liver_expb", "liver"),
    ("liver_nonbyte_aligned_deflate", "liver_nonbyte_aligned"), ("liver_nonbyte_aligned_rle", "liver_nonbyte_aligned"),
    ("liver_nonbyte_aligned_j2k", "liver_nonbyte_aligned"), ("emri_small_jpeg_2k_lossless_too_short", "emri_small"),
])  # fmt: skip
def test_other_encodings_of_one_object_hold_the_same(name, same, folder):
    one, two = (pixels(f"pydicom-data/{n}.dcm", folder) for n in (name, same))
    np.testing.assert_array_equal(one, two)


def test_the_mr_series_is_22_slices_in_the_right_order(seen, folder):
    found = dicom.assemble(list(seen.values()))
    (scan,) = [one for one in found.scans if "mr-series" in one.source.paths[0]]
    assert scan.info.shape == (22, 320, 280) and scan.info.doubts == () and scan.info.orientation == "SPL"
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder / "mr-series-study3-t1post"))
    image = sitk.ReadImage(names)
    read = dicom.read(scan.source, folder)
    np.testing.assert_array_equal(read.pixels[0], sitk.GetArrayFromImage(image))
    assert [Path(name).name for name in names] == [Path(path).name for path in scan.source.paths]
    for index in [(0, 0, 0), (21, 5, 7), (3, 319, 279)]:
        theirs = image.TransformIndexToPhysicalPoint(tuple(reversed(index)))
        np.testing.assert_allclose(read.affine @ (*index, 1), (*theirs, 1), atol=1e-3)


def test_monochrome1_is_turned_within_its_stored_bits(folder):
    path = "pydicom-data/RG3_J2KI.dcm"
    np.testing.assert_array_equal(pixels(path, folder)[0, 0], 1023 - pydicom.dcmread(folder / path).pixel_array)


def test_set_apart_files_can_be_read_all_the_same(folder):
    """The catalog leaves them out; whoever names one gets its pixels."""
    scan = dicom.read(Source("dicom", ("pydicom-data/SC_rgb_2frame.dcm",), frame=1), folder)
    np.testing.assert_array_equal(scan.pixels, by_sitk("pydicom-data/SC_rgb_2frame.dcm", folder)[1])


def test_no_patient_stands_in_the_table():
    text = (Path(__file__).parent / "dicom_ingest.csv").read_text(encoding="utf-8")
    assert not any(word in text for word in ("PGBM", "^", "Albus", "@"))
