"""Segmentation objects come back on the voxels they were drawn on."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medprior.data.readers import dicom
from medprior.errors import DataError

RIGHT, DOWN = (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)  # sagittal, so that the volume is turned on reading
NORMAL, ORIGIN, SHAPE = np.cross(RIGHT, DOWN), np.array([3.5, -20.0, 40.0]), (6, 5, 7)
RNG = np.random.default_rng(3)


def item(**tags):
    found = Dataset()
    for name, value in tags.items():
        setattr(found, name, value)
    return found


def base(pixels, bits, **tags):
    data = item(PatientID="p", StudyInstanceUID="1.2", FrameOfReferenceUID="1.3", SOPInstanceUID=generate_uid(), **tags)
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit = bits - 1
    raw = pydicom.pixels.pack_bits(pixels) if bits == 1 else pixels.tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OB" if bits <= 8 else "OW"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


@pytest.fixture
def scan(tmp_path):
    """A series whose file names run against its order; returns (folder, SOP UIDs by slice, source)."""
    uids = []
    for n in range(SHAPE[0]):
        data = base(np.full(SHAPE[1:], n, np.uint16), 16, SOPClassUID=CTImageStorage, Modality="CT",
                    SeriesInstanceUID="1.4", ImagePositionPatient=(ORIGIN + 2 * n * NORMAL).tolist(),
                    ImageOrientationPatient=[*RIGHT, *DOWN], PixelSpacing=[1.5, 0.5])  # fmt: skip
        uids.append(data.SOPInstanceUID)
        data.save_as(tmp_path / f"{9 - n}", enforce_file_format=True)
    found = dicom.assemble([dicom.examine(p.name, tmp_path) for p in tmp_path.iterdir()])
    return tmp_path, uids, found.scans[0].source


def segment(folder, masks, *, bits=1, kind="BINARY", corner=(0, 0), placed=True, uids=(), **tags):
    """Write masks by (segment, slice); `corner` is where in the slice a smaller mask lies."""
    frames, groups = [], []
    for (number, n), mask in masks.items():
        position = ORIGIN + 2 * n * NORMAL + corner[0] * 1.5 * np.array(DOWN) + corner[1] * 0.5 * np.array(RIGHT)
        group = item(SegmentIdentificationSequence=Sequence([item(ReferencedSegmentNumber=number)]))
        if placed:
            group.PlanePositionSequence = Sequence([item(ImagePositionPatient=position.tolist())])
        if uids:
            group.DerivationImageSequence = Sequence(
                [item(SourceImageSequence=Sequence([item(ReferencedSOPInstanceUID=uids[n])]))]
            )
        frames.append(mask)
        groups.append(group)
    shared = item(PixelMeasuresSequence=Sequence([item(PixelSpacing=[1.5, 0.5])]))
    if placed:
        shared.PlaneOrientationSequence = Sequence([item(ImageOrientationPatient=[*RIGHT, *DOWN])])
    numbers = sorted({number for number, _ in masks})
    data = base(np.stack(frames), bits, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG",
                SeriesInstanceUID="1.9", NumberOfFrames=len(frames), SegmentationType=kind, MaximumFractionalValue=200,
                SegmentSequence=Sequence([item(SegmentNumber=n, SegmentLabel=f"part {n}") for n in numbers]),
                SharedFunctionalGroupsSequence=Sequence([shared]), PerFrameFunctionalGroupsSequence=Sequence(groups),
                ReferencedSeriesSequence=Sequence([item(SeriesInstanceUID="1.4")]), **tags)  # fmt: skip
    data.save_as(folder / "seg", enforce_file_format=True)
    (found,) = dicom.assemble([dicom.examine("seg", folder)]).segmentations
    return found


def expected(scan, labels):
    """Labels by slice of the series (n, rows, columns), on the voxels that `read` gives."""
    folder, _, source = scan
    volume = dicom.read(source, folder)
    found = np.zeros(volume.pixels.shape[1:], int)
    for index in np.ndindex(found.shape):
        place = (volume.affine @ (*index, 1))[:3] - ORIGIN
        n, row, column = place @ NORMAL / 2, place @ DOWN / 1.5, place @ RIGHT / 0.5
        assert volume.pixels[0][index] == round(n)
        found[index] = labels[round(n), round(row), round(column)]
    return found


def masks_of(labels):
    return {
        (v, n): (labels[n] == v).astype(np.uint8) for v in np.unique(labels[labels > 0]) for n in range(len(labels))
    }


def test_masks_come_back_by_their_places(scan):
    labels = RNG.integers(0, 4, SHAPE)
    found = segment(scan[0], masks_of(labels))
    read = dicom.read_segmentation(found.source, scan[0], scan[2])
    np.testing.assert_array_equal(read.values, expected(scan, labels))
    assert read.names == {1: "part 1", 2: "part 2", 3: "part 3"} and read.doubts == ()
    assert found.segments == (1, 2, 3) and "1.4" in found.instances and read.values.dtype == np.uint8


def test_masks_come_back_by_the_images_they_refer_to(scan):
    labels = RNG.integers(0, 2, SHAPE)
    found = segment(scan[0], masks_of(labels), placed=False, uids=scan[1])
    assert set(scan[1]) <= set(found.instances)
    read = dicom.read_segmentation(found.source, scan[0], scan[2])
    np.testing.assert_array_equal(read.values, expected(scan, labels))


def test_a_smaller_mask_is_laid_where_it_belongs(scan):
    labels = np.zeros(SHAPE, int)
    labels[2, 1:3, 2:6] = 1
    found = segment(scan[0], {(1, 2): np.ones((2, 4), np.uint8)}, corner=(1, 2))
    read = dicom.read_segmentation(found.source, scan[0], scan[2])
    np.testing.assert_array_equal(read.values, expected(scan, labels))


def test_of_overlapping_segments_the_higher_number_stays_and_it_is_said(scan):
    whole, part = np.ones(SHAPE[1:], np.uint8), np.zeros(SHAPE[1:], np.uint8)
    part[0, :3] = 1
    found = segment(scan[0], {(300, 4): part, (2, 4): whole})
    read = dicom.read_segmentation(found.source, scan[0], scan[2])
    labels = np.zeros(SHAPE, int)
    labels[4], labels[4, 0, :3] = 2, 300
    np.testing.assert_array_equal(read.values, expected(scan, labels))
    assert read.values.dtype == np.uint16 and "overlap in 3 voxels" in read.doubts[0]


def test_fractions_count_from_one_half(scan):
    values = RNG.integers(0, 201, SHAPE[1:]).astype(np.uint8)
    values[0, :2] = 99, 100
    found = segment(scan[0], {(1, 3): values}, bits=8, kind="FRACTIONAL")
    labels = np.zeros(SHAPE, int)
    labels[3] = values >= 100
    read = dicom.read_segmentation(found.source, scan[0], scan[2])
    np.testing.assert_array_equal(read.values, expected(scan, labels))


def test_frames_beside_the_scan_are_said_or_refused(scan):
    mask = np.ones(SHAPE[1:], np.uint8)
    found = segment(scan[0], {(1, 1): mask, (1, 40): mask})
    read = dicom.read_segmentation(found.source, scan[0], scan[2])
    assert read.doubts == ("1 of 2 frames of the segmentation lie on no slice of the scan",)
    found = segment(scan[0], {(1, 40): mask})
    with pytest.raises(DataError, match="none of its frames"):
        dicom.read_segmentation(found.source, scan[0], scan[2])
    found = segment(scan[0], {(1, 1): mask}, corner=(0.4, 0))
    with pytest.raises(DataError, match="do not fall onto"):
        dicom.read_segmentation(found.source, scan[0], scan[2])


def test_an_image_is_no_segmentation_and_the_other_way_round(scan):
    found = segment(scan[0], {(1, 1): np.ones(SHAPE[1:], np.uint8)})
    with pytest.raises(DataError, match="no segmentation"):
        dicom.read_segmentation(scan[2], scan[0], scan[2])
    with pytest.raises(DataError, match="no image"):
        dicom.read(found.source, scan[0])
