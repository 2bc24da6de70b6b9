"""A made-up report, every part filled, from grey images drawn by formula: none of its numbers was measured. And a
made-up hospital folder, with a name in every place where folders have them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medprior.data.annotations.join import join_labels
from medprior.data.catalog import Catalog, build_catalog
from medprior.report.calibration import BELIEVED, REACHED, Calibration, Curve
from medprior.report.content import (
    Budget,
    DataSummary,
    Gallery,
    OutlinedScan,
    Outlines,
    Plane,
    Point,
    ReportContent,
    Rows,
)
from medprior.report.dropfigure import Drop
from medprior.report.embedding import Embedding
from medprior.report.groups import GroupRow, Groups, ShortcutRow
from medprior.report.reliability import Said
from medprior.report.robustness import TITLES, Fallen, Robustness
from medprior.report.saliency import Heated, HeatedImage, Saliency
from medprior.study.results import Arm
from medprior.study.verdict.embeddingmap import Colouring, EmbeddingMap
from medprior.study.verdict.errorsnearby import Mistake, Neighbour

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BUDGETS = {21: 143, 53: 371, 106: 748, 425: 2911}
SCORES = {
    "scratch": [(0.66, 0.57, 0.74), (0.71, 0.64, 0.78), (0.775, 0.71, 0.83), (0.872, 0.83, 0.91)],
    "scratch 2x": [(0.67, 0.58, 0.75), (0.72, 0.65, 0.79), (0.78, 0.72, 0.84), (0.876, 0.83, 0.91)],
    "simclr": [(0.735, 0.66, 0.81), (0.771, 0.70, 0.83), (0.82, 0.77, 0.87), (0.871, 0.83, 0.91)],
    "mae": [(0.69, 0.60, 0.77), (0.752, 0.68, 0.82), (0.816, 0.76, 0.86), (0.885, 0.85, 0.92)],
    "spark": [(0.78, 0.70, 0.85), (0.814, 0.75, 0.87), (0.848, 0.80, 0.89), (0.881, 0.84, 0.92)],
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium; where there is none the test is skipped with the reason, but in CI it fails."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("needs Chromium on the PATH (chromium)")
    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def content() -> ReportContent:
    return made_up()


def made_up() -> ReportContent:
    images = phantoms(24, 64)
    return ReportContent(
        title="COVID-CT: is pre-training worth it here?",
        verdict=verdict(),
        summary=_summary(),
        plan=(
            "Encoder resnet18 at 96 px, because 2 CPU cores and 60 minutes (change with --backbone, --size).",
            "Pre-train SimCLR, MAE and SparK on 3,848 images, three runs each, about 41 minutes.",
            "Adapt at 21, 53, 106 and 425 labelled patients with 10 seeds each, about 18 minutes.",
            "No left-right flips: the heart's side carries meaning in chest images.",
        ),
        budgets=tuple(Budget(patients, images) for patients, images in BUDGETS.items()),
        per_class=_per_class(),
        class_note="The intervals are over test patients.",
        outlines=_outlines(images),
        examples=Gallery(images, [f"Row {37 * n}, {('COVID', 'NonCOVID')[n % 2]}" for n in range(24)]),
        reconstructions={"mae": Rows(("image", "masked", "restored"), _restored(images[:4]), _captions(4))},
        views={
            "simclr": Rows(("original", "view 1", "view 2"), _viewed(images[:3]), _captions(3)),
            "mae": Rows(("original", "view"), _viewed(images[3:6])[:, :2], _captions(3)),
        },
        training=_training(),
        results=_results(),
        command="medprior run scans/ --labels labels.csv --patient patient_id --methods simclr,mae,spark --seeds 10 "
        "--budgets 21,53,106,all --out out",
        environment={
            "medprior": "0.1.0",
            "Python, PyTorch": "3.11.9, 2.14.0",
            "Hardware": "2 CPU cores, 8 GiB",
            "Time": "61 minutes: pre-training 42, adaptation 19",
            "Catalog": "9f1c52e0a7b4",
        },
        links={"The model": "out/best", "Use it": "medprior predict out/best NEW_SCANS"},
        limits=("One data set from one language of publication; other scanners may behave otherwise.",),
        calibration=_calibration(),
        groups=_groups(),
        robustness=_robustness(),
        embedding=_embedding(),
        saliency=_saliency(images),
    )


def verdict() -> dict[str, object]:
    arms = [
        {
            "arm": arm.removesuffix(" 2x"),
            "encoder": "resnet18",
            "adaptation": {"scratch": "scratch", "scratch 2x": "scratch-2x"}.get(arm, "fine-tune"),
            "budget": budget,
            "mean": mean,
            "low": low,
            "high": high,
            "seeds": 10,
            "pretrain_seeds": None if arm.startswith("scratch") else 3,
        }
        for arm, scores in SCORES.items()
        for budget, (mean, low, high) in zip(BUDGETS, scores, strict=True)
    ]
    saved = [
        ("spark", 21, 5.2, 2.9, None),
        ("spark", 106, 2.6, 1.4, 5.1),
        ("simclr", 21, 3.1, 1.3, 7.4),
        ("simclr", 106, 1.7, 0.9, 3.2),
        ("mae", 21, 1.6, None, 4.0),
        ("mae", 106, 1.5, 0.8, 2.9),
        ("mae", 425, None, 0.7, None),
    ]
    keys = ("arm", "budget", "ratio", "low", "high")
    return {
        "schema": 1,
        "metric": "auroc",
        "unit": "patients",
        "test_patients": 203,
        "arms": arms,
        "labels_saved": [{"reference": "scratch", **dict(zip(keys, row, strict=True))} for row in saved],
        "sentences": [
            "With 21 labelled patients SparK reaches AUROC 0.78 [0.70–0.85]; the same encoder from scratch "
            "0.66 [0.57–0.74] (difference +0.12 [+0.04, +0.20]).",
            "From scratch this takes about 110 labelled patients (5.2x, at least 2.9x).",
            "At 425 labelled patients the two cannot be told apart.",
            "The verdict rests on 3 pre-training runs of each method and 10 seeds of each adaptation.",
        ],
        "warnings": [
            "ImageNet weights could not be had, so the usual rival is missing.",
            "2 images of training look like copies of test images: scores may be too high (medprior run --dedupe "
            "leaves them out).",
            "6 patients stand in more than one split: 9 images dropped from the earlier split.",
            "Only 41 test patients: differences that matter may go unseen.",
        ],
    }


def phantoms(count: int, size: int, seed: int = 0) -> np.ndarray:
    """(count, 1, size, size) uint8: an ellipse with two dark lungs, a bright spine and soft noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    drawn = []
    for _ in range(count):
        wide, tall, lean = rng.uniform(0.75, 0.92), rng.uniform(0.6, 0.75), rng.uniform(-0.05, 0.05)
        body = 0.55 * _disc(x, y, lean, 0.0, wide, tall)
        lungs = sum(_disc(x, y, lean + side * 0.36 * wide, -0.03, 0.27, rng.uniform(0.36, 0.5)) for side in (-1, 1))
        spine = 0.4 * _disc(x, y, lean, 0.42, 0.12, 0.12) + 0.2 * _disc(x, y, lean + 0.1, 0.05, 0.24, 0.24)
        spot = rng.uniform(0, 0.35) * _disc(x, y, lean + rng.uniform(-0.5, 0.5), rng.uniform(-0.2, 0.2), 0.12, 0.1)
        image = body - 0.45 * lungs + spine + spot + rng.normal(0, 0.025, x.shape)
        drawn.append(np.clip(image * 255, 0, 255).astype(np.uint8)[None])
    return np.stack(drawn)


