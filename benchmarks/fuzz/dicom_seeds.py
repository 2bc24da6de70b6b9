"""Small valid DICOM files: transfer syntaxes, kinds of pixels, kinds of objects."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code

_JPEG_LOSSLESS_57, _JPEG_LOSSLESS, _JPEG_EXTENDED = (f"1.2.840.10008.1.2.4.{n}" for n in (57, 70, 51))
_SIDES = (8, 8)


def files() -> Iterator[tuple[str, bytes]]:
    """Names and contents."""
    plain = slice_of_series(0)
    for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian,
                   uid.DeflatedExplicitVRLittleEndian):  # fmt: skip
        yield "scan.dcm", saved(plain, syntax)
    yield "scan", saved(plain, uid.ImplicitVRLittleEndian)[132:]
    yield "scan", _bare(plain)
    for syntax in (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless):
        sides = (32, 32) if syntax == uid.JPEG2000Lossless else _SIDES  # its encoder takes no less
        for kind in (slice_of_series(0, sides), _colour(sides), _frames(sides)):
            yield "scan.dcm", compressed(kind, syntax)
    for syntax in (_JPEG_LOSSLESS_57, _JPEG_LOSSLESS):
        yield "scan.dcm", transcoded(plain, syntax)
    yield "scan.dcm", transcoded(_eight_bits(), _JPEG_LOSSLESS)
    yield "scan.dcm", transcoded(_twelve_bits(), _JPEG_EXTENDED)
    yield "scan.dcm", _jpeg(_colour(), "YBR_FULL_422")
    yield "scan.dcm", _jpeg(_eight_bits(), "MONOCHROME2")
    for kind in (_eight_bits, _twelve_bits, _colour, _planar, _palette, _frames, _one_bit, _floats, _with_table,
                 _ybr_422, enhanced, segmentation):  # fmt: skip
        yield "scan.dcm", saved(kind(), uid.ExplicitVRLittleEndian)
    for name in ("Comprehensive SR Storage", "RT Structure Set Storage", "RT Plan Storage", "Encapsulated PDF Storage"):
        yield "scan.dcm", saved(_without_image(name), uid.ExplicitVRLittleEndian)
    directory = _without_image("Media Storage Directory Storage")
    directory.DirectoryRecordSequence = Sequence([_record("../../../etc/passwd"), _record("/etc/passwd")])
    yield "scan.dcm", saved(directory, uid.ExplicitVRLittleEndian)


def slice_of_series(number: int, sides: tuple[int, int] = _SIDES) -> Dataset:
    """One CT slice; all numbers make a series."""
    data = _image(16, np.int16, sides)
    data.ImagePositionPatient, data.ImageOrientationPatient = [-10, -20, 3.0 * number], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [0.5, 0.5], 3
    data.RescaleSlope, data.RescaleIntercept, data.WindowCenter, data.WindowWidth = 1, -1024, 40, 400
    data.InstanceNumber, data.SOPInstanceUID = number + 1, f"1.2.3.4.{number + 1}"
    return data


def saved(data: Dataset, syntax: str) -> bytes:
    """A file in a transfer syntax that does not pack pixels."""
    data = _copy(data)
    data.file_meta.TransferSyntaxUID = syntax
    if syntax == uid.ExplicitVRBigEndian and "PixelData" in data and data.BitsAllocated == 16:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    return _written(data, syntax)


def compressed(data: Dataset, syntax: str) -> bytes:
    """A file packed by pydicom's encoders."""
    data = _copy(data)
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.compress(syntax, generate_instance_uid=False)
    return _written(data, syntax)


def transcoded(data: Dataset, syntax: str) -> bytes:
    """A file packed by GDCM."""
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before", Path(folder) / "after"
        before.write_bytes(saved(data, uid.ExplicitVRLittleEndian))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(before))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(after))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return after.read_bytes()


def encapsulated(data: Dataset, frames: list[bytes], syntax: str) -> bytes:
    """A file around streams that are packed already."""
    data = _copy(data)
    data.PixelData = pydicom.encaps.encapsulate(frames)
    data["PixelData"].is_undefined_length = True
    return _written(data, syntax)


def _jpeg(data: Dataset, photometric: str) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(data.pixel_array).save(out, "JPEG")
    data.PhotometricInterpretation = photometric
    return encapsulated(data, [out.getvalue()], uid.JPEGBaseline8Bit)


def _written(data: Dataset, syntax: str) -> bytes:
    data.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    pydicom.dcmwrite(out, data, enforce_file_format=True)
    return out.getvalue()


