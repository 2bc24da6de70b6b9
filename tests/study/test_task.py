"""What is learnt is guessed from what is there, said, and decided otherwise by --task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medprior.cli.app import app
from medprior.config import load_settings
from medprior.data.catalog import Catalog
from medprior.errors import LabelError
from medprior.study.planning.reading import for_task, read_catalog, task_lines, with_outlines

SCANS = 4


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Grey images, each with a mask beside it."""
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(SCANS):
        Image.fromarray(rng.integers(0, 255, (16, 12), np.uint8)).save(folder / f"a{i}.png")
        Image.fromarray((np.indices((16, 12)).sum(0) > i + 8).astype(np.uint8)).save(folder / f"a{i}_mask.png")
    return folder


def table(scans: Path, header: str, cells: str = "p{i}") -> Path:
    file = scans.parent / "table.csv"
    file.write_text("\n".join([f"path,{header}", *(f"a{i}.png,{cells.format(i=i, k=i % 2)}" for i in range(SCANS))]))
    return file


def read(scans: Path, labels: Path | None, *assignments: str) -> tuple[Catalog, list[str]]:
    settings, out = load_settings(assignments=["data.workers=1", *assignments]), scans.parent / "out"
    out.mkdir(exist_ok=True)
    catalog = for_task(read_catalog(scans, labels, settings, out), settings, out)
    return catalog, task_lines(catalog, settings)


def test_a_table_of_patients_beside_masks_means_outlines_and_it_is_said(scans: Path) -> None:
    catalog, (line,) = read(scans, table(scans, "patient"))
    assert catalog.labels is not None and catalog.labels.kind == "segmentation"
    assert catalog.patients_known and len(set(catalog.table["patient"])) == SCANS
    assert "outlines, because 4 scans have a mask and no label is known" in line and "--task classify" in line


def test_another_task_is_taken_at_its_word(scans: Path) -> None:
    with pytest.raises(LabelError, match="no column holds labels"):
        read(scans, table(scans, "patient"), "study.task=classify")
    catalog, (line,) = read(scans, table(scans, "patient,label", "p{i},c{k}"), "study.task=segment")
    assert catalog.labels is not None and catalog.labels.kind == "segmentation" and line.endswith("as was asked for")


def test_labels_go_before_masks_and_the_masks_are_mentioned(scans: Path) -> None:
    catalog, (line,) = read(scans, table(scans, "patient,label", "p{i},c{k}"))
    assert catalog.labels is not None and catalog.labels.kind == "binary"
    assert "labels are known; 4 scans have masks, too" in line and "--task segment" in line


def test_a_table_that_names_masks_means_outlines(scans: Path) -> None:
    for mask in scans.glob("*_mask.png"):
        mask.rename(scans / f"drawn-{mask.name[1]}.png")
    catalog, (line,) = read(scans, table(scans, "patient,mask", "p{i},drawn-{i}.png"))
    assert len(catalog) == SCANS and catalog.table["labelled"].all() and "outlines" in line


def test_a_table_without_labels_or_masks_is_refused_as_before(scans: Path) -> None:
    for mask in scans.glob("*_mask.png"):
        mask.unlink()
    with pytest.raises(LabelError, match="no column holds labels") as refused:
        read(scans, table(scans, "patient"))
    assert "--task segment" in str(refused.value.do)


def test_an_index_goes_on_where_guessed_masks_mark_nothing(scans: Path) -> None:
    for mask in scans.glob("*_mask.png"):
        Image.fromarray(np.zeros((16, 12), np.uint8)).save(mask)
    settings, out = load_settings(assignments=["data.workers=1"]), scans.parent / "out"
    catalog = with_outlines(read_catalog(scans, None, settings, out), settings, out)
    assert catalog.labels is None and "Outlines cannot be learnt: all 4 masks mark nothing." in catalog.warnings
    asked = load_settings(assignments=["data.workers=1", "study.task=segment"])
    with pytest.raises(LabelError, match="mark nothing"):
        with_outlines(read_catalog(scans, None, asked, out), asked, out)


@pytest.mark.parametrize(("options", "said"), [([], "segmentation: foreground 4"), (["--task", "classify"], "binary")])
def test_index_takes_the_task_too(scans: Path, options: list[str], said: str) -> None:
    labels = table(scans, "patient,label", "p{i},c{k}") if options else table(scans, "patient")
    asked = ["index", str(scans), "--labels", str(labels), "--out", str(scans.parent / "out"), *options]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert f"Labels   {said}" in done.output and "Task     " in done.output
