"""Bad input, as a user would give it: one plain message, the right exit code, and nothing lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SETTINGS = [
    "pretrain.steps=2", "pretrain.batch_size=8", "adapt.steps=2", "study.folds=2", "study.repeats=1",
    "study.threads=1", "study.workers=1", "mae.decoder_width=32", "mae.decoder_depth=1",
]  # fmt: skip
QUICK = [*["--size", "32", "--methods", "mae", "--backbone", "test_vit", "--budgets", "8", "--seeds", "1"]]
QUICK += [word for setting in SETTINGS for word in ("--set", setting)]


class Done:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def medprior(medprior: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> object:
    """Runs a command in this process."""

    def run(*words: object) -> Done:
        capsys.readouterr()
        code = medprior(*words)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run


def write_images(folder: Path, count: int, seed: int = 0) -> list[str]:
    """`count` soft grey images of 24 px, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = [f"scan{i:03d}.jpg" for i in range(count)]
    for name in names:
        soft = np.kron(rng.integers(0, 255, (4, 4)), np.ones((6, 6)))
        Image.fromarray(soft.astype(np.uint8)).save(folder / name, quality=90)
    return names


def write_labels(path: Path, names: list[str], header: str = "path,label", classes: int = 2) -> Path:
    rows = [f"{name},{'abc'[i % classes]}" for i, name in enumerate(names)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def scans(tmp_path: Path) -> tuple[Path, Path]:
    names = write_images(tmp_path / "scans", 24)
    return tmp_path / "scans", write_labels(tmp_path / "labels.csv", names)


def said(done: Done, code: int, *words: str) -> None:
    assert done.code == code, done.err + done.out
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def test_an_empty_folder(medprior, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    said(medprior("run", tmp_path / "none", "--out", tmp_path / "out"), 3, "none")


def test_a_folder_that_is_not_there(medprior, tmp_path: Path) -> None:
    said(medprior("index", tmp_path / "absent", "--out", tmp_path / "out"), 3, "absent")


def test_a_folder_of_text_files(medprior, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for i in range(3):
        (tmp_path / "texts" / f"{i}.txt").write_text("no image")
    said(medprior("run", tmp_path / "texts", "--out", tmp_path / "out"), 3, "txt")


def test_no_labels_at_all(medprior, scans: tuple[Path, Path], tmp_path: Path) -> None:
    said(medprior("run", scans[0], "--out", tmp_path / "out"), 4, "--labels")


def test_a_truncated_image_among_good_ones(medprior, tmp_path: Path) -> None:
    names = write_images(tmp_path / "scans", 101)
    bad = tmp_path / "scans" / names[50]
    bad.write_bytes(bad.read_bytes()[:200])
    labels = write_labels(tmp_path / "labels.csv", names)
    done = medprior("run", tmp_path / "scans", "--labels", labels, "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    assert "1 files could not be read" in done.out
    assert "scan050.jpg" in (tmp_path / "out" / "problems.csv").read_text()
    assert (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "out" / "best" / "predictor.json").exists()


def test_a_wrong_column(medprior, scans: tuple[Path, Path], tmp_path: Path) -> None:
    folder, labels = scans
    labels.write_text(labels.read_text().replace("path,label", "pth,label"))
    said(medprior("run", folder, "--labels", labels, "--out", tmp_path / "out"), 4, "path", "pth")
    labels.write_text(labels.read_text().replace("pth,label", "path,diagnosys"))
    said(medprior("run", folder, "--labels", labels, "--label", "diagnosis", "--out", tmp_path / "o2"), 4, "diagnosys")


def test_duplicate_rows(medprior, scans: tuple[Path, Path], tmp_path: Path) -> None:
    folder, labels = scans
    labels.write_text(labels.read_text() + "scan000.jpg,a\n")
    done = medprior("index", folder, "--labels", labels, "--out", tmp_path / "same")
    assert done.code == 0
    assert "Beware" in done.out
    labels.write_text(labels.read_text() + "scan000.jpg,b\n")
    said(medprior("index", folder, "--labels", labels, "--out", tmp_path / "other"), 4, "1", "26")


def test_labels_for_absent_files(medprior, scans: tuple[Path, Path], tmp_path: Path) -> None:
    folder, labels = scans
    labels.write_text(labels.read_text().replace("scan00", "scam00"))
    done = medprior("run", folder, "--labels", labels, "--out", tmp_path / "out")
    said(done, 4, "scam000.jpg", "scan00")


def test_one_class_only(medprior, scans: tuple[Path, Path], tmp_path: Path) -> None:
    folder, labels = scans
    labels.write_text(labels.read_text().replace(",b", ",a"))
    said(medprior("run", folder, "--labels", labels, "--out", tmp_path / "out"), 4, "class")


def test_fewer_patients_than_folds(medprior, tmp_path: Path) -> None:
    names = write_images(tmp_path / "scans", 12)
    rows = [f"{name},{'ab'[i % 2]},p{i % 4}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient", *rows]))
    done = medprior(
        "run",
        tmp_path / "scans",
        "--labels",
        tmp_path / "labels.csv",
        "--out",
        tmp_path / "out",
        "--set",
        "study.folds=5",
    )
    said(done, 4, "2")


def test_a_place_that_cannot_be_written(medprior, scans: tuple[Path, Path], tmp_path: Path) -> None:
    folder, labels = scans
    (tmp_path / "file").write_text("in the way")
    said(medprior("run", folder, "--labels", labels, "--out", tmp_path / "file" / "out"), 7, "--out")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small-disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk(medprior, scans: tuple[Path, Path], small_disk: Path, tmp_path: Path) -> None:
    folder, labels = scans
    command = ("run", folder, "--labels", labels, *QUICK)
    done = medprior(*command, "--out", small_disk / "out")
    said(done, 7, "space")
    shutil.copytree(small_disk / "out", tmp_path / "out")
    assert medprior(*command, "--out", tmp_path / "out").code == 0


def test_the_folder_of_another_study(medprior, scans: tuple[Path, Path], tmp_path: Path) -> None:
    folder, labels = scans
    out = tmp_path / "out"
    assert medprior("run", folder, "--labels", labels, "--out", out, *QUICK).code == 0
    before = (out / "results.csv").read_bytes()
    done = medprior("run", folder, "--labels", labels, "--out", out, *QUICK, "--set", "adapt.batch_size=16")
    said(done, 6, "adapt.batch_size was 32, now 16", "--out")
    assert (out / "results.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "x", "--methods", "sprak"], "unknown method"),
        (["run", "x", "--methods", "simclrr"], 'Nearest: "simclr"'),
        (["run", "x", "--budgets", "20,many"], "--budgets 20,80,all"),
        (["run", "x", "--minuts", "3"], 'Nearest: "--minutes"'),
        (["rnu", "x"], 'Nearest: "run"'),
        (["run", "x", "--set", "study.sedes=3"], 'Nearest: "seeds"'),
        (["methods", "mea"], 'Nearest: "mae"'),
        (["run"], "SCANS"),
    ],
)
def test_wrong_words(medprior, words: list[str], expected: str) -> None:
    said(medprior(*words), 2, expected)


def test_a_folder_without_predictor(medprior, scans: tuple[Path, Path], tmp_path: Path) -> None:
    said(medprior("predict", tmp_path, scans[0], "--out", tmp_path / "out"), 6, "best/")


def test_results_cannot_lie_in_the_folder_of_scans(medprior, scans):
    said(medprior("index", scans[0], "--out", scans[0]), 7, "folder of scans itself", "Choose another --out")
    assert not (scans[0] / "index.parquet").exists()


def test_a_wrong_label_file_is_said_before_any_scan_is_read(medprior, scans, tmp_path):
    said(
        medprior("index", scans[0], "--labels", tmp_path / "absent.csv", "--out", tmp_path / "out"),
        4,
        "cannot be opened",
    )
    assert not (tmp_path / "out/index.parquet").exists()


def test_the_salt_does_not_lie_with_the_results(medprior, scans, tmp_path):
    salt = f"data.salt={tmp_path / 'out/salt'}"
    said(medprior("index", scans[0], "--out", tmp_path / "out", "--set", salt), 2, "folder of results")
