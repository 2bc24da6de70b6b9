"""DICOM series written here come back as volumes: order, places in mm, splits, gaps, copies, and what is set apart."""

import json
import random
import time
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from medprior.data.readers import dicom
from medprior.data.readers.dicom.functional import Frame
from medprior.data.readers.dicom.headers import Head
from medprior.data.scan import Source

tmp_is_shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
OBLIQUE = (0.9801, 0.1987, 0.0, -0.1789, 0.8824, 0.4350)


def unit(orientation):
    """Orthonormal to the last digit, as a scanner computes it."""
    right = np.array(orientation[:3]) / np.linalg.norm(orientation[:3])
    down = np.array(orientation[3:]) - right * (right @ orientation[3:])
    return right, down / np.linalg.norm(down)


def rounded(numbers, digits):
    return [float(f"{number:.{digits}f}") for number in numbers]


def write(file, pixels, *, frames=None, sop_class=CTImageStorage, **tags):
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = sop_class, generate_uid(), "CT"
    data.PatientID, data.StudyInstanceUID = "one", "1.2.3"
    data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3.4", "1.2.3.5"
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    if frames:
        data.NumberOfFrames = frames
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.save_as(file, enforce_file_format=True)


def series(folder, *, orientation=OBLIQUE, count=12, step=2.5, shuffle=True, shape=(5, 7), start=0, lean=0.0, **tags):
    """Write slices whose voxel value says which it is; returns place in mm of voxel (slice, row, column)."""
    right, down = unit(orientation)
    normal = np.cross(right, down)
    origin = np.array([-101.25, 33.5, 812.125])
    names = [f"{n:03d}" for n in range(start, start + count)]
    if shuffle:
        random.Random(1).shuffle(names)
    for n in range(count):
        position = origin + (n * step) * normal + n * np.array((0, lean, 0))
        value = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) + 1000 * n
        write(folder / names[n], value, ImagePositionPatient=rounded(position, 6),
              ImageOrientationPatient=rounded((*right, *down), 8), PixelSpacing=[0.75, 0.5],
              SliceThickness=9, InstanceNumber=count - n, **tags)  # fmt: skip
    return lambda k, r, c: origin + k * (step * normal + np.array((0, lean, 0))) + r * 0.75 * down + c * 0.5 * right


def assembled(folder):
    paths = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    files = [dicom.examine(path, folder) for path in paths]
    again = [dicom.Examined.from_json(json.loads(json.dumps(one.to_json()))) for one in files]
    found = dicom.assemble(random.Random(2).sample(again, len(again)))
    for scan in found.scans:
        agrees(scan, folder)
    return found


def agrees(scan, folder):
    """Header and pixels say the same."""
    read, info = dicom.read(scan.source, folder), dicom.describe(scan.source, folder)
    assert read.pixels.shape == (scan.info.channels, *scan.info.shape)
    assert read.pixels.dtype.name == scan.info.dtype == info.dtype
    assert (read.spacing, read.window) == (scan.info.spacing, scan.info.window)
    assert replace(info, doubts=()) == replace(scan.info, doubts=())
    assert (read.pixels.min(), read.pixels.max()) == (scan.facts.quantiles.min(), scan.facts.quantiles.max())
    if read.affine is not None:
        np.testing.assert_array_equal(read.affine[:3].ravel(), scan.info.affine)


def check_places(scan, folder, place):
    """Every voxel lies, by the affine, where the slice that holds its value was written."""
    read = dicom.read(scan.source, folder)
    values = read.pixels[0]
    worst = 0.0
    for index in np.ndindex(values.shape):
        k, rest = divmod(int(values[index]), 1000)
        truth = place(k, *divmod(rest, 7))
        worst = max(worst, float(np.abs(read.affine @ (*index, 1) - (*truth, 1)).max()))
    return worst


def notes(found, kind):
    return [note for note in found.notes if note.kind == kind]