def _disc(x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    return 1 / (1 + np.exp(18 * (np.hypot((x - cx) / rx, (y - cy) / ry) - 1)))


def _captions(count: int) -> list[str]:
    return [f"row {37 * n}" for n in range(count)]


def _restored(images: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    hidden = np.kron(rng.random((len(images), 1, 8, 8)) < 0.75, np.ones((8, 8))).astype(bool)
    masked = np.where(hidden, 90, images).astype(np.uint8)
    soft = sum(np.roll(images.astype(float), (dy, dx), (2, 3)) for dy in range(-2, 3) for dx in range(-2, 3)) / 25
    return np.stack([images, masked, soft.astype(np.uint8)], axis=1)


def _viewed(images: np.ndarray) -> np.ndarray:
    size = images.shape[-1]
    crops = (images[:, :, a : a + size // 2, b : b + size // 2] for a, b in ((8, 4), (20, 26)))
    zoomed = [np.kron(crop, np.ones((2, 2))) for crop in crops]
    views = [images, np.clip(zoomed[0] * 1.2, 0, 255), 255 * (zoomed[1] / 255) ** 0.7]
    return np.stack(views, axis=1).astype(np.uint8)


def _outlines(images: np.ndarray) -> Outlines:
    """Two lungs as two classes, and the same moved."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    truth = sum((1 + (side > 0)) * (np.hypot((x - 0.36 * side) / 0.27, y / 0.4) < 1) for side in (-1, 1))
    scans = [
        OutlinedScan(
            place,
            37 * n,
            dice,
            [Plane(name, images[n], truth, np.roll(truth, moved, n), (2.0, 1.0)) for name in ("axial", "sagittal")],
        )
        for n, (place, dice, moved) in enumerate((("worst", 0.41, 9), ("best", 0.93, 1)))
    ]
    arms = [("scratch", scans), ("spark", [*scans[:1], OutlinedScan("best", 9, 0.95)])]
    return Outlines(["left lung", "right lung"], [(21, arms), (425, arms)])


def _training() -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    rng = np.random.default_rng(2)
    steps = np.arange(0, 3000, 5)
    fall = np.exp(-steps / 600)
    return {
        "simclr": {
            "loss": (steps, 3.1 + 2.4 * fall + rng.normal(0, 0.05, len(steps))),
            "effective_rank": (steps, 180 - 150 * fall + rng.normal(0, 2, len(steps))),
            "learning_rate": (steps, 3e-4 * np.minimum(1, steps / 300) * (1 + np.cos(steps / 3000 * np.pi)) / 2),
        },
        "mae": {"loss": (steps, 0.21 + 0.6 * fall + rng.normal(0, 0.008, len(steps)))},
        "spark": {"loss": (steps, 0.25 + 0.7 * fall + rng.normal(0, 0.01, len(steps)))},
    }


def _per_class() -> list[dict[str, object]]:
    return [
        {"arm": arm, "budget": budget, "class": name, "metric": "auroc", "mean": mean + shift, "low": low, "high": high}
        for arm, scores in SCORES.items()
        if arm != "scratch 2x"
        for budget, (mean, low, high) in zip(BUDGETS, scores, strict=True)
        for name, shift in (("COVID", 0.01), ("NonCOVID", -0.01))
        if budget in (21, 425)
    ]


def _groups() -> Groups:
    """Two columns; the last group is too small for an interval, and the site is what the model leans on."""
    rows = [
        GroupRow(
            arm,
            column,
            group,
            patients,
            patients + 40,
            Point(425, score, score - 0.06, score + 0.05) if patients > 20 else Point(425, score),
            Point(425, score - SCORES[arm][-1][0], -0.09, 0.04) if patients > 20 else Point(425, -0.2),
            "0.412" if patients > 20 else "–",
        )
        for arm in ("spark", "scratch")
        for column, group, patients, score in (
            ("sex", "F", 99, 0.87),
            ("sex", "M", 104, 0.88),
            ("site", "north", 120, 0.89),
            ("site", "south", 70, 0.82),
            ("site", "other", 13, 0.68),
        )
    ]
    suspects = [
        ShortcutRow("spark", column, Point(425, read, read - 0.05, read + 0.03), 0.4, "0.003", 0.88, 0.83, lost, said)
        for column, read, lost, said in (
            ("sex", 0.55, Point(425, 0.0, -0.02, 0.02), False),
            ("site", 0.93, Point(425, 0.05, 0.02, 0.08), True),
        )
    ]
    return Groups(425, rows, {arm: SCORES[arm][-1][0] for arm in ("spark", "scratch")}, suspects)


def _robustness() -> Robustness:
    """Every arm falls with the severity, and contrast costs nothing: one drop there has no interval."""
    steep = dict(zip(TITLES, (0.05, 0.03, 0.0, 0.02, 0.01), strict=True))
    share = {"scratch": 1.0, "scratch 2x": 1.1, "simclr": 0.7, "mae": 0.8, "spark": 0.4}
    fallen = {
        arm: {
            name: Fallen([Drop(s * slope * part, s * slope * part - 0.02, s * slope * part + 0.03) for s in (1, 2, 3)],
                         Drop(2 * slope * part, 2 * slope * part - 0.02, 2 * slope * part + 0.02))
            for name, slope in steep.items()
        }
        for arm, part in share.items()
    }  # fmt: skip
    fallen["spark"]["contrast"] = Fallen([Drop(0.0)] * 3, Drop(0.0))
    return Robustness(425, 246, {arm: scores[-1][0] for arm, scores in SCORES.items()}, fallen)


def _calibration() -> Calibration:
    """Of the two arms that are drawn one has a temperature."""
    said = [
        Said(chance, Point(425, share, share - 0.08, min(1.0, share + 0.07)), 40)
        for chance, share in ((0.05, 0.14), (0.24, 0.31), (0.52, 0.49), (0.78, 0.69), (0.96, 0.88))
    ]
    after = [Said(0.8 * one.chance + 0.1, one.share, one.patients) for one in said]
    curves = [Curve("scratch", None, said), Curve("mae", None, said), Curve("mae", 1.62, after)]
    believed = {"scratch": BELIEVED[:2], "mae": BELIEVED}
    scores = {
        arm: {name: Point(425, 0.1 + 0.02 * i, 0.08, 0.3) for i, name in enumerate(names)}
        for arm, names in believed.items()
    }
    scores["mae"] |= {name: Point(425, 0.88 - 0.02 * i, 0.7, 0.93) for i, name in enumerate(REACHED)}
    return Calibration(425, "of COVID", curves, scores)


def _embedding() -> Embedding:
    """Two clouds of two labels, mixed by site, and two errors."""
    rng = np.random.default_rng(3)
    label, site = np.arange(90) % 2, rng.integers(-1, 8, 90)
    places = np.clip(rng.normal(0.3 + 0.4 * label[:, None], 0.12, (90, 2)), 0, 1)
    near = tuple(Neighbour(12 + 3 * n, ("COVID", "NonCOVID")[n % 2], 0.03 * (n + 1)) for n in range(4))
    found = EmbeddingMap(
        Arm("spark", "resnet18", "fine-tune"),
        3 * np.arange(90),
        places,
        np.arange(90) % 3 == 0,
        (
            Colouring("label", ("COVID", "NonCOVID"), label, 0.93, 0.5),
            Colouring("site", tuple(f"hospital {n}" for n in range(8)), site, 0.14, 0.13),
        ),
        656,
        (Mistake(0, "COVID", "NonCOVID", 0.97, near), Mistake(9, "NonCOVID", "COVID", 0.88, near[::-1])),
    )
    images = phantoms(90, 40, seed=4)
    return Embedding(found, images, {3 * n: images[n] for n in range(90)})


def _saliency(images: np.ndarray) -> Saliency:
    """Heat on a grid of 4 x 4 cells; the last image is one of three planes."""
    heat = np.random.default_rng(5).random((6, 4, 4)).astype(np.float32) ** 3
    heat[:, 1, 2] = 1
    flat = [[Heated("", images[n], heat[n])] for n in range(3)]
    deep = [Heated(name, images[3 + n], heat[3 + n]) for n, name in enumerate(("axial", "coronal", "sagittal"))]
    right = [HeatedImage(37 * n, "COVID", "COVID", 0.91 - 0.1 * n, flat[n]) for n in range(2)]
    wrong = [HeatedImage(74, "COVID", "NonCOVID", 0.77, flat[2]), HeatedImage(111, "NonCOVID", "COVID", 0.55, deep)]
    return Saliency("spark", 425, "Grad-CAM", (4, 4), right, wrong)


def _results() -> list[dict[str, object]]:
    return [
        {"arm": arm, "budget": budget, "metric": metric, "mean": mean - drop, "low": low - drop, "high": high - drop}
        for arm, scores in SCORES.items()
        for budget, (mean, low, high) in zip(BUDGETS, scores, strict=True)
        for metric, drop in (("auroc", 0.0), ("average_precision", 0.03), ("balanced_accuracy", 0.07))
    ]


def _summary() -> DataSummary:
    return DataSummary(
        images=3848,
        labelled=746,
        patients=332,
        modality="CT slices, 8-bit JPEG",
        sizes="124 to 1,637 px, median 512 × 384",
        splits={"train": 3227, "validation": 418, "test": 203},
        classes={
            "COVID": {"train": 191, "validation": 60, "test": 98},
            "NonCOVID": {"train": 234, "validation": 58, "test": 105},
        },
        problems=({"row": 218, "reason": "the image ends too early"}, {"row": 3021, "reason": "no pixels inside"}),
    )


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Ten scans of four patients with a copy across the split, a mask, boxes, a report and a damaged file."""
    root = tmp_path_factory.mktemp("scans")
    table = write_hospital(root)
    return join_labels(build_catalog(root, workers=1), table, label=["nodule", "effusion"])


def write_hospital(root: Path) -> Path:
    """A folder as hospitals have them: names in folders, files, tags, tables and reports; returns the label table."""
    from pydicom.data import get_testdata_file

    rng = np.random.default_rng(0)
    images = root / "QUINT^VERA 19480312" / "images"
    for folder in (images, images.parent / "masks"):
        folder.mkdir(parents=True)
    tags = PngInfo()
    tags.add_text("Patient", "QUINT^VERA 1.2.826.77 ACC778812")
    lines = ["path;patient_id;split;ward seven;nodule;effusion"]
    for i in range(8):
        pixels = np.kron(rng.integers(0, 256, (8, 8)), np.ones((8, 6))).astype(np.uint8)
        if i == 7:
            pixels = np.asarray(Image.open(images / "Quint_Vera_0.png"))
        Image.fromarray(pixels).save(images / f"Quint_Vera_{i}.png", pnginfo=tags)
        split = "test" if i > 5 else "train"
        where = f"QUINT^VERA 19480312/images/Quint_Vera_{i}.png"
        lines.append(f"{where};VERA{i % 4};{split};Quint;{i % 2};{int(i > 2)}")
    disc = np.hypot(*np.mgrid[-1:1:64j, -1:1:48j]) < 0.6
    Image.fromarray(disc.astype(np.uint8) * 255).save(images.parent / "masks" / "Quint_Vera_1.png")
    (images / "Quint_Vera_2.xml").write_text(
        "<annotation><filename>Quint_Vera_2.png</filename><size><width>48</width><height>64</height></size><object>"
        "<name>nodule</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>"
        "<object><name>nodule</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
        "</annotation>"
    )
    (images / "Quint_Vera_3.txt").write_text("Mrs Quint, ward seven: a nodule in the upper lobe.")
    (images / "Quint_Vera_damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n QUINT")
    volume = nibabel.Nifti1Image(rng.normal(100, 20, (20, 24, 8)).astype(np.float32), np.diag([1, 1, 3, 1]))
    volume.header["descrip"] = b"QUINT^VERA"
    nibabel.save(volume, images.parent / "Quint_Vera_head.nii.gz")
    _write_dicom(Path(str(get_testdata_file("CT_small.dcm"))), images.parent / "19480312_Quint")
    table = root / "trial list of ward seven.csv"
    table.write_text("\n".join(lines))
    return table


def _write_dicom(template: Path, path: Path) -> None:
    import pydicom

    data = pydicom.dcmread(template)
    data.PatientName, data.PatientID, data.PatientBirthDate = "QUINT^VERA", "VERA0", "19480312"
    data.AccessionNumber, data.StudyInstanceUID = "ACC778812", "1.2.826.77.1"
    data.SeriesInstanceUID, data.SOPInstanceUID = "1.2.826.77.2", "1.2.826.77.3"
    data.save_as(path)
