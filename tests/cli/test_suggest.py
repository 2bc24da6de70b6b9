"""`medprior suggest` on the folders of small, real runs: who is on the list, who is not, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from command_line import assigned, call
from medprior.data.catalogfile import load_catalog
from medprior.data.phantom import make_cohort

SMALL = [
    "data.size=32", "pretrain.methods=[mae]", "pretrain.backbone=test_vit", "pretrain.steps=2", "pretrain.batch_size=8",
    "mae.decoder_width=32", "mae.decoder_depth=1", "adapt.steps=2", "study.folds=2", "study.repeats=1",
    "study.threads=1", "study.workers=1",
]  # fmt: skip
PRETRAIN = [word for word in SMALL if not word.startswith(("adapt", "study.folds", "study.repeats"))]
LABELLED, IMAGES = 40, 60


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 X-rays: 40 with a label, 20 of ten patients without, one more of a labelled patient, and one copied label."""
    root = tmp_path_factory.mktemp("cohort")
    table = pd.read_csv(make_cohort(root, patients=IMAGES, seed=3, size=32), dtype=str)[["path", "label"]]
    number = pd.Series(range(IMAGES))
    table["patient"] = [f"Quint {n if n < LABELLED else LABELLED + n % 10}" for n in number]
    table.loc[number >= LABELLED, "label"] = ""
    shutil.copy(root / table["path"][LABELLED], root / "more.png")
    shutil.copy(root / table["path"][0], root / "copy.png")
    table.loc[number == LABELLED, "patient"] = "Quint 7"
    more = pd.DataFrame({"path": ["more.png", "copy.png"], "label": "", "patient": ["Quint 98", "Quint 99"]})
    pd.concat([table, more]).to_csv(root / "labels.csv", index=False)
    return root


@pytest.fixture(scope="module")
def study(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    words = ["--labels", scans / "labels.csv", "--budgets", 12, "--seeds", 1, "--out", out]
    call("run", scans, *words, "--patient", "patient", "--label", "label", *assigned(SMALL))
    return out


@pytest.fixture(scope="module")
def pretrained(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / "out"
    call("pretrain", scans, "--out", out, *assigned(PRETRAIN))
    return out


def listed(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "worklist.csv", dtype={"patient": str, "expected": str}, keep_default_na=False)


def test_nobody_twice_nobody_labelled_no_copies(
    medprior: Callable[..., int], study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medprior("suggest", study) == 0
    said = capsys.readouterr().out
    assert "that may be labelled: the uncertain, no two alike" in said
    assert "50 were asked for; only" in said
    assert "test on patients drawn at random" in said
    found, catalog = listed(study / "suggest"), load_catalog(study / "catalog.parquet")
    labelled = catalog.table["labelled"].to_numpy(bool)
    assert len(found) == found["patient"].nunique()
    assert set(found["patient"]).isdisjoint(catalog.table["patient"][labelled])
    assert (catalog.table["path"].to_numpy()[found["row"]] == found["path"]).all()
    # Ten patients have no label; the copy of a labelled image is out, and so is that of the labelled patient's image.
    assert len(found) == 10
    assert {"more.png", "copy.png"}.isdisjoint(found["path"])
    assert found["uncertainty"].astype(float).between(0, 1).all()
    assert found["expected"].str.contains(r"\(0\.\d\d\)").all()


def test_the_same_line_gives_the_same_list_and_page(medprior: Callable[..., int], study: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert medprior("suggest", study, "--count", 6, "--out", tmp_path / name) == 0
    for name in ("worklist.csv", "worklist.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_page_names_no_file_no_patient_and_no_expectation(
    medprior: Callable[..., int], study: Path, tmp_path: Path
) -> None:
    assert medprior("suggest", study, "--count", 6, "--out", tmp_path) == 0
    page, found = (tmp_path / "worklist.html").read_text(encoding="utf-8"), listed(tmp_path)
    assert page.count("<img ") == 6
    assert "http:" not in page and "https:" not in page
    for name in [*found["path"], *found["patient"], "Quint", *found["expected"]]:
        assert name not in page


def test_typical_ones_on_request_also_where_labels_are(
    medprior: Callable[..., int], study: Path, tmp_path: Path
) -> None:
    assert medprior("suggest", study, "--count", 5, "--by", "typical", "--out", tmp_path) == 0
    found = listed(tmp_path)
    assert found["why"].str.startswith("typical of ").all()
    assert (found["expected"] == "").all()


def test_a_pretraining_without_labels_will_do(medprior: Callable[..., int], pretrained: Path, tmp_path: Path) -> None:
    encoder = pretrained / "pretrain" / "mae-test_vit" / "fold-0-seed-0"
    for place, name in ((pretrained, "whole"), (encoder, "encoder")):
        assert medprior("suggest", place, "--count", 20, "--out", tmp_path / name) == 0
    found = listed(tmp_path / "whole")
    assert len(found) == found["row"].nunique() == 20
    assert found.equals(listed(tmp_path / "encoder"))


def test_what_is_no_finished_run_is_refused_with_what_to_do(
    medprior: Callable[..., int], pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(place: Path, *words: object) -> str:
        assert medprior("suggest", place, *words, "--out", tmp_path / "list") in (2, 6)
        assert not (tmp_path / "list").exists()
        return capsys.readouterr().err

    assert "Give the folder that medprior run, compare or pretrain wrote" in refused(tmp_path)
    assert "not the folder of a run" in refused(tmp_path / "nowhere")
    assert "nothing is labelled" in refused(pretrained, "--by", "uncertain")
    assert "Ask for at least 1" in refused(pretrained, "--count", 0)

    def changed(name: str, spoil: Callable[[Path], object]) -> Path:
        spoil(shutil.copytree(pretrained, tmp_path / name))
        return tmp_path / name

    encoder = "pretrain/mae-test_vit/fold-0-seed-0"
    assert "is not finished" in refused(changed("a", lambda run: (run / encoder / "finished.json").unlink()))
    assert "keeps no catalog" in refused(changed("b", lambda run: (run / "catalog.parquet").unlink()))
    assert "pixels of this run are gone" in refused(changed("c", lambda run: shutil.rmtree(run / "store")))
    assert "record of the run is damaged" in refused(changed("d", lambda run: (run / "study.json").write_text("{")))