def test_an_oblique_series_with_shuffled_names_comes_back_right(tmp_path):
    place = series(tmp_path)
    found = assembled(tmp_path)
    (scan,) = found.scans
    assert found.notes == [] and scan.info.doubts == ()
    assert len(scan.source.paths) == 12
    assert scan.info.spacing == pytest.approx((2.5, 0.75, 0.5), abs=1e-5)  # from the places, not SliceThickness
    assert check_places(scan, tmp_path, place) < 1e-3


@tmp_is_shared
@given(seed=st.integers(0, 10**6))
def test_any_orientation_is_made_canonical(tmp_path_factory, seed):
    """Whatever the plane, D runs to the head, H to the back, W to the left, and each voxel keeps its place."""
    folder = tmp_path_factory.mktemp("any")
    place = series(folder, orientation=np.random.default_rng(seed).normal(size=6), count=4, shape=(3, 7))
    (scan,) = assembled(folder).scans
    assert check_places(scan, folder, place) < 1e-3
    matrix = np.array(scan.info.affine).reshape(3, 4)[:, :3]
    assert all(matrix[world, axis] > 0 for axis, world in enumerate((2, 1, 0)))
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=0), scan.info.spacing, atol=1e-5)


@pytest.mark.parametrize("gone", [1, 5, 10])
def test_a_missing_slice_is_said_and_the_others_keep_their_places(tmp_path, gone):
    place = series(tmp_path, shuffle=False)
    (tmp_path / f"{gone:03d}").unlink()
    found = assembled(tmp_path)
    (scan,) = found.scans
    (doubt,) = scan.info.doubts
    assert "1 of 12 slice is missing" in doubt
    assert [note.reason for note in notes(found, "doubt")] == [doubt]
    assert scan.info.shape[0] == 12 and scan.info.spacing[0] == pytest.approx(2.5, abs=1e-5)
    values = dicom.read(scan.source, tmp_path).pixels[0]
    order = [int(v) // 1000 for v in values[:, 0, 0]]
    stand_in = [n for n, k in enumerate(order) if order.count(k) == 2]
    assert len(stand_in) == 2 and gone in (place_of := [n if order[0] == 0 else 11 - n for n in stand_in])
    affine = np.array(scan.info.affine).reshape(3, 4)
    for n, k in enumerate(order):
        if n not in stand_in or k == (n if order[0] == 0 else 11 - n):
            centre = affine @ (n, 2, 3, 1)
            corner = divmod(int(values[n, 2, 3]) % 1000, 7)
            np.testing.assert_allclose(centre, place(k, *corner), atol=1e-3)
    assert place_of


def test_a_wide_gap_cuts_the_series(tmp_path):
    place = series(tmp_path, shuffle=False)
    for n in range(4, 9):
        (tmp_path / f"{n:03d}").unlink()
    found = assembled(tmp_path)
    assert sorted(scan.info.shape[0] for scan in found.scans) == [3, 4]
    assert all("cut" in scan.info.doubts[0] for scan in found.scans)
    assert all(check_places(scan, tmp_path, place) < 1e-3 for scan in found.scans)


def test_a_doubled_slice_is_left_out_and_said(tmp_path):
    place = series(tmp_path, shuffle=False)
    twin = pydicom.dcmread(tmp_path / "004")
    twin.SOPInstanceUID = generate_uid()
    twin.save_as(tmp_path / "copy.dcm")
    found = assembled(tmp_path)
    (scan,) = found.scans
    assert scan.info.shape[0] == 12 and "twice" in scan.info.doubts[0]
    assert check_places(scan, tmp_path, place) < 1e-3
    assert {note.path for note in notes(found, "doubt")} & {"copy.dcm", "004"}


def test_another_slice_at_the_same_place_is_kept_by_itself_and_said(tmp_path):
    series(tmp_path, shuffle=False)
    twin = pydicom.dcmread(tmp_path / "004")
    twin.PixelData = bytes(len(twin.PixelData))
    twin.SOPInstanceUID, twin.InstanceNumber = generate_uid(), 900
    twin.save_as(tmp_path / "other.dcm")
    found = assembled(tmp_path)
    assert sorted(len(scan.info.shape) for scan in found.scans) == [2, 3]
    assert all("different pixels lie at the same places" in scan.info.doubts[0] for scan in found.scans)


def test_two_patients_in_one_folder_never_mix(tmp_path):
    """Also where an export gave both the same series and study UID, and the same slices' places."""
    series(tmp_path, shuffle=False, count=6)
    series(tmp_path, shuffle=False, count=6, start=6, PatientID="two")
    found = assembled(tmp_path)
    owners = {scan.info.patient: set(scan.source.paths) for scan in found.scans}
    assert owners == {"one": {f"{n:03d}" for n in range(6)}, "two": {f"{n:03d}" for n in range(6, 12)}}


@pytest.mark.parametrize(
    "change",
    [{"EchoNumbers": 2, "EchoTime": 30}, {"EchoTime": 30}, {"TemporalPositionIdentifier": 2}, {"AcquisitionNumber": 2},
     {"DiffusionBValue": 1000.0}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, {"FrameOfReferenceUID": "1.2.9"},
     {"PixelSpacing": [1.5, 1.0]}, {"ImageOrientationPatient": [1.0, 0, 0, 0, 1, 0]}, {"TriggerTime": 40}],
)  # fmt: skip
def test_a_series_is_split_where_it_holds_two_acquisitions(tmp_path, change):
    first = {"EchoTime": 10, "AcquisitionNumber": 1, "ImageType": ["ORIGINAL", "PRIMARY", "M"], "TriggerTime": 0}
    series(tmp_path, count=4, sop_class=MRImageStorage, Modality="MR", **first)
    series(tmp_path, count=4, start=4, sop_class=MRImageStorage, Modality="MR", **first)
    for n in range(4, 8):
        data = pydicom.dcmread(tmp_path / f"{n:03d}")
        for name, value in change.items():
            setattr(data, name, value)
        data.PixelData = (data.pixel_array + 1).tobytes()
        data.save_as(tmp_path / f"{n:03d}")
    found = assembled(tmp_path)
    parts = [sorted(scan.source.paths) for scan in found.scans]
    assert sorted(parts) == [[f"{n:03d}" for n in range(4)], [f"{n:03d}" for n in range(4, 8)]]
    leaning = "ImageOrientationPatient" in change  # the places stay, so that the turned slices lean
    assert len(found.notes) == int(leaning)


def test_a_changing_acquisition_number_alone_splits_nothing(tmp_path):
    """Some scanners count acquisitions slice by slice."""
    series(tmp_path, shuffle=False)
    for n in range(12):
        data = pydicom.dcmread(tmp_path / f"{n:03d}")
        data.AcquisitionNumber = n
        data.save_as(tmp_path / f"{n:03d}")
    (scan,) = assembled(tmp_path).scans
    assert scan.info.shape[0] == 12 and scan.info.doubts == ()


def test_a_tilted_gantry_is_said_and_kept_in_the_affine(tmp_path):
    place = series(tmp_path, orientation=(1, 0, 0, 0, 1, 0), lean=0.6)
    (scan,) = assembled(tmp_path).scans
    assert "tilted" in scan.info.doubts[0] and "13.5 degrees" in scan.info.doubts[0]
    assert scan.info.spacing[0] == pytest.approx(2.5, abs=1e-5)
    assert check_places(scan, tmp_path, place) < 1e-3


def test_uneven_slices_are_said(tmp_path):
    series(tmp_path, shuffle=False)
    data = pydicom.dcmread(tmp_path / "003")
    data.ImagePositionPatient = (np.array(data.ImagePositionPatient) + 1.1 * np.cross(*unit(OBLIQUE))).tolist()
    data.save_as(tmp_path / "003")
    (scan,) = assembled(tmp_path).scans
    assert "1.10 mm" in scan.info.doubts[0]


def test_localisers_and_screen_copies_are_set_apart(tmp_path):
    series(tmp_path)
    plane = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "PixelSpacing": [1, 1]}
    pixels = np.zeros((5, 7), np.int16)
    write(
        tmp_path / "named",
        pixels,
        ImagePositionPatient=[0, 0, 0],
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        **plane,
    )
    write(tmp_path / "odd", pixels, ImagePositionPatient=[0, 0, 0], **plane)
    write(tmp_path / "screen", pixels, sop_class="1.2.840.10008.5.1.4.1.1.7")
    write(tmp_path / "saved", pixels, ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])
    found = assembled(tmp_path)
    assert [scan.info.shape[0] for scan in found.scans] == [12]
    assert {note.path for note in notes(found, "apart")} == {"named", "odd", "screen", "saved"}


