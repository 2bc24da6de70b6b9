"""Nothing that is meant to be shared names a person: identifiers planted everywhere are looked for in every byte."""

from __future__ import annotations

import datetime
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medprior.cli import main
from medprior.data.privacy import default_salt_file

PRIVATE = {
    "catalog.parquet",
    "index.parquet",
    "problems.csv",
    "rows.csv",
    "predictions.csv",
    "features.csv",
    "store",
    "cells",
}
"""What the README says to keep to oneself; everything else may be given away."""
PLANTED = ["Janosch", "Doewitz", "MRN0049381", "19620317", "ACC77120", "1.2.826.0.1.3680043.8.498.777", "wardzeppelin"]
QUICK = [
    *["--size", "32", "--methods", "mae", "--backbone", "test_vit", "--budgets", "8", "--seeds", "1"],
    *(
        word
        for setting in (
            *("pretrain.steps=2", "pretrain.batch_size=8", "adapt.steps=2", "study.folds=2", "study.repeats=1"),
            *("study.threads=1", "study.workers=1", "mae.decoder_width=32", "mae.decoder_depth=1"),
        )
        for word in ("--set", setting)
    ),
]


def radiograph(path: Path, number: int) -> None:
    """A soft 24 px radiograph whose header, name and folder say who it is."""
    soft = np.kron(np.random.default_rng(number).integers(0, 4000, (4, 4)), np.ones((6, 6)))
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{PLANTED[5]}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{PLANTED[5]}.9.{number}", generate_uid()
    data.PatientName, data.PatientID = "Doewitz^Janosch", f"MRN0049381{number}"
    data.PatientBirthDate, data.AccessionNumber = "19620317", "ACC77120"
    data.Modality, data.StudyDate = "CR", datetime.date(2020, 1, 2)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = soft.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = soft.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of an index, a study, a prediction and an embedding."""
    place = tmp_path_factory.mktemp("wardzeppelin")
    rows = []
    for i in range(24):
        path = Path(f"Doewitz {i // 2}/Janosch_{i}.dcm")
        radiograph(place / "scans" / path, i)
        rows.append(f"{path},{'ab'[i % 4 // 2]},MRN0049381-{i}")
    (place / "scans/Janosch_broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"Doewitz")
    (place / "scans/Doewitz 0/Janosch_0.txt").write_text("Janosch Doewitz has clear lungs and no effusion at all.")
    (place / "scans/Janosch_double.dcm").write_bytes((place / "scans/Doewitz 1/Janosch_2.dcm").read_bytes())
    (place / "Doewitz.csv").write_text("path,label,patient\n" + "\n".join(rows) + "\n")
    out, labels = place / "out", ["--labels", str(place / "Doewitz.csv")]
    for words in (
        ["index", place / "scans", *labels, "--out", out / "index"],
        ["run", place / "scans", *labels, "--out", out / "run", *QUICK],
        ["predict", out / "run/best", place / "scans", "--out", out / "predict", "--anyway"],
        ["embed", out / "run/best", place / "scans", "--out", out / "embed"],
    ):
        sys.argv = ["medprior", *map(str, words)]
        main()
    return out


def opened(data: bytes) -> Iterator[bytes]:
    """The bytes of a file, and of what is packed into it."""
    yield data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from map(archive.read, archive.namelist())


def test_no_shared_byte_names_a_person(shared: Path):
    files = [p for p in shared.rglob("*") if p.is_file() and PRIVATE.isdisjoint(p.relative_to(shared).parts)]
    assert {"data-card.html", "data-card.json", "report.html", "results.csv", "verdict.json"} <= {p.name for p in files}
    told = [
        (str(file.relative_to(shared)), word)
        for file in files
        for data in opened(file.read_bytes())
        for word in PLANTED
        if word.lower().encode() in data.lower()
    ]
    assert told == []
    assert not [p for p in files for word in PLANTED if word.lower() in p.relative_to(shared).as_posix().lower()]


def test_the_private_files_do_hold_paths_and_so_are_worth_looking_through(shared: Path):
    """Were the words planted in vain, the test above could not fail."""
    assert b"Janosch" in (shared / "index/problems.csv").read_bytes()
    assert b"Janosch" in (shared / "predict/predictions.csv").read_bytes()


def test_not_even_the_private_catalog_holds_an_identifier_in_clear_as_patient(shared: Path):
    import pyarrow.parquet as pq

    patients = pq.read_table(shared / "index/catalog.parquet")["patient"].to_pylist()
    assert len(set(patients)) == 24  # the doubled file belongs to one of them
    assert not any("MRN" in patient for patient in patients)


def test_the_salt_lies_elsewhere_and_is_the_owners_alone(shared: Path):
    file = default_salt_file()
    assert not file.is_relative_to(shared) and file.stat().st_mode & 0o077 == 0
    salt = file.read_text().strip().encode()
    assert not [p for p in shared.rglob("*") if p.is_file() and salt in p.read_bytes()]