def _bare(data: Dataset) -> bytes:
    """Without preamble and group 2."""
    out = io.BytesIO()
    bare = Dataset(_copy(data))
    pydicom.dcmwrite(out, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    return out.getvalue()


def _copy(data: Dataset) -> Dataset:
    out = Dataset()
    out.update(data)
    out.file_meta = FileMetaDataset()
    out.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    out.file_meta.MediaStorageSOPClassUID, out.file_meta.MediaStorageSOPInstanceUID = (
        data.SOPClassUID,
        data.SOPInstanceUID,
    )
    return out


def _base(kind: str) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.SOPClassUID = kind if kind[0] == "1" else next(u for u, e in uid.UID_dictionary.items() if e[0] == kind)
    data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3.4.1", "1.2.3", "1.2.3.4"
    data.FrameOfReferenceUID, data.PatientID, data.PatientName = "1.2.3.9", "p1", "Ä^B"
    data.SpecificCharacterSet, data.Modality = "ISO_IR 192", "CT"
    return data


def _image(bits: int, dtype: Any, shape: tuple[int, ...] = _SIDES) -> Dataset:
    data = _base("CT Image Storage")
    values = (np.arange(np.prod(shape)) * 37 % 2 ** min(bits, 11)).reshape(shape).astype(dtype)
    data.Rows, data.Columns = shape[-2:] if len(shape) < 4 and shape[-1] != 3 else shape[-3:-1]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = values.itemsize * 8, bits, bits - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    data["PixelData"].VR = "OW"
    return data


def _eight_bits() -> Dataset:
    data = _image(8, np.uint8)
    data.SOPClassUID, data.Modality = uid.ComputedRadiographyImageStorage, "CR"
    data.PhotometricInterpretation = "MONOCHROME1"
    return data


def _twelve_bits() -> Dataset:
    data = _image(12, np.uint16)
    data.SOPClassUID, data.Modality = uid.DigitalXRayImageStorageForPresentation, "DX"
    return data


def _colour(sides: tuple[int, int] = _SIDES) -> Dataset:
    data = _image(8, np.uint8, (*sides, 3))
    data.SOPClassUID, data.Modality = uid.UltrasoundImageStorage, "US"
    data.SamplesPerPixel, data.PlanarConfiguration, data.PhotometricInterpretation = 3, 0, "RGB"
    return data


def _planar() -> Dataset:
    data = _colour()
    data.PlanarConfiguration, data.PhotometricInterpretation = 1, "YBR_FULL"
    return data


def _ybr_422() -> Dataset:
    data = _colour()
    data.PhotometricInterpretation, data.PixelData = "YBR_FULL_422", data.PixelData[:128]
    return data


def _palette() -> Dataset:
    data = _image(8, np.uint8)
    data.SOPClassUID, data.PhotometricInterpretation = uid.UltrasoundImageStorage, "PALETTE COLOR"
    for name in ("Red", "Green", "Blue"):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [16, 0, 16])
        setattr(data, f"{name}PaletteColorLookupTableData", np.arange(16, dtype="<u2").tobytes())
    return data


def _frames(sides: tuple[int, int] = _SIDES) -> Dataset:
    data = _image(8, np.uint8, (3, *sides))
    data.SOPClassUID, data.Modality, data.NumberOfFrames = uid.UltrasoundMultiFrameImageStorage, "US", 3
    return data


def _one_bit() -> Dataset:
    data = _image(8, np.uint8)
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelData = 1, 1, 0, bytes(range(8))
    return data


def _floats() -> Dataset:
    data = _image(16, np.int16)
    data.SOPClassUID, data.BitsAllocated = uid.ParametricMapStorage, 32
    del data.PixelData
    data.FloatPixelData = np.linspace(0, 1, 64, dtype="<f4").tobytes()
    return data


def _with_table() -> Dataset:
    data, table = _image(8, np.uint8), Dataset()
    table.LUTDescriptor, table.LUTData, table.ModalityLUTType = [16, 0, 16], list(range(16)), "HU"
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    data.ModalityLUTSequence = Sequence([table])
    return data


def enhanced() -> Dataset:
    """CT of three frames with their places."""
    data = _image(16, np.int16, (3, *_SIDES))
    data.SOPClassUID, data.NumberOfFrames = uid.EnhancedCTImageStorage, 3
    data.SharedFunctionalGroupsSequence = Sequence([_shared()])
    data.PerFrameFunctionalGroupsSequence = Sequence([_placed(n) for n in range(3)])
    return data


def _shared() -> Dataset:
    group, measures, plane, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.5], 2
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
    group.PixelMeasuresSequence, group.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    group.PixelValueTransformationSequence = Sequence([rescale])
    return group


def _placed(number: int) -> Dataset:
    group, place, content = Dataset(), Dataset(), Dataset()
    place.ImagePositionPatient = [0, 0, 2.0 * number]
    content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", number + 1, [1, number + 1]
    group.PlanePositionSequence, group.FrameContentSequence = Sequence([place]), Sequence([content])
    return group


def segmentation() -> Dataset:
    """Two segments of one bit."""
    data = _image(8, np.uint8)
    data.SOPClassUID, data.Modality, data.NumberOfFrames = uid.SegmentationStorage, "SEG", 2
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelData = 1, 1, 0, bytes(range(16))
    data.SegmentationType, data.SegmentSequence = "BINARY", Sequence([_segment(1), _segment(2)])
    data.SharedFunctionalGroupsSequence = Sequence([_shared()])
    frames = [_placed(n) for n in range(2)]
    for number, frame in enumerate(frames):
        said = Dataset()
        said.ReferencedSegmentNumber = number + 1
        frame.SegmentIdentificationSequence = Sequence([said])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    referred, instance = Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = uid.CTImageStorage, "1.2.3.4.1"
    referred.SeriesInstanceUID, referred.ReferencedInstanceSequence = "1.2.3.4", Sequence([instance])
    data.ReferencedSeriesSequence = Sequence([referred])
    return data


def _segment(number: int) -> Dataset:
    segment, code = Dataset(), Dataset()
    meaning = Code("T-D0050", "SRT", "Tissue")
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = (
        meaning.value,
        meaning.scheme_designator,
        meaning.meaning,
    )
    segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmType = number, f"part {number}", "MANUAL"
    segment.SegmentedPropertyTypeCodeSequence = Sequence([code])
    return segment


def _without_image(name: str) -> Dataset:
    data = _base("1.2.840.10008.1.3.10" if "Directory" in name else name)
    data.Modality = "SR"
    return data


def _record(file: str) -> Dataset:
    record = Dataset()
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", file.split("/")
    return record
