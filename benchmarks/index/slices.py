"""CT slices as a scanner writes them: 512 x 512, 16 bits, the header of a routine chest CT (118 elements)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

SIDE, SLICES = 512, 100
SYNTAXES = {"uncompressed": ExplicitVRLittleEndian, "JPEG-LS": JPEGLSLossless}


def write_series(folder: Path, files: int, syntax: str) -> None:
    """`files` slices in series of 100, a folder each; the series show the same 100 slices with noise of their own, or
    the very same where they are compressed, which takes long."""
    kept = [_packed(_stored(number, 0), syntax) for number in range(SLICES)] if syntax != "uncompressed" else []
    for series in range(-(-files // SLICES)):
        place = folder / f"series {series:03}"
        place.mkdir(parents=True, exist_ok=True)
        common = _common(series)
        for number in range(min(SLICES, files - series * SLICES)):
            pixels = kept[number] if kept else _stored(number, series).tobytes()
            _slice(common, number, pixels, syntax).save_as(place / f"{number:04}.dcm", enforce_file_format=True)


def write_photographs(folder: Path, files: int) -> None:
    """`files` grey JPEG files of 512 x 512."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        shown = np.clip((_stored(number % SLICES, number).astype(np.float32) - 24) / 8, 0, 255).astype(np.uint8)
        Image.fromarray(shown).save(folder / f"{number:05}.jpg", quality=90)


_noise = np.random.default_rng(0).normal(0, 25, (SIDE + 256, SIDE + 256)).astype(np.int16)
_y, _x = np.mgrid[:SIDE, :SIDE].astype(np.float32) - SIDE / 2


def _stored(number: int, series: int) -> NDArray[np.int16]:
    """Stored values: a trunk with two lungs and a spine in air, and noise."""
    trunk = (_x / 210) ** 2 + (_y / (140 + number / 4)) ** 2 < 1
    lungs = ((np.abs(_x) - 95) / 70) ** 2 + (_y / (40 + number * 0.6)) ** 2 < 1
    spine = _x**2 + (_y - 100) ** 2 < 24**2
    shown = np.select([spine, lungs & trunk, trunk], [420, -830, 45], -1000).astype(np.int16)
    down, across = (number * 7 + series * 13) % 256, (number * 11 + series * 29) % 256
    noisy = shown + _noise[down : down + SIDE, across : across + SIDE]
    stored: NDArray[np.int16] = np.maximum(noisy, -1024).astype(np.int16) + np.int16(1024)
    return stored


def _packed(pixels: NDArray[np.int16], syntax: str) -> bytes:
    from jpeg_ls import encode

    assert syntax == "JPEG-LS"
    return bytes(encapsulate([bytes(encode(pixels.astype(np.uint16)))]))


def _common(series: int) -> Dataset:
    """What all slices of a series say."""
    said = Dataset()
    uids = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    texts = {
        "SpecificCharacterSet": "ISO_IR 100", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "StudyDate": "20240105",
        "SOPClassUID": CTImageStorage, "SeriesDate": "20240105", "AcquisitionDate": "20240105", "Modality": "CT",
        "ContentDate": "20240105", "StudyTime": "101112", "SeriesTime": "101200", "AcquisitionTime": "101210",
        "ContentTime": "101215", "AccessionNumber": f"A{series:06}", "Manufacturer": "Phantom Works",
        "InstitutionName": "Example Hospital", "ReferringPhysicianName": "Example^Physician", "StationName": "CT1",
        "StudyDescription": "CT chest", "SeriesDescription": "Chest 1.25 mm", "ManufacturerModelName": "Model 64",
        "PatientName": f"Phantom^{series}", "PatientID": f"P{series:05}", "PatientBirthDate": "19600101",
        "PatientSex": "F", "PatientAge": "064Y", "PatientWeight": "70", "BodyPartExamined": "CHEST",
        "ScanOptions": "HELICAL MODE", "SliceThickness": "1.25", "KVP": "120", "DataCollectionDiameter": "500",
        "DeviceSerialNumber": "12345", "SoftwareVersions": "1.0", "ProtocolName": "Chest routine",
        "ReconstructionDiameter": "360", "DistanceSourceToDetector": "949", "DistanceSourceToPatient": "541",
        "GantryDetectorTilt": "0", "TableHeight": "150", "RotationDirection": "CW", "ExposureTime": "500",
        "XRayTubeCurrent": "300", "Exposure": "150", "FilterType": "BODY FILTER", "GeneratorPower": "36000",
        "FocalSpots": "1.2", "ConvolutionKernel": "STANDARD", "PatientPosition": "FFS", "StudyID": f"{series}",
        "SeriesNumber": "2", "AcquisitionNumber": "1", "PositionReferenceIndicator": "SN", "PixelSpacing": [0.7, 0.7],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "WindowCenter": "40", "WindowWidth": "400",
        "RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU", "SingleCollimationWidth": 0.625,
        "TotalCollimationWidth": 40.0, "TableSpeed": 55.0, "TableFeedPerRotation": 27.5, "SpiralPitchFactor": 0.98,
        "RequestedProcedureDescription": "CT chest", "PerformedProcedureStepStartDate": "20240105",
        "PerformedProcedureStepStartTime": "101100", "PerformedProcedureStepID": "1", "RevolutionTime": 0.5,
        "PerformedProcedureStepDescription": "CT chest", "IssuerOfPatientID": "EX", "CTDIvol": 8.2,
    }  # fmt: skip
    numbers = {
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": SIDE, "Columns": SIDE,
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0,
        "SmallestImagePixelValue": 0, "LargestImagePixelValue": 4095,
    }  # fmt: skip
    for name, value in (texts | numbers | {name: generate_uid() for name in uids}).items():
        setattr(said, name, value)
    for name in ("ProcedureCodeSequence", "RequestAttributesSequence", "ReferencedStudySequence"):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "CTCH", "EX", "CT chest"
        setattr(said, name, [item])
    block = said.private_block(0x0043, "PHANTOM PARAMETERS 01", create=True)
    for number in range(24):
        block.add_new(number, "DS" if number % 2 else "LO", str(number))
    return said


def _slice(common: Dataset, number: int, pixels: bytes, syntax: str) -> Dataset:
    said = Dataset()
    said.update(common)
    said.file_meta = FileMetaDataset()
    said.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    said.SOPInstanceUID = said.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    said.file_meta.MediaStorageSOPClassUID = CTImageStorage
    said.InstanceNumber = number + 1
    said.ImagePositionPatient = [-179.3, -179.3, 1.25 * number]
    said.SliceLocation, said.AcquisitionNumber = 1.25 * number, 1
    said.add_new((0x7FE0, 0x0010), "OW", pixels)
    said["PixelData"].is_undefined_length = syntax != "uncompressed"
    return said
