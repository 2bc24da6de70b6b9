"""`medprior report` on the folders of small, real runs: the same bytes as their own runs wrote, less where pixels are
gone, and a plain refusal where there is nothing to report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import assigned, call
from medprior.study.told import NAME as TOLD

BRIEF = [
    "pretrain.steps=2", "pretrain.batch_size=4", "adapt.steps=2", "study.folds=2", "study.repeats=1",
    "study.threads=1", "study.workers=1", "data.workers=1",
]  # fmt: skip
CLASSIFY = [
    *BRIEF, "data.size=32", "data.label=[label]", "pretrain.methods=[mae]", "pretrain.backbone=test_vit",
    "mae.decoder_width=32", "mae.decoder_depth=1", "data.groups=[site]", "study.budgets=[12]", "study.seeds=1",
]  # fmt: skip
OUTLINE = [
    *BRIEF, "data.size=32", "pretrain.methods=[genesis]", "pretrain.backbone=unet_8", "genesis.tissue=[0, 1]",
    "adapt.crops=2", "adapt.overlap=0", "study.budgets=[4]", "study.seeds=1",
]  # fmt: skip
WRITTEN = ("report.html", "model-card.md")


@pytest.fixture(scope="module")
def classified(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classified") / "out"
    call("run", cohort.parent, "--labels", cohort, "--out", out, *assigned(CLASSIFY))
    return out


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten grey images of 32 px with a bright square, each with its mask."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir()
    for case in range(10):
        top, left = rng.integers(4, 20, 2)
        labels = np.zeros((32, 32), np.uint8)
        labels[top : top + 8, left : left + 8] = 1
        image = np.where(labels, 200, 80) + rng.integers(-20, 20, labels.shape)
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"quint{case}.png")
        Image.fromarray(labels).save(root / "masks" / f"quint{case}.png")
    return root


@pytest.fixture(scope="module")
def outlined(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("outlined") / "out"
    call("run", photographs, "--out", out, *assigned(OUTLINE))
    return out


@pytest.mark.parametrize("kind", ["classified", "outlined"])
def test_the_same_bytes_as_the_run_itself_wrote(
    kind: str, medprior: Callable[..., int], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    out: Path = request.getfixturevalue(kind)
    before = {name: (out / name).read_bytes() for name in WRITTEN}
    for name in WRITTEN:
        (out / name).unlink()
    assert medprior("report", out) == 0
    assert {name: (out / name).read_bytes() for name in WRITTEN} == before
    said = capsys.readouterr().out
    assert str(out / "report.html") in said and "No scans are shown" not in said


def test_scans_that_moved_away_leave_out_what_is_read_from_them_alone(
    medprior: Callable[..., int], outlined: Path, photographs: Path, tmp_path: Path
) -> None:
    """The stored pixels are in the run; the true outlines are read from the files."""
    run = shutil.copytree(outlined, tmp_path / "run")
    away = photographs.rename(photographs.with_name("away"))
    try:
        assert medprior("report", run) == 0
    finally:
        away.rename(photographs)
    page, before = ((place / "report.html").read_text(encoding="utf-8") for place in (run, outlined))
    assert page.count("(not shown)") == before.count('<div class="plane">') > 0
    assert '<div class="plane">' not in page
    assert page.count("<img ") > 0  # examples lie in the run


@pytest.mark.parametrize(("kind", "store"), [("classified", "store"), ("outlined", "volumes")])
def test_pixels_that_are_gone_are_said_and_everything_else_stays(
    kind: str,
    store: str,
    medprior: Callable[..., int],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out: Path = request.getfixturevalue(kind)
    run = shutil.copytree(out, tmp_path / "run", ignore=shutil.ignore_patterns(store))
    assert medprior("report", run) == 0
    assert "Beware   No scans are shown: the stored pixels of this run are gone" in capsys.readouterr().out
    page, before = ((place / "report.html").read_text(encoding="utf-8") for place in (run, out))
    assert "No scans are shown" in page and "No scans are shown" not in before
    assert "data:image/" in before and "data:image/" not in page
    sections = {one.partition('"')[0] for one in before.split('<section id="')[1:]}
    kept = {one.partition('"')[0] for one in page.split('<section id="')[1:]}
    assert sections - kept == {"examples", "reconstructions", "views"} | ({"outlines", "saliency"} & sections)
    assert ("saliency" in sections) == (kind == "classified")
    assert (run / "model-card.md").read_bytes() == (out / "model-card.md").read_bytes()


def test_an_unfinished_run_says_what_is_missing_and_what_goes_on(
    medprior: Callable[..., int], classified: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(name: str, spoil: Callable[[Path], object]) -> str:
        run = shutil.copytree(classified, tmp_path / name)
        spoil(run)
        before = (run / "report.html").read_bytes()
        assert medprior("report", run) == 6
        assert (run / "report.html").read_bytes() == before
        return capsys.readouterr().err

    def stopped(run: Path) -> None:
        for file in [*sorted((run / "cells").glob("*.json"))[:3], next((run / "pretrain").rglob("finished.json"))]:
            file.unlink()

    def killed(run: Path) -> None:
        told = json.loads((run / TOLD).read_text())
        (run / TOLD).write_text(json.dumps({**told, "seconds": None}))

    said = refused("stopped", stopped)
    assert "still missing: 1 of 2 pre-trained encoders, 3 of 8 adapted models" in said
    assert "\n    medprior run SCANS --labels LABELS.csv --out OUT --set pretrain.steps=2" in said
    assert "still missing: the verdict [" in refused("killed", killed)
    assert "missing: the model to take home" in refused("empty", lambda run: (run / "best/head.npz").write_bytes(b""))
    assert "came to no plan" in refused("early", lambda run: (run / TOLD).unlink())
    assert "cannot be read" in refused("damaged", lambda run: (run / TOLD).write_text('{"schema": "medprior.report/1"'))
    assert "of another version" in refused("newer", lambda run: (run / TOLD).write_text('{"schema": "report/9"}'))
    assert "verdict of this run is damaged" in refused("cut", lambda run: (run / "verdict.json").write_text("{"))


def test_what_is_no_run_is_refused(
    medprior: Callable[..., int], cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (tmp_path, tmp_path / "nowhere", cohort):
        assert medprior("report", place) == 6
        assert "this is not the folder of a run" in capsys.readouterr().err
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/study.json").write_text('{"schema": 1, "settings": {}, "steps": {"simclr/test_resnet": 2}}')
    assert medprior("report", tmp_path / "alone") == 6
    assert "medprior finetune ENCODER SCANS" in capsys.readouterr().err