def test_a_radiograph_stored_as_a_capture_is_an_image(tmp_path):
    write(
        tmp_path / "x",
        np.arange(35, dtype=np.uint16).reshape(5, 7),
        sop_class="1.2.840.10008.5.1.4.1.1.7",
        Modality="CR",
    )
    (scan,) = assembled(tmp_path).scans
    assert scan.info.shape == (5, 7) and scan.info.modality == "CR" and scan.info.affine is None


def test_a_single_slice_is_an_image_as_shown(tmp_path):
    series(tmp_path, count=1, orientation=(0, 1, 0, 0, 0, -1))
    (scan,) = assembled(tmp_path).scans
    assert (scan.info.shape, scan.info.spacing, scan.info.orientation) == ((5, 7), (0.75, 0.5), None)
    assert dicom.read(scan.source, tmp_path).pixels[0, 0].tolist() == list(range(7))


def item(**tags):
    found = Dataset()
    for name, value in tags.items():
        setattr(found, name, value)
    return found


def enhanced(folder, order, phases=1):
    """One file of a stack per phase, its frames in the given order; values as `series` writes them."""
    right, down = unit(OBLIQUE)
    normal, origin = np.cross(right, down), np.array([5.0, -7.0, 11.0])
    frames, groups = [], []
    for phase in range(phases):
        for n in order:
            frames.append(np.arange(35, dtype=np.uint16).reshape(5, 7) + 1000 * n + 100 * phase)
            groups.append(item(
                PlanePositionSequence=Sequence([item(ImagePositionPatient=rounded(origin + 2 * n * normal, 6))]),
                FrameContentSequence=Sequence([item(StackID="1", TemporalPositionIndex=phase + 1)]),
                PixelValueTransformationSequence=Sequence([item(RescaleIntercept=0, RescaleSlope=1, RescaleType="HU")]),
            ))  # fmt: skip
    shared = item(
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=rounded((*right, *down), 8))]),
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.75, 0.5], SliceThickness=1)]),
        FrameVOILUTSequence=Sequence([item(WindowCenter=40, WindowWidth=400)]),
    )
    write(folder / "e", np.stack(frames), frames=len(frames), sop_class=EnhancedCTImageStorage,
          SharedFunctionalGroupsSequence=Sequence([shared]),
          PerFrameFunctionalGroupsSequence=Sequence(groups))  # fmt: skip
    return lambda k, r, c: origin + 2 * k * normal + r * 0.75 * down + c * 0.5 * right


