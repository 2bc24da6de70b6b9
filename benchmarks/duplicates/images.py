"""The images of the public sets, as arrays, with the patient and the name of each where they are known."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

Named = tuple[str, str, np.ndarray]
"""Name within its set, patient ("" unknown), pixels (H, W) or (D, H, W)."""


def grey(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("L"))


def nih(data: Path) -> Iterator[Named]:
    for file in sorted((data / "nih-chestxray14-64px/images").glob("*.png")):
        yield file.name, file.name[:8], grey(file)


def brain(data: Path) -> Iterator[Named]:
    for file in sorted((data / "brain-tumor-mri/images").glob("*.jpg")):
        yield file.name, "", grey(file)


def covid_ct(data: Path) -> Iterator[Named]:
    with (data / "covid-ct/labels.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            yield Path(row["path"]).name, row["patient"], grey(data / "covid-ct" / row["path"])


def ct_slices(data: Path) -> Iterator[Named]:
    for file in sorted((data / "ct-slices-unlabelled/images").glob("*.jpg")):
        yield file.name, "", grey(file)


def pneumonia(data: Path) -> Iterator[Named]:
    arrays = np.load(data / "pneumoniamnist/pneumoniamnist.npz")
    for part in ("train", "val", "test"):
        for i, image in enumerate(arrays[f"{part}_images"]):
            yield f"{part} {i}", "", image


def chest(data: Path) -> Iterator[Named]:
    with (data / "covid-chestxray/metadata.csv").open(encoding="utf-8") as lines:
        rows = {row["filename"]: row["patientid"] for row in csv.DictReader(lines)}
    for name, patient in sorted(rows.items()):
        yield name, patient, grey(data / "covid-chestxray/images" / name)


def chase(data: Path) -> Iterator[Named]:
    for file in sorted((data / "chase-db1").glob("*.jpg")):
        yield file.name, file.name[:8], grey(file)


def hippocampus(data: Path) -> Iterator[Named]:
    for file in sorted((data / "msd-task04-hippocampus/imagesTr").glob("*.nii.gz")):
        yield file.name, file.name, np.asarray(nibabel.load(file).dataobj, np.float32)


def adrenal(data: Path) -> Iterator[Named]:
    arrays = np.load(data / "adrenalmnist3d_64/adrenalmnist3d_64.npz")
    for part in ("val", "test"):
        for i, volume in enumerate(arrays[f"{part}_images"]):
            yield f"{part} {i}", "", volume


SETS = {
    "nih": nih,
    "brain": brain,
    "covid-ct": covid_ct,
    "ct-slices": ct_slices,
    "pneumonia": pneumonia,
    "chest": chest,
    "chase": chase,
    "hippocampus": hippocampus,
    "adrenal": adrenal,
}