def test_an_enhanced_file_is_a_volume_of_its_frames_in_order(tmp_path):
    place = enhanced(tmp_path, [3, 0, 4, 1, 2])
    (scan,) = assembled(tmp_path).scans
    assert scan.source.paths == ("e",) and sorted(scan.source.frames) == list(range(5))
    assert scan.info.window == (40, 400)
    assert check_places(scan, tmp_path, place) < 1e-3


def test_the_phases_of_an_enhanced_file_are_volumes_of_their_own(tmp_path):
    enhanced(tmp_path, [0, 1, 2, 3], phases=3)
    scans = assembled(tmp_path).scans
    assert sorted(sorted(scan.source.frames) for scan in scans) == [list(range(n, n + 4)) for n in (0, 4, 8)]


def test_a_cine_gives_one_image_per_frame(tmp_path):
    frames = np.arange(4 * 35, dtype=np.uint8).reshape(4, 5, 7)
    write(tmp_path / "us", frames, frames=4, sop_class="1.2.840.10008.5.1.4.1.1.3.1", Modality="US")
    found = assembled(tmp_path)
    assert [scan.source for scan in found.scans] == [Source("dicom", ("us",), frame=n) for n in range(4)]
    for n, scan in enumerate(found.scans):
        np.testing.assert_array_equal(dicom.read(scan.source, tmp_path).pixels[0], frames[n])
    assert dicom.group(["us"], tmp_path) == [scan.source for scan in found.scans]


def test_headers_alone_give_the_same_scans(tmp_path):
    series(tmp_path)
    enhanced(tmp_path, [1, 0, 2])
    paths = sorted(p.name for p in tmp_path.iterdir())
    assert dicom.group(paths, tmp_path) == [scan.source for scan in assembled(tmp_path).scans]


def test_a_hundred_thousand_slices_take_seconds():
    def head(patient, n):
        frame = Frame((0.0, 0.0, 1.5 * n), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.0), "//", ("", "1"))
        return Head(f"{patient}/{n}", "image", CTImageStorage, sop=f"{patient}.{n}", series=f"{patient}",
                    modality="CT", patient=str(patient), rows=8, columns=8, channels=1, dtype="int16",
                    frames=(frame,))  # fmt: skip

    files = [dicom.Examined(head(patient, n)) for patient in range(200) for n in range(500)]
    random.Random(0).shuffle(files)
    began = time.process_time()
    found = dicom.assemble(files)
    assert time.process_time() - began < 30  # some 5 s here; quadratic work would take hours
    assert len(found.scans) == 200 and {scan.info.shape for scan in found.scans} == {(500, 8, 8)}


@pytest.mark.parametrize(("modality", "said", "burnt"), [("US", "NO", True), ("CT", "NO", False), ("CT", "YES", True)])
def test_ultrasound_is_taken_to_show_text_whatever_its_header_says(tmp_path, modality, said, burnt):
    write(tmp_path / "one", np.eye(8, dtype=np.uint8), Modality=modality, BurnedInAnnotation=said)
    assert bool(dicom.examine("one", tmp_path).head.burnt) == burnt


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("InstanceNumber", 9, lambda head: head.instance == 9),
        ("ImagePositionPatient", [1, 2, 3], lambda head: head.frames[0].position == (1, 2, 3)),
        ("ContentTime", "101112", lambda head: head.frames[0].soft[-1] == "101112"),
        ("AcquisitionTime", "101113", lambda head: head.frames[0].soft[-2] == "101113"),
        ("TriggerTime", "17", lambda head: head.frames[0].soft[-3] == "17"),
        ("AcquisitionNumber", 4, lambda head: head.frames[0].soft[-4] == "4"),
        ("EchoTime", 4, lambda head: head.frames[0].hard == "4.00//"),
        ("PixelSpacing", [2, 3], lambda head: head.frames[0].spacing == (2, 3)),
        ("ImageOrientationPatient", [0, 1, 0, 1, 0, 0], lambda head: head.frames[0].orientation == (0, 1, 0, 1, 0, 0)),
        ("PatientID", "two", lambda head: head.patient == "two"),
        ("SeriesInstanceUID", "1.2.9", lambda head: head.series == "1.2.9"),
        ("WindowWidth", 90, lambda head: head.window == (40, 90)),
        ("RescaleSlope", 0, lambda head: len(head.doubts) == 1),
        ("BurnedInAnnotation", "YES", lambda head: head.burnt != ""),
        ("PhotometricInterpretation", "MONOCHROME1", lambda head: head.window == (215, 400)),
    ],
)
def test_a_file_is_not_taken_for_the_one_before_that_says_nearly_the_same(tmp_path, name, value, found):
    said = {
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1], "ImagePositionPatient": [0, 0, 0],
        "InstanceNumber": 1, "WindowCenter": 40, "WindowWidth": 400,
    }  # fmt: skip
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write(tmp_path / "one", pixels, **said)
    write(tmp_path / "two", pixels, **said | {name: value})
    one, two = (dicom.examine(path, tmp_path).head for path in ("one", "two"))
    assert not found(one) and found(two)
    assert (one.path, two.path) == ("one", "two") and one.sop != two.sop


def rewrite(file, element, value):
    """Put a text into a file that a careful writer would refuse."""
    raw = file.read_bytes()
    at = raw.index(element) + len(element)
    end = at + 2 + int.from_bytes(raw[at : at + 2], "little")
    text = value.encode() + b" " * (len(value) % 2)
    file.write_bytes(raw[:at] + len(text).to_bytes(2, "little") + text + raw[end:])


@pytest.mark.parametrize("spacing", ["0\\0", "-1\\1", "nan\\nan"])
def test_an_impossible_pixel_spacing_is_no_spacing(tmp_path, spacing):
    write(tmp_path / "a", np.arange(20, dtype=np.int16).reshape(4, 5), PixelSpacing=[8, 8])
    rewrite(tmp_path / "a", b"(\x000\x00DS", spacing)
    found = dicom.assemble([dicom.examine("a", tmp_path)])
    assert found.scans[0].info.spacing is None
    assert [note.reason for note in found.notes] == ["its pixel spacing is not two positive numbers: it is not used"]


def test_a_slope_of_nought_is_one_and_is_said(tmp_path):
    series(tmp_path, count=3, RescaleSlope=0, RescaleIntercept=-5)
    found = dicom.assemble([dicom.examine(path.name, tmp_path) for path in tmp_path.iterdir()])
    assert found.scans[0].facts.quantiles[0, 0] == -5 and found.scans[0].facts.quantiles[0, -1] == 2034 - 5
    said = "its rescale slope is 0, which would make all values the same: it is read as 1 (3 of 3 slices)"
    assert [note.reason for note in found.notes] == [said]


def test_a_slice_without_a_usable_place_says_why_it_stands_alone(tmp_path):
    series(tmp_path, shuffle=False)
    rewrite(tmp_path / "003", b" \x002\x00DS", "nan\\0\\0")
    found = dicom.assemble([dicom.examine(path.name, tmp_path) for path in tmp_path.iterdir()])
    assert sorted(len(scan.source.paths) for scan in found.scans) == [1, 12]  # its neighbour stands in
    said = [note.reason for note in found.notes if note.path == "003"]
    assert said == ["its header gives no usable position: it stands alone and is no slice of the volume of its series"]


def test_slices_without_places_say_once_why_they_are_no_volume(tmp_path):
    for n in range(4):
        write(tmp_path / f"{n}", np.full((4, 5), n, np.int16), PixelSpacing=[1, 1], InstanceNumber=n)
    found = dicom.assemble([dicom.examine(path.name, tmp_path) for path in tmp_path.iterdir()])
    said = "4 slices of one series make no volume and stand alone: no usable position and orientation is given"
    assert len(found.scans) == 4 and [(note.path, note.reason) for note in found.notes] == [("0", said)]


@pytest.mark.parametrize(
    ("unit", "kinds", "told"),
    [
        ("HU", ["ORIGINAL", "PRIMARY", "AXIAL"], ""),
        (None, ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"], "RCBF"),
        ("MGML", ["ORIGINAL", "PRIMARY", "AXIAL"], "MGML"),
        ("US", ["ORIGINAL", "PRIMARY"], "US"),
    ],
)
def test_a_ct_in_other_units_is_told_by_its_header(tmp_path, unit, kinds, told):
    extra = {"RescaleType": unit} if unit else {}
    write(tmp_path / "a", np.zeros((4, 5), np.int16), ImageType=kinds, RescaleSlope=1, RescaleIntercept=0, **extra)
    found = dicom.assemble([dicom.examine("a", tmp_path)])
    assert found.scans[0].info.units == told and bool(found.notes) == bool(told)
